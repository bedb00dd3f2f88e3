"""The command line, `acre`: read files once, ask them from any process."""

from acre_rag.cli.app import main

__all__ = ["main"]
