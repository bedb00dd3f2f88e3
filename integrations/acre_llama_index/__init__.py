"""LlamaIndex over refilled caches: index, query engine, retriever, synthesizer, local LLM."""

from acre_llama_index.index import ACREIndex
from acre_llama_index.ingestion import ACREIngestionPipeline, ACRETransform
from acre_llama_index.llm import ACRELLM
from acre_llama_index.query_engine import ACREQueryEngine
from acre_llama_index.responses import ACREResponse
from acre_llama_index.retriever import ACRERetriever
from acre_llama_index.synthesizer import ACRESynthesizer
from acre_llama_index.vector_store import ACREVectorStore

__all__ = [
    "ACRELLM",
    "ACREIndex",
    "ACREIngestionPipeline",
    "ACREQueryEngine",
    "ACREResponse",
    "ACRERetriever",
    "ACRESynthesizer",
    "ACRETransform",
    "ACREVectorStore",
]
