"""Sources as the framework's documents, with exact places in what was read."""

from collections.abc import Mapping, Sequence

from langchain_core.documents import Document

from acre_rag import Source


def source_documents(
    sources: Sequence[Source], metadata: Mapping[str, Mapping[str, object]]
) -> list[Document]:
    """Turn sources into documents, the best-scoring first.

    The metadata of each is that of the document it is from, with `document_id`, `start_index`,
    `end_index` (in characters of that document's text) and `score` of ours over it.

    Args:
        sources: Where the model looked.
        metadata: Of each document, by its id.
    """
    ranked = sorted(sources, key=lambda source: -source.score)
    return [_document(source, metadata.get(source.document, {})) for source in ranked]


def _document(source: Source, metadata: Mapping[str, object]) -> Document:
    place = {
        "document_id": source.document,
        "start_index": source.start,
        "end_index": source.end,
        "score": source.score,
    }
    return Document(
        # The same place is the same document, so that rankings of several retrievers can be fused.
        id=f"{source.document}:{source.start}-{source.end}",
        page_content=source.text,
        metadata={**metadata, **place},
    )
