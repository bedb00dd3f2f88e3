"""LangChain's own suites of standard tests, none of them overridden."""

from typing import Any

import pytest
from langchain_tests.integration_tests import RetrieversIntegrationTests

from acre_langchain import ACRERetriever
from acre_rag import ACREEngine

QUESTION = "When does the ferry leave?"


class TestRetriever(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def _over_an_engine(self, engine: ACREEngine) -> None:
        self.engine = engine

    @property
    def retriever_constructor(self) -> type[ACRERetriever]:
        return ACRERetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"engine": self.engine}

    @property
    def retriever_query_example(self) -> str:
        return QUESTION
