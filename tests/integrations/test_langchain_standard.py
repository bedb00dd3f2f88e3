"""LangChain's own suites of standard tests, none of them overridden.

They skip by themselves what a model has to offer first: tools and structured output (the engine's
model calls none), images, audio and PDF (it reads text), another model for one call (an engine has
one), settings from the environment (it needs no key), recorded web traffic (there is none), and
constructors written down as JSON (an engine cannot be).
"""

from collections.abc import Iterator
from typing import Any

import pytest
from langchain_tests.integration_tests import (
    ChatModelIntegrationTests,
    RetrieversIntegrationTests,
    ToolsIntegrationTests,
)
from langchain_tests.integration_tests.indexer import (
    AsyncDocumentIndexTestSuite,
    DocumentIndexerTestSuite,
)
from langchain_tests.unit_tests import ChatModelUnitTests, ToolsUnitTests

from acre_langchain import ACREDocumentIndex, ACRERetriever, ACRETool, ChatACRE
from acre_rag import ACREEngine, LocalModel
from tests.integrations.conftest import DRYER, FERRY
from tests.tiny import tiny_adapter, tiny_settings

QUESTION = "When does the ferry leave?"


@pytest.fixture(scope="module")
def read_once(talker: LocalModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ACREEngine]:
    """An engine that has read two documents, for suites that write nothing."""
    store = tmp_path_factory.mktemp("langchain")
    adapter = tiny_adapter(talker.model.config)
    with ACREEngine(talker, adapter, store, tiny_settings()) as engine:
        engine.ingest([FERRY, DRYER])
        yield engine


class _OverAnEngine:
    engine: ACREEngine

    @pytest.fixture(autouse=True)
    def _take_the_engine(self, read_once: ACREEngine) -> None:
        self.engine = read_once


class TestRetriever(_OverAnEngine, RetrieversIntegrationTests):
    @property
    def retriever_constructor(self) -> type[ACRERetriever]:
        return ACRERetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"engine": self.engine}

    @property
    def retriever_query_example(self) -> str:
        return QUESTION


class TestChatModelUnit(_OverAnEngine, ChatModelUnitTests):
    @property
    def chat_model_class(self) -> type[ChatACRE]:
        return ChatACRE

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"engine": self.engine}


class TestChatModel(_OverAnEngine, ChatModelIntegrationTests):
    @property
    def chat_model_class(self) -> type[ChatACRE]:
        return ChatACRE

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"engine": self.engine, "max_tokens": 12}

    @property
    def supports_model_override(self) -> bool:
        return False  # the engine has one model


class TestChatModelWithDocuments(TestChatModel):
    @property
    def chat_model_params(self) -> dict[str, Any]:
        return super().chat_model_params | {"documents": "all"}


class TestToolUnit(_OverAnEngine, ToolsUnitTests):
    @property
    def tool_constructor(self) -> type[ACRETool]:
        return ACRETool

    @property
    def tool_constructor_params(self) -> dict[str, Any]:
        return {"engine": self.engine}

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        return {"question": QUESTION}


class TestTool(_OverAnEngine, ToolsIntegrationTests):
    @property
    def tool_constructor(self) -> type[ACRETool]:
        return ACRETool

    @property
    def tool_constructor_params(self) -> dict[str, Any]:
        return {"engine": self.engine}

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        return {"question": QUESTION}


class TestDocumentIndexIsARetriever(TestRetriever):
    @property
    def retriever_constructor(self) -> type[ACRERetriever]:
        return ACREDocumentIndex


class TestDocumentIndex(DocumentIndexerTestSuite):
    @pytest.fixture
    def index(self, empty_engine: ACREEngine) -> ACREDocumentIndex:
        return ACREDocumentIndex(engine=empty_engine)


class TestDocumentIndexAsync(AsyncDocumentIndexTestSuite):
    @pytest.fixture
    async def index(self, empty_engine: ACREEngine) -> ACREDocumentIndex:
        return ACREDocumentIndex(engine=empty_engine)


def test_no_standard_test_is_overridden() -> None:
    own = [suite for name, suite in globals().items() if name.startswith("Test")]

    assert len(own) == 9
    assert not [name for suite in own for name in vars(suite) if name.startswith("test_")]
