"""The command line: parses words into the same calls as Python."""

from isoflop.cli.app import main

__all__ = ["main"]
