# ---
# jupyter:
#   jupytext:
#     formats: py:percent,ipynb
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A first look
#
# A document goes through a local model **once**. Its keys and values are kept, and every question
# is answered from them: it looks over landmarks, one for every 16 tokens, and gets back only the
# parts that it needs. This notebook needs no GPU and no account.

# %%
from pathlib import Path

from acre_rag import ACREEngine, Document

engine = ACREEngine()  # the demo model, and a store in your home directory

# %% [markdown]
# ## Read once
#
# Run this cell again: nothing is read a second time, not even after the notebook was restarted.

# %%
path = Path("documents/freeze-dryer-manual.md")
engine.ingest([Document(id=path.name, text=path.read_text(encoding="utf-8"))])

# %% [markdown]
# ## Ask
#
# An answer shows itself with its **refill map**. The strip is the document from its first character
# to its last: the warmer a place, the more the question attended to its landmark. The blue marks
# beneath are what was put back into the cache in full; their numbers lead to the text below.
# Point at a place to read it.

# %%
answer = engine.ask("How much does the machine weigh without its pump?", documents=[path.name])
answer

# %% [markdown]
# What the picture shows are plain values. A source is exact in characters:

# %%
text = path.read_text(encoding="utf-8")
best = max(answer.sources, key=lambda source: source.score)
assert text[best.start : best.end] == best.text
best

# %% [markdown]
# What it cost. `encoded_tokens` is 0: no token of the document went through the model again.

# %%
answer.usage, answer.seconds

# %% [markdown]
# ## Look without answering
#
# `retrieve` finds the places and stops there. Nothing is decoded, and of the document's cache only
# the landmarks are read.

# %%
engine.retrieve("How much oil does the vacuum pump take?", documents=[path.name])

# %% [markdown]
# ## Spend less
#
# A budget in tokens holds exactly. With 96 of them the map shows what is left out, and what
# suffices.

# %%
engine.ask(
    "How much does the machine weigh without its pump?", documents=[path.name], refill_tokens=96
)

# %% [markdown]
# Next: [pipeline_graph](pipeline_graph.py) asks several documents, in a LlamaIndex workflow.
