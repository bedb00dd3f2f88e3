"""What a document promises, and what it refuses."""

import math
from collections.abc import Mapping
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acre_rag.errors import DocumentError
from acre_rag.text.document import Document, JSONValue, is_passage

_STRINGS = st.text(st.characters(exclude_categories=["Cs"]))
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _STRINGS,
    lambda values: st.lists(values, max_size=3) | st.dictionaries(_STRINGS, values, max_size=3),
    max_leaves=12,
)


def test_a_document_keeps_its_text_character_for_character() -> None:
    text = "\ufeff Zwölf\r\nStück\t\u200d👩‍🔧 \n"

    document = Document(id="parts", text=text)

    assert document.text == text
    assert document.metadata == {}


def test_a_document_cannot_be_changed() -> None:
    document = Document(id="parts", text="text")

    with pytest.raises(FrozenInstanceError):
        document.text = "other"  # type: ignore[misc]  # the point of the test


@given(metadata=st.dictionaries(_STRINGS, _JSON, max_size=3))
def test_json_metadata_is_kept_as_it_is(metadata: dict[str, JSONValue]) -> None:
    assert Document(id="parts", text="text", metadata=metadata).metadata == metadata


def test_changing_the_given_metadata_does_not_change_the_document() -> None:
    tags = ["first"]
    metadata: dict[str, JSONValue] = {"tags": tags}
    document = Document(id="parts", text="text", metadata=metadata)

    tags.append("second")
    metadata["more"] = 1

    assert document.metadata == {"tags": ["first"]}


def test_a_tuple_in_metadata_becomes_a_list_as_in_json() -> None:
    assert Document(id="a", text="b", metadata={"pages": (1, 2)}).metadata == {"pages": [1, 2]}


@pytest.mark.parametrize("name", ["", " ", "\n\t"])
def test_a_document_without_a_name_is_refused(name: str) -> None:
    with pytest.raises(DocumentError, match="expected a name: give one"):
        Document(id=name, text="text")


@pytest.mark.parametrize("text", ["", " ", "\r\n\t \u3000"])
def test_an_empty_or_blank_document_is_refused(text: str) -> None:
    with pytest.raises(DocumentError, match="'parts' is empty or blank; expected text"):
        Document(id="parts", text=text)


def test_a_nul_is_refused_with_its_place() -> None:
    with pytest.raises(DocumentError, match="'parts' has a NUL at character 5; expected text"):
        Document(id="parts", text="valve\0")


def test_half_a_surrogate_pair_is_refused_wherever_it_stands() -> None:
    with pytest.raises(DocumentError, match="the document id has half a surrogate pair"):
        Document(id="a\udcff", text="text")
    with pytest.raises(DocumentError, match=r"the text of document 'a' .* at character 3"):
        Document(id="a", text="abc\ud83d")
    with pytest.raises(DocumentError, match="a key of the metadata of document 'a'"):
        Document(id="a", text="text", metadata={"\ud83d": 1})
    with pytest.raises(DocumentError, match=r"the metadata of document 'a'\['b'\]\[1\]"):
        Document(id="a", text="text", metadata={"b": ["c", "\ud83d"]})


@pytest.mark.parametrize("value", [math.nan, math.inf, 2**63, b"bytes", {1, 2}, object()])
def test_metadata_that_json_could_not_hold_is_refused_by_name(value: JSONValue) -> None:
    with pytest.raises(DocumentError, match=r"'parts'\['key'\]\[0\] is .*; expected None, a bool"):
        Document(id="parts", text="text", metadata={"key": [value]})


def test_a_metadata_key_other_than_a_string_is_refused() -> None:
    metadata: Mapping[str, JSONValue] = {1: "page"}  # type: ignore[dict-item]  # as a caller errs

    with pytest.raises(
        DocumentError, match=r"a key of the metadata .* is of type int; expected a string"
    ):
        Document(id="parts", text="text", metadata=metadata)


def test_metadata_that_contains_itself_is_refused() -> None:
    loop: list[JSONValue] = []
    loop.append(loop)

    with pytest.raises(DocumentError, match="nested 32 deep; expected less: flatten it"):
        Document(id="parts", text="text", metadata={"loop": loop})


@pytest.mark.parametrize(("field", "value"), [("id", 7), ("text", b"bytes"), ("metadata", [1])])
def test_a_field_of_another_type_is_refused(field: str, value: object) -> None:
    fields = {"id": "parts", "text": "text", "metadata": {}} | {field: value}

    with pytest.raises(
        DocumentError, match=r"is of type (int|bytes|list); expected a (string|dict)"
    ):
        Document(**fields)  # type: ignore[arg-type]  # as a caller errs


def test_a_passage_is_named_by_its_content_alone() -> None:
    passage = Document.passage("Zwölf 🚢")

    assert passage.text == "Zwölf 🚢"
    assert passage.id == Document.passage("Zwölf 🚢").id != Document.passage("Zwölf").id
    assert is_passage(passage.id)
    assert not is_passage("content:notes.md")


def test_metadata_and_ids_that_are_too_large_are_refused() -> None:
    with pytest.raises(DocumentError, match="has 4,097 entries; expected at most 4,096"):
        Document(id="parts", text="text", metadata={"key": [0] * 4097})
    with pytest.raises(DocumentError, match="takes 1,048,584 bytes; expected at most 1,048,576"):
        Document(id="parts", text="text", metadata={"a": "x" * 2**20})
    with pytest.raises(DocumentError, match="has 16,385 characters; expected 16,384 bytes"):
        Document(id="i" * 16385, text="text")
