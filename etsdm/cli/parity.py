"""Comparison of a converted or exported network with its source, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["parity_lines"]


def parity_lines(parity: Mapping[str, Any], ignored: int | None = None) -> list[str]:
    """Lines of a comparison. Args: parity: of a report. ignored: keys of the source that are not used, of a conversion."""
    lines = []
    if "tensors" in parity:
        rest = "" if ignored is None else f"; {ignored} keys ignored"
        lines.append(f"{'tensors':14} {parity['tensors']} used, equal to the source's bit by bit{rest}")
    if "largest_difference" in parity:
        by = f", by {parity['compared_with']}" if "compared_with" in parity else ""
        numbers = f"{parity['largest_difference']:.2g} at most, at a root mean square of {parity['output_rms']:.2g}"
        lines.append(f"{'outputs':14} differ by {numbers}{by}")
    elif parity.get("forward_finite"):
        lines.append(f"{'outputs':14} finite; no second program to compare with")
    return lines
