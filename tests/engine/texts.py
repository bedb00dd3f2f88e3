"""Documents of the engine's tests, and what a store holds of them."""

from pathlib import Path

from acre_rag.engine import ACREEngine
from acre_rag.store.address import document_digest
from acre_rag.text.document import Document

# Some sixty tokens each: several windows, more than one segment.
CAT = Document(id="cat", text="the cat sat on the mat and then the rain came and the cat went in")
HEN = Document(id="hen", text="a red hen lays ten eggs in the old barn and sings the whole morning")
FOX = Document(id="fox", text="one fox saw the hen; it was thin and went on, then it slept all day")
ALL = (CAT, HEN, FOX)
QUESTION = "where did the cat go?"


def documents_of(path: Path) -> dict[str, bytes]:
    """Every stored file by its path, locks left out."""
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file() and "locks" not in file.parts
    }


def folder_of(engine: ACREEngine, path: Path, document_id: str) -> Path:
    """Folder that holds one document's manifest and values."""
    return path / engine.reader.identity.space / document_digest(document_id)


def value_of(engine: ACREEngine, path: Path, document_id: str, name: str) -> Path:
    """File of one stored value."""
    (found,) = folder_of(engine, path, document_id).glob(f"*/{name}")
    return found
