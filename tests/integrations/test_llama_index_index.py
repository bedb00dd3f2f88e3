"""The life cycle of an `ACREIndex`."""

import asyncio
import re
from pathlib import Path

import pytest
from llama_index.core import (
    Document,
    SimpleDirectoryReader,
    StorageContext,
    load_index_from_storage,
)
from llama_index.core.indices.base import BaseIndex
from llama_index.core.llms import MockLLM
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import BaseNode, TransformComponent
from llama_index.core.vector_stores import FilterOperator, MetadataFilter, MetadataFilters

from acre_llama_index import ACRELLM, ACREIndex, ACRERetriever
from acre_rag import ACREEngine, ACREError, LocalModel
from acre_rag import Document as ACREDocument
from tests.conftest import MakeEngine
from tests.integrations.conftest import FERRY, TALKER_SETTINGS
from tests.integrations.llama_index_parts import QUESTION, llama_documents


@pytest.fixture
def documents() -> list[Document]:
    return llama_documents()


@pytest.fixture
def index(empty_engine: ACREEngine, documents: list[Document]) -> ACREIndex:
    return ACREIndex.from_documents(documents, engine=empty_engine)


def asked(index: ACREIndex) -> set[str]:
    """Documents that a question to an index looks into."""
    nodes = index.as_retriever(refill_tokens=1000).retrieve(QUESTION)
    return {found.node.ref_doc_id for found in nodes}


def stored(index: ACREIndex) -> set[str]:
    return {document.id for document in index.engine.documents()}


def test_from_documents_reads_each_document_whole(index: ACREIndex) -> None:
    assert isinstance(index, BaseIndex)
    assert stored(index) == {"ferry", "dryer"}
    assert set(index.ref_doc_info) == {"ferry", "dryer"}
    assert index.ref_doc_info["ferry"].metadata == FERRY.metadata


def test_an_index_asks_its_own_documents_alone(index: ACREIndex) -> None:
    index.engine.ingest([ACREDocument(id="another", text="Nobody has put this in the index.")])

    assert asked(index) == {"ferry", "dryer"}
    response = index.as_query_engine(max_new_tokens=2, refill_tokens=1000).query(QUESTION)
    assert {found.node.ref_doc_id for found in response.source_nodes} == {"ferry", "dryer"}


def test_two_indexes_may_use_one_id_for_different_texts(empty_engine: ACREEngine) -> None:
    texts = {"old": "The ferry leaves at nine.", "new": "No ferry leaves on Sundays."}
    old, new = (
        ACREIndex.from_documents([Document(doc_id="plan", text=text)], engine=empty_engine)
        for text in texts.values()
    )
    same = ACREIndex.from_documents(
        [Document(doc_id="plan", text=texts["new"])], engine=empty_engine
    )

    for _ in range(2):
        assert (read_by(old), read_by(new), read_by(same)) == (
            texts["old"], texts["new"], texts["new"],
        )  # fmt: skip
    response = old.as_query_engine(max_new_tokens=2, similarity_top_k=1).query(QUESTION)
    assert response.metadata["usage"]["encoded_tokens"] == 0
    assert response.source_nodes[0].node.get_content() in texts["old"]
    assert response.source_nodes[0].node.ref_doc_id == "plan"
    assert "".join(s.text for s in empty_engine.retrieve(QUESTION).sources) == texts["new"]

    old.delete_ref_doc("plan")
    assert stored(old) == {"plan"}
    assert read_by(new) == texts["new"]
    new.delete_ref_doc("plan")
    assert stored(new) == set()
    assert read_by(same) == texts["new"]


def test_an_update_leaves_no_text_of_before_where_an_id_is_shared(
    empty_engine: ACREEngine,
) -> None:
    ours, theirs = (
        ACREIndex.from_documents([Document(doc_id="plan", text=text)], engine=empty_engine)
        for text in ("The ferry leaves at nine.", "No ferry leaves on Sundays.")
    )
    read_by(ours)

    ours.update_ref_doc(Document(doc_id="plan", text="The ferry leaves at ten."))

    assert read_by(ours) == "The ferry leaves at ten."
    assert read_by(theirs) == "No ferry leaves on Sundays."
    assert len(stored(ours)) == 2


def read_by(index: ACREIndex) -> str:
    """All that an index has, as its retriever gives it."""
    nodes = index.as_retriever(refill_tokens=1000).retrieve(QUESTION)
    return "".join(found.node.text for found in nodes)


def test_a_node_that_both_stores_have_lost_is_one_clear_error(index: ACREIndex) -> None:
    index.engine.delete("ferry")
    index.docstore.delete_document("ferry", raise_error=False)

    with pytest.raises(ACREError, match="insert its document again"):
        index.as_query_engine().query(QUESTION)


