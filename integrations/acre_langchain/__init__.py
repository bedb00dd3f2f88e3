"""LangChain and LangGraph over refilled caches: retriever, answer chain, chat model, tool."""

from acre_langchain.chain import ACREAnswerChain
from acre_langchain.chat import ChatACRE
from acre_langchain.retriever import ACRERetriever
from acre_langchain.tool import ACRETool

__all__ = ["ACREAnswerChain", "ACRERetriever", "ACRETool", "ChatACRE"]
