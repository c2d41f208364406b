"""The page on the command line names every command and option."""

from pathlib import Path

import pytest
import typer

from etsdm.cli.app import app

PAGE = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text()


def leaves(command, path=()):
    """Every command that is no group, with its path."""
    for name, inner in getattr(command, "commands", {}).items():
        yield from leaves(inner, (*path, name))
    if not hasattr(command, "commands"):
        yield path, command


COMMANDS = {" ".join(path): command for path, command in leaves(typer.main.get_command(app))}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_named(name):
    section = PAGE[PAGE.index(f"## `etsdm {name.split()[0]}`") :].split("\n## ")[0]
    assert f"etsdm {name}" in PAGE
    options = [option for parameter in COMMANDS[name].params for option in parameter.opts if option.startswith("-")]
    assert [option for option in options if option not in section and option != "--help"] == []
