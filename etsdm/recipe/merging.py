"""The one merge rule: of a file over what it extends, of an arm over its recipe, and of an override over what it overrides.

- Mappings merge key by key, to any depth. Anything else (a number, text, null, a list) replaces what is below.
- A mapping whose `type` differs from the `type` below replaces it whole: the fields of one part mean nothing to another. If
  only one of the two has a `type`, they merge.
- Text below a mapping is a part's bare name: `linear` becomes `{type: linear}`, then the two merge. A bare name above
  replaces the part whole, even one of the same type: `schedule: linear` is a linear schedule with its defaults, whereas
  `schedule: {type: linear}` keeps the fields that a linear schedule below has.
- A mapping whose keys are all numbers, over a list, merges into those entries of the list, counted from 0.

In arms and overrides a dotted key is a path: `model.condition_map.n: 10` is `model: {condition_map: {n: 10}}`. A field whose
own name holds a dot can be set in a recipe, not in an arm or override. Shorter paths are set first, whatever the order of the
lines: `schedule: cosine` with `schedule.s: 0.01` is a cosine schedule with that `s`.
"""

from __future__ import annotations

from collections.abc import Iterator

from etsdm.recipe.document import Location, Mark, Node, refusal

__all__ = ["merge", "nested"]


def merge(below: Node, above: Node, path: Location = ()) -> Node:
    """Lays one tree over another; neither is changed.

    A mapping of both keeps the mark of the upper one if it has any.

    Args:
        below: what is changed.
        above: the changes, which win.
        path: where the two trees stand in the recipe, for messages.

    Raises:
        RecipeError: a change of an entry that a list does not have.
    """
    if not isinstance(above.value, dict):
        return above
    if isinstance(below.value, str):
        below = Node({"type": below}, below.mark)
    if isinstance(below.value, list) and above.value and all(_is_index(key) for key in above.value):
        return _merge_entries(below.value, above, path, below.mark)
    if not isinstance(below.value, dict) or _differ_in_type(below.value, above.value):
        return above
    entries = dict(below.value)
    for key, node in above.value.items():
        entries[key] = merge(entries[key], node, (*path, key)) if key in entries else node
    return Node(entries, above.mark or below.mark)


def _merge_entries(below: list[Node], above: Node, path: Location, mark: Mark | None) -> Node:
    entries = list(below)
    for key, node in above.value.items():
        i = int(key)
        if i >= len(entries):
            known = f"its entries are 0 to {len(entries) - 1}" if entries else "it is empty; give the whole list"
            raise refusal((*path, i), f"the list has no such entry; {known}", node.place)
        entries[i] = merge(entries[i], node, (*path, i))
    return Node(entries, above.mark or mark)


def _is_index(key: str) -> bool:
    return key.isascii() and key.isdigit()


def _differ_in_type(below: dict[str, Node], above: dict[str, Node]) -> bool:
    return "type" in below and "type" in above and below["type"].value != above["type"].value


def nested(changes: Node, path: Location = ()) -> Node:
    """Turns the dotted keys of a mapping, at any depth, into nested mappings; those carry no marks, only the values do.

    Args:
        changes: a mapping.
        path: where it stands in the recipe, for messages.

    Raises:
        RecipeError: one value is given under two spellings, or a key has an empty step.
    """
    result = Node({})
    given: dict[Location, Node] = {}
    for steps, node in sorted(_values(changes, (), path), key=lambda pair: len(pair[0])):
        if steps in given:
            raise refusal((*path, *steps), f"given twice, here and at {given[steps].place}; keep one", node.place)
        given[steps] = node
        for step in reversed(steps):
            node = Node({step: node})
        result = merge(result, node, path)
    return result


def _values(node: Node, steps: tuple[str, ...], path: Location) -> Iterator[tuple[tuple[str, ...], Node]]:
    if not isinstance(node.value, dict) or (steps and not node.value):
        yield steps, node
        return
    for key, entry in node.value.items():
        names = key.split(".")
        if "" in names:
            raise refusal((*path, *steps), f"the key {key!r} has an empty step; write names with single dots between", entry.place)
        yield from _values(entry, (*steps, *names), path)
