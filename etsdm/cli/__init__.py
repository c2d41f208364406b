"""The command line: one file a command, each a thin shell over a function of a lower floor."""

from etsdm.cli.app import main

__all__ = ["main"]
