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
# # Chains over refilled caches
#
# LangChain puts the pieces together; a local model answers from caches of documents that it has
# read **once**. Nothing here is stuffed into a prompt, and nothing leaves this machine.

# %%
from operator import itemgetter
from pathlib import Path

from langchain_core.documents import Document
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableParallel, RunnablePassthrough

from acre_langchain import ACREAnswerChain, ACREDocumentIndex, ACRERetriever, ChatACRE
from acre_rag import ACREEngine

engine = ACREEngine()  # the demo model, and a store in your home directory

# %% [markdown]
# ## Read once
#
# Documents stay whole: no splitter, no embedding model. Run this cell again: what is stored and
# unchanged is not read a second time, not even after the notebook was restarted.

# %%
documents = [
    Document(
        id=name,
        page_content=Path("documents", name).read_text(encoding="utf-8"),
        metadata={"source": name},
    )
    for name in ("freeze-dryer-manual.md", "cold-store-incident.md")
]
ACREDocumentIndex(engine=engine).upsert(documents)

# %% [markdown]
# ## Ask
#
# A question in; `context`, `answer` and `usage` out. The result is a dict, and shows itself with
# its **refill map**: the warmer a place, the more the question attended to its landmark; the blue
# marks are what was put back into the cache in full.

# %%
chain = ACREAnswerChain(engine=engine, filter={"source": "freeze-dryer-manual.md"})
out = chain.invoke("How much does the machine weigh without its pump?")
out

# %% [markdown]
# Each place is exact in characters, and carries the metadata of its document. No token of a
# document went through the model again:

# %%
best = out["context"][0].metadata
text = documents[0].page_content
assert text[best["start_index"] : best["end_index"]] == out["context"][0].page_content
assert out["usage"]["encoded_tokens"] == 0
best

# %% [markdown]
# ## Stream
#
# Documents come first, then the answer in pieces, then what it cost.

# %%
for part in chain.stream("How much oil does the vacuum pump take?"):
    print(list(part), part.get("answer", ""))

# %% [markdown]
# ## Compose
#
# The chain is a Runnable like any other: `|`, `pick`, `RunnableParallel`, `with_fallbacks`...

# %%
brief = itemgetter("question") | RunnableParallel(
    question=RunnablePassthrough(), answer=chain.pick("answer")
)
brief.invoke({"question": "Which solvent dissolves the seal of the drum?"})

# %% [markdown]
# A retriever in front decides which documents are asked, and their caches answer. Any retriever
# will do; this one is ours, and looks where the question would.

# %%
narrowed = ACREAnswerChain(engine=engine, retriever=ACRERetriever(engine=engine, k=1))
narrowed.invoke("Where had the telephone company's letter been sent?")

# %% [markdown]
# ## A chat model with documents in its memory
#
# `ChatACRE` goes wherever LangChain wants a chat model. Earlier turns are ordinary text before the
# question; the caches are the same ones for every turn.

# %%
chat = ChatACRE(engine=engine, max_tokens=32).with_documents(
    filter={"source": "freeze-dryer-manual.md"}
)
prompt = ChatPromptTemplate.from_messages(
    [("system", "Answer in a few words."), ("placeholder", "{history}"), ("human", "{question}")]
)
conversation = prompt | chat
first = {"history": [], "question": "How much does the machine weigh without its pump?"}
said = conversation.invoke(first)
said.text

# %%
history = [("human", first["question"]), ("ai", said.text)]
then = conversation.invoke({"history": history, "question": "And how much oil does the pump take?"})
assert then.response_metadata["usage"]["encoded_tokens"] == 0
then.usage_metadata

# %% [markdown]
# Without documents it is the model by itself.

# %%
(ChatACRE(engine=engine, max_tokens=24) | StrOutputParser()).invoke("Say hello to the crew.")

# %% [markdown]
# Next: [langchain_agent](langchain_agent.py) lets an agent of another model ask these documents.
