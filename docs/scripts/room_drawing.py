"""The rooms of `etsdm/`, their floors, and the arrows of imports between them, drawn from the source."""

from collections.abc import Iterable, Mapping

from package_sources import TREES, imports, room, summary

# An import goes to a lower floor, or within a floor to an earlier line. Rooms of one line do not import each other.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors", "registry randomness storage devices"),
    ("schedules targets data",),
    ("condition_maps", "grids backbones"),
    ("denoisers",),
    ("theory losses samplers checkpoints",),
    ("sampling analysis zoo interop",),
    ("metrics training",),
    ("recipe",),
    ("runs",),
    ("report",),
    ("experiment",),
    ("cli", "__main__"),
)
FLOOR = {name: floor for floor, lines in enumerate(FLOORS) for line in lines for name in line.split()}
RANK = {name: rank for rank, line in enumerate(line for lines in FLOORS for line in lines) for name in line.split()}


def _place(name: str) -> tuple[int, str]:
    return list(RANK).index(name) if name in RANK else len(RANK), name


ROOMS = sorted({name for module in TREES if (name := room(module))}, key=_place)

Graph = Mapping[str, set[str]]


def reachable(graph: Graph, start: str) -> set[str]:
    """Everything that a chain of arrows leads to; the start itself only if it stands in a cycle."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        new = graph.get(waiting.pop(), set()) - found
        found |= new
        waiting.extend(new)
    return found


def cycles(graph: Graph) -> set[frozenset[str]]:
    """The groups of nodes that reach each other."""
    below = {node: reachable(graph, node) for node in graph}
    return {frozenset(other for other in below[node] if node in below.get(other, ())) for node in graph if node in below[node]}


def arrows() -> dict[str, set[str]]:
    """Which rooms each room imports."""
    found: dict[str, set[str]] = {name: set() for name in ROOMS}
    for module in TREES:
        if own := room(module):
            found[own] |= {other for name in imports(module) if (other := room(name)) and other != own}
    return found


def without_shortcuts(graph: Graph) -> dict[str, set[str]]:
    """The graph without the arrows that a longer chain of arrows implies."""
    below = {node: reachable(graph, node) for node in graph}
    return {node: {end for end in ends if not any(end in below.get(other, ()) for other in ends)} for node, ends in graph.items()}


def _by_rank(names: Iterable[str]) -> list[str]:
    return sorted(names, key=ROOMS.index, reverse=True)


def drawing() -> str:
    """One line a room, from the top floor down, with arrows to the rooms it imports."""
    drawn = without_shortcuts(arrows())
    width = max(map(len, ROOMS))
    lines = [f"F{FLOOR[name]:<3} {name:{width}} --> {'  '.join(_by_rank(drawn[name]))}" for name in _by_rank(ROOMS) if drawn[name]]
    lines += [f"F{FLOOR[name]:<3} {name}" for name in _by_rank(ROOMS) if not drawn[name]]
    return "```text\n" + "\n".join(lines) + "\n```\n"


def table() -> str:
    """A Markdown table of the rooms with the first lines of their docstrings, from the ground floor up."""
    rows = ["| floor | room | contents |", "|---|---|---|"]
    for name in ROOMS:
        path = f"{name}.py" if f"etsdm.{name}" in TREES and not any(module.startswith(f"etsdm.{name}.") for module in TREES) else f"{name}/"
        rows.append(f"| F{FLOOR[name]} | `{path}` | {summary(f'etsdm.{name}')} |")
    return "\n".join(rows) + "\n"
