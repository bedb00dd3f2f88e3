"""Read a document once, ask it many times: refilled bi-layer caches for local language models."""

__version__ = "0.1.0"
