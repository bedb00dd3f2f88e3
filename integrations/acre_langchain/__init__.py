"""LangChain and LangGraph over refilled caches: retriever, answer chain, chat model, tool."""

from acre_langchain.chain import ACREAnswerChain
from acre_langchain.chat import ChatACRE
from acre_langchain.retriever import ACRERetriever

__all__ = ["ACREAnswerChain", "ACRERetriever", "ChatACRE"]
