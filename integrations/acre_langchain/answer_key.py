"""What an answer depends on beside the question, for the framework's caches of answers."""

import hashlib
import json

from acre_langchain.candidates import Scope, candidates_in_scope
from acre_rag import ACREEngine


def answer_key(engine: ACREEngine, scope: Scope | None) -> str:
    """Digest model, adapter, settings, and the documents asked as they are stored now.

    Args:
        engine: Answers.
        scope: Documents that a user has chosen; `None` where the model answers by itself.
    """
    weights = engine.reader.selection
    told = [
        engine.reader.identity.space,
        repr(engine.config),
        weights.tolist() if weights is not None else None,
        _stored(engine, scope) if scope is not None else None,
    ]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]


def _stored(engine: ACREEngine, scope: Scope) -> list[list[str]]:
    stored = {document.id: document for document in engine.documents()}
    asked = candidates_in_scope(engine, scope).documents
    chosen = [stored[name] for name in (stored if asked is None else asked) if name in stored]
    return [[one.id, one.version] for one in chosen]