def test_progress_is_shown_in_documents_and_in_tokens(
    empty_engine: ACREEngine, documents: list[Document], capfd: pytest.CaptureFixture[str]
) -> None:
    index = ACREIndex.from_documents(documents, engine=empty_engine, show_progress=True)
    index.insert(Document(doc_id="boat", text="The mail boat leaves at ten."))

    shown = capfd.readouterr().err
    assert re.search(r"Reading documents: 100%.*2/2", shown)
    tokens = {one.id: one.tokens for one in empty_engine.documents()}
    for name, total in tokens.items():
        assert re.search(rf"{name}: 100%.*{total}/{total}", shown)
    assert re.search(rf"ferry: +[1-9]\d?%.*/{tokens['ferry']}", shown)


def test_without_progress_nothing_is_shown(
    empty_engine: ACREEngine, documents: list[Document], capfd: pytest.CaptureFixture[str]
) -> None:
    ACREIndex.from_documents(documents, engine=empty_engine)

    assert capfd.readouterr().err == ""


def test_a_document_that_is_inserted_is_asked(index: ACREIndex) -> None:
    index.insert(Document(doc_id="boat", text="The mail boat leaves at ten."))
    asyncio.run(index.ainsert(Document(doc_id="raft", text="The raft leaves at eleven.")))

    assert asked(index) == {"ferry", "dryer", "boat", "raft"}


@pytest.mark.parametrize("from_docstore", [False, True])
def test_a_document_that_is_deleted_leaves_no_cache(index: ACREIndex, from_docstore: bool) -> None:
    index.delete_ref_doc("ferry", delete_from_docstore=from_docstore)

    assert stored(index) == {"dryer"}
    assert asked(index) == {"dryer"}
    assert set(index.ref_doc_info) == {"dryer"}

    asyncio.run(index.adelete_ref_doc("dryer", delete_from_docstore=from_docstore))
    assert stored(index) == set()


def test_an_index_without_documents_gives_the_frameworks_empty_response(index: ACREIndex) -> None:
    for name in ("ferry", "dryer"):
        index.delete_ref_doc(name, delete_from_docstore=True)

    assert index.as_retriever().retrieve(QUESTION) == []
    assert str(index.as_query_engine().query(QUESTION)) == "Empty Response"
    streaming = index.as_query_engine(streaming=True)
    assert list(streaming.query(QUESTION).response_gen) == ["Empty Response"]
    assert str(asyncio.run(index.as_query_engine().aquery(QUESTION))) == "Empty Response"


