"""Drawings of emoji: groups of pictures that are variants of one drawing.

Two pictures are variants of one drawing if one of these holds for them, or for pictures between them:

- their codepoints are equal once gender, direction and presentation are left out: man, woman and person (with the profession or hair that
  follows), the sign of a gender, the arrow of "facing right", boy, girl and child, and the number of members of a family or couple;
- they are of one family of `FAMILIES`, drawings that differ in colour, number, direction, age or phase alone;
- they differ in few pixels: at 16x16, and also if one is mirrored left and right, the squared distance between them is at most 1/25 of the
  mean of their squared distances to a white picture.

Faces with other eyes, and flags with other stripes, are drawings of their own unless the last rule joins them, which it does for flags of
one design, for the plain yellow faces and for signs that differ in a letter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

__all__ = ["FAMILIES", "NEAR", "drawings"]

NEAR = 25  # mean squared distance to white over squared distance of two pictures, from which on they are variants
WHITE = 255.0

# Codepoints and sequences without what `_key` leaves out; a range has both of its ends.
FAMILIES = (
    "1F550..1F567",  # clock faces
    "1F311..1F318",  # phases of the moon
    "1F30D..1F30F",  # globes
    "2764 1F494 1FA77 1F9E1 1F49B 1F49A 1F499 1FA75 1F49C 1F90E 1F5A4 1FA76 1F90D 2665",  # hearts
    "1F534 1F7E0..1F7E4 1F535 26AA 26AB",  # circles
    "1F7E5..1F7EB 2B1B 2B1C 25FB..25FE 25AA 25AB 1F3FB..1F3FF",  # squares, and the swatches of skin tones
    "1F536..1F539",  # diamonds
    "1F53A 1F53B",  # triangles
    "1F4D5 1F4D7..1F4D9",  # books
    "1F4B4..1F4B7",  # bank notes
    "2753..2755 2757",  # question and exclamation marks
    "2B05..2B07 27A1 2194..2199",  # straight arrows
    "21A9 21AA 2934 2935",  # bent arrows
    "25B6 25C0 1F53C 1F53D",  # triangles of players
    "23E9..23EC",  # double triangles
    "0023-20E3 002A-20E3 0030-20E3..0039-20E3 1F51F",  # keys
    "1F947..1F949 1F3C5",  # medals
    "1F446..1F449 261D",  # pointing fingers
    "1F91A 270B",  # hands
    "1F44D 1F44E",  # thumbs
    "1F507..1F50A",  # loudspeakers
    "1F4EA..1F4ED",  # letter boxes
    "1F4E4 1F4E5",  # trays
    "1F4F7 1F4F8",  # cameras
    "1F501 1F502",  # repetition
    "1F648..1F64A",  # monkeys
    "1F638..1F63F 1F640 1F431",  # faces of cats
    "1F5FB 1F3D4 26F0",  # mountains
    "1F466 1F467 1F9D2",  # children
    "1F9D3 1F474 1F475",  # older people
    "1F385 1F936 1F9D1-1F384",  # Father Christmas
    "1F930 1FAC3 1FAC4",  # pregnancy
    "1F931 1F9D1-1F37C",  # feeding
    "1F934 1F478 1FAC5",  # crowns
    "1F483 1F57A",  # dancers
    "1F46B..1F46D 1F9D1-1F91D-1F9D1",  # holding hands
    "1F48F 1F9D1-2764-1F48B-1F9D1",  # kisses
    "1F491 1F9D1-2764-1F9D1",  # couples
    "1F46A 1F9D1-1F9D2",  # families
)

_PERSON, _CHILD = "1F9D1", "1F9D2"
_SAME = {"1F468": _PERSON, "1F469": _PERSON, "1F466": _CHILD, "1F467": _CHILD}
_LEFT_OUT = {"200D", "FE0F"}  # joiner, and presentation as a picture
_SIGNS = {"2640", "2642", "27A1"}  # female, male, facing right


def drawings(codepoints: Sequence[str], pictures: Tensor) -> Tensor:
    """Groups pictures into drawings.

    Args:
        codepoints: of each picture, hexadecimal and joined by hyphens.
        pictures: levels, uint8, (N, C, H, W).

    Returns:
        For each picture the index of the first one of its drawing, int64, (N,).
    """
    parents = list(range(len(codepoints)))

    def root(i: int) -> int:
        while parents[i] != i:
            i = parents[i]
        return i

    family = {_key(member): (k,) for k, line in enumerate(FAMILIES) for member in _members(line)}
    first: dict[object, int] = {}
    by_name = ((i, first.setdefault(family.get(key, key), i)) for i, key in enumerate(map(_key, codepoints)))
    for pairs in (by_name, _near(pictures)):
        for pair in pairs:
            low, high = sorted(map(root, pair))
            parents[high] = low
    return torch.tensor([root(i) for i in range(len(parents))])


def _key(codepoints: str) -> str:
    """Codepoints without gender, direction and presentation, and without the number of members of a family."""
    parts = [part for part in codepoints.split("-") if part not in _LEFT_OUT]
    if len(parts) == 1:
        return _PERSON if parts[0] in ("1F468", "1F469") else parts[0]
    parts = [_SAME.get(part, part) for part in parts if part not in _SIGNS]
    return f"{_PERSON}-{_CHILD}" if set(parts) == {_PERSON, _CHILD} else "-".join(parts)


def _members(line: str) -> Iterator[str]:
    """The codepoints of a line of `FAMILIES`, ranges in full."""
    for entry in line.split():
        ends = entry.split("..")
        tail = re.sub("^[^-]*", "", ends[0])  # of a range of sequences, the same at both ends
        low, high = (int(end.removesuffix(tail), 16) for end in (ends[0], ends[-1]))
        yield from (f"{number:04X}{tail}" for number in range(low, high + 1))


def _near(pictures: Tensor) -> Iterator[tuple[int, int]]:
    """Pairs of pictures that differ in few pixels; whole numbers in float64, which are exact."""
    ink = WHITE - pictures.double()
    energy = ink.flatten(1).square().sum(1)
    total = energy[:, None] + energy[None]
    for other in (ink, ink.flip(-1)):
        squared = total - 2 * (ink.flatten(1) @ other.flatten(1).T)
        yield from map(tuple, (2 * NEAR * squared <= total).triu(1).nonzero().tolist())
