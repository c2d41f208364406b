"""The command line without a process of its own, and the tables that it prints."""

import contextlib
import io
import os
import sys
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

from etsdm.cli import main


class Result(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def run(*arguments, cwd="."):
    """Runs the entry point in this process, which has torch already."""
    out, err = io.StringIO(), io.StringIO()
    before = Path.cwd()
    os.chdir(cwd)
    try:
        with patch.object(sys, "argv", ["etsdm", *map(str, arguments)]), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
        code = 0
    except SystemExit as stop:
        code = stop.code or 0
    finally:
        os.chdir(before)
    return Result(code, out.getvalue(), err.getvalue())


def rows(shown):
    """The cells of every row of every table that was shown, a wrapped cell put together."""
    found = []
    for line in shown.splitlines():
        if line.startswith("│"):
            cells = [cell.strip() for cell in line.split("│")[1:-1]]
            if cells[0] or not found:
                found.append(cells)
            else:
                found[-1] = [" ".join([*filter(None, pair)]) for pair in zip(found[-1], cells, strict=True)]
    return found
