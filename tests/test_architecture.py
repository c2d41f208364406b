"""What holds for every file of the package: an import goes to an earlier floor, nothing is drawn or printed in passing."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from importlib.util import resolve_name
from pathlib import Path

import pytest

import etsdm

PACKAGE = Path(etsdm.__file__).parent

# A room may import the rooms of earlier lines, and itself; not the others of its line.
FLOORS = """
errors
registry storage randomness
devices
schedules targets data
condition_maps
grids backbones
denoisers
theory losses samplers checkpoints
sampling analysis zoo
metrics training
recipe
runs
report
experiment
cli
__main__
"""
RANK = {room: rank for rank, line in enumerate(FLOORS.split("\n")) for room in line.split()}

NAMELESS = {"utils", "util", "common", "core", "helpers", "helper", "misc"}  # they say how, and not what
GLOBAL_RANDOMNESS = {"torch.manual_seed", "torch.random.manual_seed", "torch.seed", "torch.cuda.manual_seed", "torch.cuda.manual_seed_all"}
DRAWS = {f"torch.{name}" for name in ("rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial")}


def module_name(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


TREES = {module_name(path): ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}
IS_PACKAGE = {module_name(path.parent / "__init__.py") for path in PACKAGE.rglob("__init__.py")}
every_module = pytest.mark.parametrize("module", TREES)


def dotted(node):
    """`a.b.c` for a chain of attributes, or nothing."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (head := dotted(node.value)):
        return f"{head}.{node.attr}"
    return None


def statements(node, *, type_checking):
    """Every node below, with or without what only type checkers read."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and dotted(child.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING") and not type_checking:
            children = child.orelse
        else:
            yield child
            children = [child]
        for below in children:
            yield from statements(below, type_checking=type_checking)


def imports(module, *, type_checking=True):
    """The modules of this package that a module names in imports, wherever they stand."""
    for node in statements(TREES[module], type_checking=type_checking):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] == "etsdm")
        elif isinstance(node, ast.ImportFrom):
            package = module if module in IS_PACKAGE else module.rpartition(".")[0]
            source = resolve_name("." * node.level + (node.module or ""), package) if node.level else node.module
            if source.partition(".")[0] == "etsdm":
                for alias in node.names:
                    name = f"{source}.{alias.name}"
                    yield name if name in TREES or source == "etsdm" else source


def calls(module):
    return [(dotted(node.func), node) for node in ast.walk(TREES[module]) if isinstance(node, ast.Call)]


def room(module):
    return module.split(".")[1] if "." in module else None


def run(program):
    """What a program prints in a fresh interpreter."""
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def test_every_room_has_a_floor():
    assert {room(module) for module in TREES} - {None} == set(RANK)


@pytest.mark.parametrize("module", [module for module in TREES if module != "etsdm"])  # `etsdm` itself imports on demand
def test_imports_go_to_an_earlier_floor(module):
    own = room(module)
    for imported in imports(module):
        other = room(imported)  # none for the bare package, of which a module may ask its folder
        assert other is None or other == own or RANK.get(other, len(RANK)) < RANK[own], f"{module} imports {imported}"


def test_no_modules_import_each_other_in_a_circle():
    graph = {module: set(imports(module, type_checking=False)) for module in TREES if module != "etsdm"}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' <- '.join(error.args[1])}")


@every_module
def test_names_of_modules_say_what_is_in_them(module):
    assert not NAMELESS & set(module.split("."))


@every_module
def test_every_module_says_what_it_is(module):
    assert ast.get_docstring(TREES[module])


@every_module
def test_every_public_name_exists(module):
    found = import_module(module)
    public = getattr(found, "__all__", [])
    assert len(set(public)) == len(public)
    assert [name for name in public if not hasattr(found, name)] == []


@pytest.mark.parametrize("module", [module for module in TREES if room(module) != "cli"])
def test_only_the_command_line_prints(module):
    assert "print" not in [name for name, _ in calls(module)]


@pytest.mark.parametrize("module", [module for module in TREES if module != "etsdm.randomness"])
def test_randomness_comes_from_named_streams(module):
    for name, call in calls(module):
        assert name not in GLOBAL_RANDOMNESS | {"torch.Generator"}, f"line {call.lineno}"
        assert not (name or "").startswith(("np.random.", "numpy.random.", "random.")), f"line {call.lineno}"
        if name in DRAWS:
            assert "generator" in {keyword.arg for keyword in call.keywords}, f"line {call.lineno}"


def test_importing_etsdm_is_quick():
    assert run("import sys, etsdm; print(sorted({'torch', 'numpy', 'pydantic', 'matplotlib'} & set(sys.modules)))") == "[]\n"


def test_the_registries_do_not_import_torch():
    assert run("import sys; from etsdm.registry import schedules; print('torch' in sys.modules)") == "False\n"


def test_help_does_not_import_torch():
    program = """
import sys
from etsdm.cli import main
sys.argv = ["etsdm", "--help"]
try:
    main()
except SystemExit as end:
    print("exit", end.code, "torch" in sys.modules)
"""
    found = run(program)
    assert "recipe" in found
    assert found.endswith("exit 0 False\n")
