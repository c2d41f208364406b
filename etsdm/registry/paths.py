"""Paths in recipes: relative to the recipe's file, as `extends` is; from a command line or from Python, to the working directory."""

from __future__ import annotations

import os
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, SerializationInfo

__all__ = ["ABSOLUTE_PATHS", "HUB", "FilePath", "TextOfFile"]

HUB = "hf-hub:"  # before the name of a repository of the Hugging Face hub, in place of a path

ABSOLUTE_PATHS = {"absolute_paths": True}  # context of a dump that is to be read in another folder


class TextOfFile(str):
    """Text that was read from a file.

    Args:
        text: the text.
        folder: the file's folder.
    """

    folder: str

    def __new__(cls, text: str, folder: str) -> TextOfFile:
        made = super().__new__(cls, text)
        made.folder = folder
        return made


def _from_working_directory(value: Any) -> Any:
    # A home, `~`, is absolute, too.
    if isinstance(value, TextOfFile) and value and not value.startswith(("~", HUB)):
        return os.path.normpath(os.path.join(value.folder, value))
    return value


def _dump(value: str, info: SerializationInfo) -> str:
    absolute = isinstance(info.context, dict) and info.context.get("absolute_paths")
    return os.path.abspath(os.path.expanduser(value)) if absolute and not value.startswith(HUB) else value


# Type of a field that is the path of a file or folder, or names a repository of the hub.
FilePath = Annotated[str, BeforeValidator(_from_working_directory), PlainSerializer(_dump)]
