"""The only room that knows transformers: load, read, ask, decode."""
