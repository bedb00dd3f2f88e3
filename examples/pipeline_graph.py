# ---
# jupyter:
#   jupytext:
#     formats: py:percent,ipynb
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A pipeline graph over several documents
#
# A LlamaIndex workflow that routes a question, finds the document it is about, answers from that
# document's refilled cache, checks the answer, and falls back to all documents where it must.
#
# ```
# question ──▶ route ──▶ talk ─────────────────────────────────▶ answer
#                └─────▶ retrieve ──▶ generate ──▶ check ──────▶ answer
#                                                    └─▶ fall_back ──▶ answer
# ```

# %%
import re
from collections import Counter
from pathlib import Path

from llama_index.core import SimpleDirectoryReader
from llama_index.core.base.response.schema import Response
from llama_index.core.schema import NodeWithScore
from llama_index.core.workflow import Event, StartEvent, StopEvent, Workflow, step

from acre_llama_index import ACRELLM, ACREIndex
from acre_rag import ACREEngine

# %% [markdown]
# ## An index whose documents are caches
#
# The framework's own reader, our index. Each document is read whole, once.

# %%
names = ("freeze-dryer-manual.md", "cold-store-incident.md")
reader = SimpleDirectoryReader(input_files=[Path("documents") / name for name in names])
documents = [
    document.model_copy(update={"id_": document.metadata["file_name"]})
    for document in reader.load_data()
]
engine = ACREEngine()
index = ACREIndex.from_documents(documents, engine=engine)
list(index.ref_doc_info)

# %% [markdown]
# ## The steps
#
# Each step is an ordinary one of the framework; the index gives the parts. `retrieve` decodes
# nothing. `generate` asks one document, from its cache: no text enters a prompt.


# %%
class Look(Event):
    """A question for the documents."""

    question: str


class Talk(Event):
    """Something that is no question."""

    text: str


class Found(Event):
    """Places that a question would look at."""

    question: str
    places: list[NodeWithScore]


class Answered(Event):
    """An answer that is still to be checked."""

    question: str
    response: Response


class NotGrounded(Event):
    """An answer that says what its sources do not."""

    question: str


def is_grounded(response: Response) -> bool:
    """Tell whether each word and number of an answer is in what was refilled."""
    text = " ".join(found.node.get_content() for found in response.source_nodes)
    known = set(re.findall(r"\w+", text.lower()))
    words = re.findall(r"\w+", str(response).lower())
    return bool(words) and known.issuperset(words)


class Pipeline(Workflow):
    """Route, retrieve, generate, check, fall back."""

    @step
    async def route(self, event: StartEvent) -> Look | Talk:
        """Send questions to the documents, and all else to the model alone."""
        if event.question.rstrip().endswith("?"):
            return Look(question=event.question)
        return Talk(text=event.question)

    @step
    async def talk(self, event: Talk) -> StopEvent:
        """Answer without any document."""
        completion = await ACRELLM(engine, max_new_tokens=24).acomplete(event.text)
        return StopEvent(result=Response(completion.text))

    @step
    async def retrieve(self, event: Look) -> Found:
        """Find the places of all documents that the question would look at."""
        places = await index.as_retriever().aretrieve(event.question)
        return Found(question=event.question, places=places)

    @step
    async def generate(self, event: Found) -> Answered:
        """Answer from the cache of the document that draws most attention."""
        attention = Counter[str]()
        for place in event.places:
            attention[place.node.ref_doc_id] += place.score
        ((name, _),) = attention.most_common(1)
        query_engine = index.as_query_engine(doc_ids=[name], max_new_tokens=24)
        response = await query_engine.aquery(event.question)
        return Answered(question=event.question, response=response)

    @step
    async def check(self, event: Answered) -> StopEvent | NotGrounded:
        """Let an answer pass whose words were all refilled."""
        if is_grounded(event.response):
            return StopEvent(result=event.response)
        return NotGrounded(question=event.question)

    @step
    async def fall_back(self, event: NotGrounded) -> StopEvent:
        """Ask all documents; what is still not grounded is not said."""
        response = await index.as_query_engine(max_new_tokens=24).aquery(event.question)
        if not is_grounded(response):
            response = Response("The documents do not say.", response.source_nodes)
        return StopEvent(result=response)


pipeline = Pipeline(timeout=300)

# %% [markdown]
# ## A question for one of the documents
#
# The response shows its refill map, with the one document that was asked.

# %%
found = await pipeline.run(question="How much does the machine weigh without its pump?")
found

# %% [markdown]
# The same pipeline, another document:

# %%
await pipeline.run(question="Where had the telephone company's letter been sent?")

# %% [markdown]
# What it cost, as LlamaIndex's metadata; the instruments see it as events too.

# %%
found.metadata

# %% [markdown]
# ## The fallback branch
#
# Neither document knows. The first answer is made up, the check stops it, and what all documents
# together give is not said either, unless its words are theirs.

# %%
unknown = await pipeline.run(question="Which university does Lotte Brink study at?")
str(unknown)

# %% [markdown]
# ## No question at all
#
# It goes to the model alone, and touches no cache.

# %%
str(await pipeline.run(question="Say hello to the crew of the ferry."))
