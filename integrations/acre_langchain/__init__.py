"""LangChain and LangGraph over refilled caches: retriever, index, chain, chat model, tool."""

from acre_langchain.byte_store import ACREByteStore
from acre_langchain.chain import ACREAnswerChain
from acre_langchain.chat import ChatACRE
from acre_langchain.index import ACREDocumentIndex
from acre_langchain.output import ACREOutput
from acre_langchain.retriever import ACRERetriever
from acre_langchain.tool import ACRETool

__all__ = [
    "ACREAnswerChain",
    "ACREByteStore",
    "ACREDocumentIndex",
    "ACREOutput",
    "ACRERetriever",
    "ACRETool",
    "ChatACRE",
]
