"""How to answer a question: always the same way, or the way that is cheapest on this machine."""

from acre_rag.config import Plan
from acre_rag.cost import Workload, cheapest, plan_costs
from acre_rag.engine.measured import MeasuredSpeeds
from acre_rag.engine.recall import Recall
from acre_rag.engine.workload import Found, workload_of
from acre_rag.errors import BudgetError
from acre_rag.explanation import Explanation, PlanCost
from acre_rag.model.reader import DocumentReader
from acre_rag.request import Request
from acre_rag.store.archive import CacheArchive


class Planner:
    """Predicts what the plans cost, and takes one by the engine's policy.

    Args:
        reader: Model, adapter and settings.
        recall: Knows which landmarks are in memory.
        archive: Where caches are.
    """

    def __init__(self, reader: DocumentReader, recall: Recall, archive: CacheArchive) -> None:
        self._reader = reader
        self._recall = recall
        self._archive = archive
        self._measured = MeasuredSpeeds(reader, archive)

    def plan(self, found: Found, request: Request) -> Plan:
        """Take a plan by the engine's policy.

        Raises:
            BudgetError: The policy is `prefill`, and the whole text does not fit the context; or
                the refill asked for does not.
        """
        policy = self._reader.config.policy
        if policy == "auto":
            work = workload_of(found, request, self._reader, self._recall)
            return cheapest(self._costs(found, work))
        tokens = sum(manifest.tokens for manifest in found.manifests)
        if policy == "prefill" and tokens > found.free_tokens:
            raise BudgetError(
                f"the policy is 'prefill', and the documents have {tokens} tokens; expected at "
                f"most {found.free_tokens}, what the context has beside prefix, question and "
                "answer: ask fewer documents, or set policy to 'refill' or 'auto'",
                needed=tokens,
                available=found.free_tokens,
            )
        return policy

    def explain(self, found: Found, request: Request, *, measure: bool = False) -> Explanation:
        """Predict what every plan would cost."""
        if measure:
            self._measured.forget()
        work = workload_of(found, request, self._reader, self._recall)
        costs = self._costs(found, work)
        return Explanation(
            documents=tuple(manifest.document_id for manifest in found.manifests),
            document_tokens=work.document_tokens,
            question_tokens=work.question_tokens,
            refill_tokens=work.refill_tokens,
            model=self._reader.local.name,
            machine=self._measured.machine,
            store=self._archive.store.url,
            plans=costs,
            cheapest=cheapest(costs),
        )

    def _costs(self, found: Found, work: Workload) -> tuple[PlanCost, ...]:
        store = self._measured.store(found.manifests, work.l1_bytes + work.l2_bytes)
        return plan_costs(work, self._measured.model(), store)
