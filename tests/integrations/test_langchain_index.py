"""`ACREDocumentIndex`: what is put in, taken out, kept and found."""

import asyncio
from collections.abc import Sequence

import pytest
from langchain_core.documents import Document
from langchain_core.indexing import InMemoryRecordManager, aindex, index

from acre_langchain import ACREAnswerChain, ACREDocumentIndex
from acre_rag import ACREEngine, ACREError
from tests.integrations.conftest import DRYER, FERRY

QUESTION = "When does the ferry leave?"
PAGES = [
    Document(page_content=FERRY.text, metadata={"source": "ferry.md", "pages": [1, 2]}),
    Document(page_content=DRYER.text, metadata={"source": "dryer.md"}),
]


@pytest.fixture
def documents(empty_engine: ACREEngine) -> ACREDocumentIndex:
    return ACREDocumentIndex(engine=empty_engine)


@pytest.fixture
def records() -> InMemoryRecordManager:
    manager = InMemoryRecordManager(namespace="ferry")
    manager.create_schema()
    return manager


def fill(
    pages: Sequence[Document],
    records: InMemoryRecordManager,
    documents: ACREDocumentIndex,
    *,
    awaited: bool,
) -> tuple[int, ...]:
    """Index pages as users do; numbers added, skipped, deleted."""
    settings = {"cleanup": "full", "source_id_key": "source", "key_encoder": "sha256"}
    if awaited:
        done = asyncio.run(aindex(pages, records, documents, **settings))
    else:
        done = index(pages, records, documents, **settings)
    return done["num_added"], done["num_skipped"], done["num_deleted"]


def stored(engine: ACREEngine) -> set[object]:
    return {one.metadata["source"] for one in engine.documents()}


@pytest.mark.parametrize("awaited", [False, True])
def test_the_framework_fills_it_and_reads_only_what_is_new(
    empty_engine: ACREEngine,
    documents: ACREDocumentIndex,
    records: InMemoryRecordManager,
    awaited: bool,
) -> None:
    changed = [PAGES[0], Document(page_content="It is new.", metadata={"source": "dryer.md"})]

    assert fill(PAGES, records, documents, awaited=awaited) == (2, 0, 0)
    assert stored(empty_engine) == {"ferry.md", "dryer.md"}
    assert fill(PAGES, records, documents, awaited=awaited) == (0, 2, 0)
    assert fill(changed, records, documents, awaited=awaited) == (1, 1, 1)
    assert len(list(empty_engine.documents())) == 2
    assert fill(PAGES[:1], records, documents, awaited=awaited) == (0, 1, 1)
    assert stored(empty_engine) == {"ferry.md"}


def test_it_finds_places_in_what_it_was_given(documents: ACREDocumentIndex) -> None:
    documents.upsert(PAGES)

    found = documents.invoke(QUESTION, k=3)

    texts = {page.metadata["source"]: page.page_content for page in PAGES}
    assert len(found) == 3
    for one in found:
        text = texts[one.metadata["source"]]
        assert text[one.metadata["start_index"] : one.metadata["end_index"]] == one.page_content


def test_documents_come_back_whole_in_the_order_asked(documents: ACREDocumentIndex) -> None:
    given = [page.model_copy(update={"id": str(number)}) for number, page in enumerate(PAGES)]
    documents.upsert(given)

    assert documents.get(["1", "gone", "0"]) == [given[1], given[0]]
    assert asyncio.run(documents.aget(["1", "gone", "0"])) == [given[1], given[0]]


def test_the_last_of_two_documents_with_one_id_counts(documents: ACREDocumentIndex) -> None:
    twice = [Document(id="a", page_content=text) for text in ("The first.", "The second.")]

    assert documents.upsert(twice) == {"succeeded": ["a"], "failed": []}
    assert [one.page_content for one in documents.get(["a"])] == ["The second."]


def test_unchanged_text_is_not_read_again(
    empty_engine: ACREEngine, documents: ACREDocumentIndex
) -> None:
    documents.upsert([Document(id="a", page_content=DRYER.text, metadata={"kind": "draft"})])
    (before,) = empty_engine.documents()

    documents.upsert([Document(id="a", page_content=DRYER.text, metadata={"kind": "final"})])

    (after,) = empty_engine.documents()
    assert (after.version, after.created) == (before.version, before.created)
    assert after.metadata == {"kind": "final"}


def test_a_chain_answers_from_what_it_holds(
    empty_engine: ACREEngine, documents: ACREDocumentIndex
) -> None:
    documents.upsert(PAGES)

    out = ACREAnswerChain(engine=empty_engine, retriever=documents, max_new_tokens=3).invoke("?")

    assert out["usage"]["encoded_tokens"] == 0
    assert {one.metadata["source"] for one in out["context"]} <= {"ferry.md", "dryer.md"}


def test_what_cannot_be_kept_is_refused_in_our_words(documents: ACREDocumentIndex) -> None:
    with pytest.raises(ACREError, match="is empty or blank; expected text"):
        documents.upsert([Document("  ")])
    with pytest.raises(ACREError, match=r"the metadata of document .* of type set; expected"):
        documents.upsert([Document("Nine.", metadata={"tags": {1}})])
    with pytest.raises(ACREError, match="found vector_field given with a call"):
        documents.upsert(PAGES, vector_field="embedding")
    with pytest.raises(ACREError, match="found namespace given with a call"):
        asyncio.run(documents.adelete(["a"], namespace="ferry"))
    with pytest.raises(ACREError, match="found namespace given with a call"):
        documents.get(["a"], namespace="ferry")
    with pytest.raises(ValueError, match="ids is None; expected a list"):
        asyncio.run(documents.adelete())