def test_refresh_reads_what_changed_and_nothing_else(
    index: ACREIndex, documents: list[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: dict[str, int] = {}
    ingest = index.engine.ingest

    def count(given: object, *_: object) -> object:
        done = ingest(given)
        encoded.update({one.id: one.encoded_tokens for one in done})
        return done

    monkeypatch.setattr(index.engine, "ingest", count)
    changed = Document(doc_id="ferry", text="The ferry leaves at twelve.")
    new = Document(doc_id="boat", text="The boat leaves at one.")

    assert index.refresh_ref_docs([changed, documents[1], new]) == [True, False, True]
    assert encoded.keys() == {"ferry", "boat"}
    assert index.refresh_ref_docs([changed, documents[1], new]) == [False, False, False]
    assert asyncio.run(index.arefresh_ref_docs([documents[0], new])) == [True, False]
    assert set(index.ref_doc_info) == {"ferry", "dryer", "boat"}


def test_an_update_of_the_metadata_alone_reads_nothing_again(
    index: ACREIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest, done = index.engine.ingest, []
    monkeypatch.setattr(index.engine, "ingest", lambda given: done.extend(ingest(given)))

    index.update_ref_doc(Document(doc_id="ferry", text=FERRY.text, metadata={"kind": "log"}))

    assert [one.encoded_tokens for one in done] == [0]
    assert index.ref_doc_info["ferry"].metadata == {"kind": "log"}
    nodes = index.as_retriever(doc_ids=["ferry"]).retrieve(QUESTION)
    assert all(found.node.metadata == {"kind": "log"} for found in nodes)


def test_async_update_replaces_the_text(index: ACREIndex) -> None:
    asyncio.run(index.aupdate_ref_doc(Document(doc_id="ferry", text="At twelve it leaves.")))

    nodes = index.as_retriever(doc_ids=["ferry"], refill_tokens=1000).retrieve(QUESTION)
    assert "".join(found.node.text for found in nodes) == "At twelve it leaves."
    assert asked(index) == {"ferry", "dryer"}


def test_a_document_that_cannot_be_read_does_not_enter_the_index(index: ACREIndex) -> None:
    with pytest.raises(ACREError, match="NUL"):
        index.insert(Document(doc_id="binary", text="a\0b"))

    assert set(index.ref_doc_info) == {"ferry", "dryer"}
    assert index.docstore.get_document("binary", raise_error=False) is None


def test_documents_that_could_not_be_read_are_handed_over_again(
    empty_engine: ACREEngine, documents: list[Document]
) -> None:
    storage = StorageContext.from_defaults()
    broken = Document(doc_id="binary", text="a\0b")
    with pytest.raises(ACREError, match="NUL"):
        ACREIndex.from_documents([*documents, broken], engine=empty_engine, storage_context=storage)

    index = ACREIndex([], empty_engine, storage_context=storage)

    assert index.refresh_ref_docs(documents) == [True, True]
    assert asked(index) == {"ferry", "dryer"}


def test_transformations_are_given_no_engine(
    empty_engine: ACREEngine, documents: list[Document]
) -> None:
    given: list[dict[str, object]] = []

    class Spy(TransformComponent):
        def __call__(self, nodes: list[BaseNode], **settings: object) -> list[BaseNode]:
            given.append(settings)
            return nodes

    ACREIndex.from_documents(documents, engine=empty_engine, transformations=[Spy()])

    assert "engine" not in given[0]


def test_an_id_that_comes_twice_is_one_clear_error(empty_engine: ACREEngine) -> None:
    twice = [Document(doc_id="same", text="One."), Document(doc_id="same", text="Two.")]

    with pytest.raises(ACREError, match="'same' comes twice"):
        ACREIndex.from_documents(twice, engine=empty_engine)


def test_blank_documents_are_left_out(empty_engine: ACREEngine) -> None:
    blank = Document(doc_id="blank", text=" \n")
    full = Document(doc_id="full", text="The boat leaves at one.")

    index = ACREIndex.from_documents([blank, full], engine=empty_engine)

    assert stored(index) == {"full"}
    assert asked(index) == {"full"}


def test_a_document_that_turns_blank_leaves_no_cache(index: ACREIndex) -> None:
    index.update_ref_doc(Document(doc_id="ferry", text=""))

    assert stored(index) == {"dryer"}
    assert asked(index) == {"dryer"}


def test_an_index_is_loaded_from_storage(index: ACREIndex, tmp_path: Path) -> None:
    before = str(index.as_query_engine(max_new_tokens=5).query(QUESTION))
    index.storage_context.persist(str(tmp_path / "index"))

    storage = StorageContext.from_defaults(persist_dir=str(tmp_path / "index"))
    loaded = load_index_from_storage(storage, engine=index.engine)

    assert isinstance(loaded, ACREIndex)
    response = loaded.as_query_engine(max_new_tokens=5).query(QUESTION)
    assert str(response) == before
    assert response.metadata["usage"]["encoded_tokens"] == 0
    assert loaded.refresh_ref_docs([Document(doc_id="boat", text="It leaves at one.")]) == [True]
    assert asked(loaded) == {"ferry", "dryer", "boat"}


def test_a_document_that_the_store_has_lost_is_read_again(index: ACREIndex) -> None:
    index.engine.delete("ferry")

    response = index.as_query_engine(max_new_tokens=2, doc_ids=["ferry"]).query(QUESTION)

    assert response.metadata["usage"]["encoded_tokens"] > 0
    assert {found.node.ref_doc_id for found in response.source_nodes} == {"ferry"}
    assert response.source_nodes[0].node.metadata == FERRY.metadata


def test_split_documents_give_places_in_the_whole(empty_engine: ACREEngine) -> None:
    splitter = SentenceSplitter(chunk_size=40, chunk_overlap=0)
    whole = Document(doc_id="ferry", text=FERRY.text)
    index = ACREIndex.from_documents([whole], engine=empty_engine, transformations=[splitter])

    nodes = index.as_retriever(refill_tokens=60).retrieve(QUESTION)

    assert len(index.ref_doc_info["ferry"].node_ids) > 2
    assert max(found.node.start_char_idx for found in nodes) > 200
    for found in nodes:
        assert found.node.ref_doc_id == "ferry"
        assert FERRY.text[found.node.start_char_idx : found.node.end_char_idx] == found.node.text


def test_the_best_places_of_split_documents_choose_parts_that_are_stored(
    empty_engine: ACREEngine,
) -> None:
    splitter = SentenceSplitter(chunk_size=40, chunk_overlap=0)
    whole = Document(doc_id="ferry", text=FERRY.text)
    index = ACREIndex.from_documents([whole], engine=empty_engine, transformations=[splitter])
    before = stored(index)

    response = index.as_query_engine(similarity_top_k=1, max_new_tokens=2).query(QUESTION)

    assert response.metadata["usage"]["encoded_tokens"] == 0
    assert stored(index) == before


def test_an_update_of_a_split_document_drops_its_old_parts(empty_engine: ACREEngine) -> None:
    splitter = SentenceSplitter(chunk_size=40, chunk_overlap=0)
    whole = Document(doc_id="ferry", text=FERRY.text)
    index = ACREIndex.from_documents([whole], engine=empty_engine, transformations=[splitter])

    index.update_ref_doc(Document(doc_id="ferry", text="It leaves at one."))

    assert len(stored(index)) == 1
    assert stored(index) == set(index.ref_doc_info["ferry"].node_ids)


def test_filters_choose_documents_by_metadata(index: ACREIndex) -> None:
    late = MetadataFilters(
        filters=[MetadataFilter(key="year", value=2020, operator=FilterOperator.GT)]
    )
    nothing = MetadataFilters(filters=[MetadataFilter(key="kind", value="novel")])

    nodes = index.as_retriever(filters=late).retrieve(QUESTION)

    assert {found.node.ref_doc_id for found in nodes} == {"dryer"}
    assert index.as_retriever(filters=nothing).retrieve(QUESTION) == []
    assert str(index.as_query_engine(filters=nothing).query(QUESTION)) == "Empty Response"


@pytest.mark.parametrize(
    ("key", "value", "operator"),
    [
        ("titel", "Fähre 🚢", FilterOperator.EQ),
        ("titel", ["渡し船", "Fähre 🚢"], FilterOperator.IN),
        ("titel", "ähre 🚢", FilterOperator.TEXT_MATCH),
        ("主题 🏷", "Паром 👩‍👩‍👧", FilterOperator.EQ),
        ("مفاتيح", "🇳🇴", FilterOperator.CONTAINS),
    ],
)
def test_filters_know_metadata_in_every_script(
    empty_engine: ACREEngine, key: str, value: object, operator: FilterOperator
) -> None:
    ferry, dryer = llama_documents()
    ferry.metadata |= {"主题 🏷": "Паром 👩‍👩‍👧", "مفاتيح": ["渡し船", "🇳🇴"]}
    dryer.metadata |= {"titel": "Fahre 🚢", "主题 🏷": "Паром 👩‍👩‍👦", "مفاتيح": ["🇳🇱"]}
    index = ACREIndex.from_documents([ferry, dryer], engine=empty_engine)
    filters = MetadataFilters(filters=[MetadataFilter(key=key, value=value, operator=operator)])

    for retriever in (
        index.as_retriever(filters=filters, refill_tokens=1000),
        ACRERetriever(empty_engine, filters=filters, refill_tokens=1000),
    ):
        found = retriever.retrieve(QUESTION)
        assert {one.node.ref_doc_id for one in found} == {"ferry"}
        for one in found:
            assert one.node.metadata == ferry.metadata
            place = slice(one.node.start_char_idx, one.node.end_char_idx)
            assert FERRY.text[place] == one.node.text


def test_files_come_in_through_the_frameworks_reader(
    empty_engine: ACREEngine, tmp_path: Path
) -> None:
    (tmp_path / "fähre 🚢.txt").write_text(FERRY.text, encoding="utf-8")
    read = SimpleDirectoryReader(str(tmp_path), filename_as_id=True).load_data()

    index = ACREIndex.from_documents(read, engine=empty_engine)

    (found, *_) = index.as_retriever().retrieve(QUESTION)
    assert found.node.metadata["file_name"] == "fähre 🚢.txt"
    assert FERRY.text[found.node.start_char_idx : found.node.end_char_idx] == found.node.text


def test_another_llm_cannot_answer_from_our_caches(index: ACREIndex) -> None:
    with pytest.raises(ACREError, match="MockLLM; expected"):
        index.as_query_engine(llm=MockLLM())


def test_the_llm_of_another_engine_cannot_answer_from_our_caches(
    index: ACREIndex, make_engine: MakeEngine, talker: LocalModel
) -> None:
    other = ACRELLM(make_engine(model=talker, config=TALKER_SETTINGS))

    with pytest.raises(ACREError, match=r"ACRELLM of another engine; expected .* leave llm out"):
        index.as_query_engine(llm=other)
    own = index.as_query_engine(llm=ACRELLM(index.engine), max_new_tokens=2)
    assert str(own.query(QUESTION))
