"""Class labels of named images: from class folders, from a file of labels, or from an archive's own.

A file of labels is a table or JSON:

    name,label              CSV with this header, or without one
    cats/0001.png,0

    {"labels": [["00000/img00000000.png", 6], ...]}     dataset.json of StyleGAN2-ADA and EDM
    {"00000/img00000000.png": 6, ...}

Labels are whole numbers from 0, or names of classes, which are numbered in their alphabetical order.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from etsdm.errors import DataError
from etsdm.storage.files import checked_once
from etsdm.storage.regular import MAX_IMAGE_BYTES, read_regular

__all__ = ["LABEL_FILE", "Labels", "folder_labels", "labels_of", "named_labels", "parse_json_labels", "read_label_file", "with_classes"]

LABEL_FILE = "dataset.json"  # of StyleGAN2-ADA and EDM, beside the images
MOST_CLASSES = 10**6
MAX_LISTED = 8  # names in a message
HEADER = ["name", "label"]
NUMBER = re.compile(r"-?[0-9]+")


class Labels(NamedTuple):
    """Class labels.

    Fields: numbers, from 0, int64, (N,); names of the classes in order, empty where they are numbers; what the names are, for messages;
    given, a number of classes that is larger than what the labels show, 0 for none.
    """

    numbers: Tensor
    names: tuple[str, ...] = ()
    what: str = "classes"
    given: int = 0

    @property
    def classes(self) -> int:
        """Number of classes: that of the names, or the highest number and one."""
        return self.given or len(self.names) or (int(self.numbers.max()) + 1 if len(self.numbers) else 1)


def folder_labels(names: Sequence[str], location: Callable[[str], str]) -> Labels:
    """Labels by top-level sub-folders, in the order of their names.

    Args:
        names: of the images, with `/`.
        location: place of an image, for messages.

    Raises:
        DataError: an image is in none.
    """
    folders = [name.partition("/")[::2] for name in names]
    for name, (_, below) in zip(names, folders, strict=True):
        if not below:
            raise DataError(f"{location(name)}: is in no class; move it to a sub-folder, or set data.classes=null for no labels")
    return class_labels([folder for folder, _ in folders])._replace(what="sub-folders with images")


def class_labels(values: Sequence[str]) -> Labels:
    """Labels from the names of classes, one an image, numbered in the order of the names."""
    found = sorted(set(values))
    number = {name: k for k, name in enumerate(found)}
    return Labels(torch.tensor([number[value] for value in values], dtype=torch.long), tuple(found))


def labels_of(values: Sequence[Any], place: object) -> Labels:
    """Labels from numbers or names of classes, one an image. Raises: DataError if they are neither. Args: place: for messages."""
    if all(isinstance(value, str) for value in values) and not all(NUMBER.fullmatch(value) for value in values):
        return class_labels(values)
    return Labels(torch.tensor([_number(value, place) for value in values], dtype=torch.long))


def named_labels(names: Sequence[str], given: Mapping[str, Any], place: object, location: Callable[[str], str]) -> Labels:
    """Labels of images by their names.

    Args:
        names: of the images.
        given: a label by name.
        place: where the labels are, for messages.
        location: place of an image, for messages.

    Raises:
        DataError: an image has no label, a label no image, or a label is neither a number nor a name.
    """
    for name in names:
        if name not in given:
            mend = "add one, remove the image, or set data.classes=null for no labels"
            raise DataError(f"{place}: has no label for {location(name)}; {mend}")
    if len(names) < len(given):
        known = set(names)
        lost = [name for name in given if name not in known]
        listed = ", ".join(lost[:MAX_LISTED]) + (", ..." if len(lost) > MAX_LISTED else "")
        raise DataError(f"{place}: labels {len(lost)} images that are not there ({listed}); put them there, or remove these labels")
    return labels_of([given[name] for name in names], place)


def with_classes(found: Labels, classes: int, place: str) -> Labels:
    """Labels with a declared number of classes. Raises: DataError if it does not fit. Args: found: labels; place: of them, for messages."""
    if found.names and classes != len(found.names):
        listed = ", ".join(found.names[:MAX_LISTED]) + (", ..." if len(found.names) > MAX_LISTED else "")
        raise DataError(f"data.classes: {classes}, but {place} has {len(found.names)} {found.what} ({listed}); give that number")
    if classes < found.classes:
        raise DataError(f"data.classes: {classes}, but {place} has labels up to {found.classes - 1}; give {found.classes} or more")
    return found._replace(given=classes)


@checked_once
def read_label_file(file: Path) -> dict[str, Any]:
    """Labels by name of a CSV or JSON file; see the module. Raises: DataError if it is neither, or has no labels."""
    try:
        content = read_regular(file, MAX_IMAGE_BYTES)
    except OSError as error:
        raise DataError(f"data.labels: {file} cannot be read ({error.strerror}); give a CSV or JSON file of names and labels") from error
    if file.suffix.lower() == ".json":
        found = parse_json_labels(content, file)
        if found is None:
            raise DataError(f"{file}: has no labels; set data.classes=null for none, or give another file with data.labels")
        return found
    try:
        rows = [row for row in csv.reader(io.StringIO(content.decode("utf-8-sig")), strict=True) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"data.labels: {file} is no CSV file in UTF-8 ({error}); give lines of name,label") from None
    for k, row in enumerate(rows, start=1):
        if len(row) != 2:
            raise DataError(f"data.labels: {file}: row {k} has {len(row)} values; give lines of name,label")
    return _once(([name.strip(), label.strip()] for name, label in (rows[1:] if rows[:1] == [HEADER] else rows)), file)


def parse_json_labels(content: bytes, place: object) -> dict[str, Any] | None:
    """Labels by name of a JSON text; None where EDM's has null. Raises: DataError if it has neither layout of the module."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: is no JSON ({error}); replace it, or set data.classes=null for no labels") from None
    if isinstance(found, dict) and "labels" in found:
        if found["labels"] is None:
            return None
        pairs = found["labels"]
    else:
        pairs = list(found.items()) if isinstance(found, dict) else found
    if not isinstance(pairs, list) or not all(isinstance(p, list | tuple) and len(p) == 2 and isinstance(p[0], str) for p in pairs):
        layout = '{"labels": [["name.png", 0], ...]} or {"name.png": 0, ...}'
        raise DataError(f"{place}: has no labels by name; give {layout}, or set data.classes=null for no labels")
    return _once(pairs, place)


def _once(pairs: Iterable[Sequence[Any]], place: object) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, label in pairs:
        if name in found:
            raise DataError(f"{place}: labels {name} twice; give one label to each image")
        found[name] = label
    return found


def _number(value: Any, place: object) -> int:
    if isinstance(value, str) and NUMBER.fullmatch(value) and len(value) < 10:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < MOST_CLASSES:
        shown = str(value)[:40]
        message = f"{place}: {shown!r} is no class label; give each image one whole number from 0 to {MOST_CLASSES - 1:,}"
        raise DataError(f"{message}, or each the name of its class")
    return value
