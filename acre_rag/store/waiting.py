"""What a writer is told that another one keeps out."""

from acre_rag.errors import StoreError


def still_written(document_id: str, seconds: float) -> StoreError:
    """Say that somebody else writes a document, and did not end in time."""
    waited = f" and has been for {seconds:g} s" if seconds else ""
    return StoreError(
        f"document {document_id!r} is being written by somebody else{waited}; expected to be the "
        "only writer: wait for them, or stop them"
    )
