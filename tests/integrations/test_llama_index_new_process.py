"""An index that one process has persisted, in another that knows of no account and no key."""

import json
import os
import subprocess
import sys
from pathlib import Path

from llama_index.core import StorageContext

from acre_llama_index import ACREIndex
from acre_rag import ACREEngine
from tests.integrations.llama_index_parts import QUESTION, llama_documents

LATER = """
import json, sys
from llama_index.core import Settings, StorageContext, load_index_from_storage
from acre_llama_index import ACREIndex, ACRESynthesizer
from acre_rag import ACREEngine
from tests.integrations.conftest import TALKER_SETTINGS, make_talker
from tests.integrations.llama_index_parts import QUESTION, memory
from tests.tiny import tiny_adapter

store, folder = sys.argv[1:]
model = make_talker()
adapter = tiny_adapter(model.model.config)
engine = ACREEngine(model, adapter=adapter, store=store, config=TALKER_SETTINGS)
index = load_index_from_storage(StorageContext.from_defaults(persist_dir=folder), engine=engine)
response = index.as_query_engine(max_new_tokens=5).query(QUESTION)
index.as_retriever().retrieve(QUESTION)
index.as_chat_engine(memory=memory(), max_new_tokens=2).chat(QUESTION)
ACRESynthesizer(engine, max_new_tokens=2).get_response(QUESTION, ["It leaves at nine."])
asked = [Settings._llm, Settings._embed_model, "openai" in sys.modules]
print(json.dumps([type(index) is ACREIndex, str(response), response.metadata["usage"], asked]))
"""


def test_an_index_is_loaded_in_a_new_process_and_reads_nothing_again(
    empty_engine: ACREEngine, tmp_path: Path
) -> None:
    folder = str(tmp_path / "index")
    storage = StorageContext.from_defaults()
    index = ACREIndex.from_documents(
        llama_documents(), engine=empty_engine, storage_context=storage
    )
    before = index.as_query_engine(max_new_tokens=5).query(QUESTION)
    storage.persist(folder)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OPENAI")}
    environment["PYTHONPATH"] = os.pathsep.join([".", "integrations", *sys.path])

    done = subprocess.run(
        [sys.executable, "-c", LATER, str(tmp_path / "caches"), folder],
        capture_output=True, text=True, check=False, timeout=240, env=environment,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    is_ours, answer, usage, asked = json.loads(done.stdout.splitlines()[-1])
    assert is_ours
    assert answer == str(before)
    assert usage["encoded_tokens"] == 0
    assert asked == [None, None, False]
