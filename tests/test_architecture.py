"""Laws of every file of the package: imports go to a lower floor and in no cycle, nothing is drawn or printed in passing."""

import ast
import subprocess
import sys
from importlib import import_module

import pytest
from package_sources import TREES, dotted, imports, room
from room_drawing import FLOORS, RANK, ROOMS, arrows, cycles

NAMELESS = {"utils", "util", "common", "core", "helpers", "helper", "misc"}  # they say how, and not what
GLOBAL_RANDOMNESS = {"torch.manual_seed", "torch.random.manual_seed", "torch.seed", "torch.cuda.manual_seed", "torch.cuda.manual_seed_all"}
DRAWS = {f"torch.{name}" for name in ("rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial")}
every_module = pytest.mark.parametrize("module", TREES)


def calls(module):
    return [(dotted(node.func), node) for node in ast.walk(TREES[module]) if isinstance(node, ast.Call)]


def run(program):
    """What a program prints in a fresh interpreter."""
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def test_every_room_stands_on_one_floor():
    assert sorted(name for lines in FLOORS for line in lines for name in line.split()) == sorted(ROOMS)


@pytest.mark.parametrize("module", [module for module in TREES if module != "etsdm"])  # `etsdm` itself imports on demand
def test_imports_go_to_a_lower_floor(module):
    own = room(module)
    for imported in imports(module):
        other = room(imported)  # none for the bare package, of which a module may ask its folder
        assert other is None or other == own or RANK.get(other, len(RANK)) < RANK[own], f"{module} imports {imported}"


def test_rooms_import_each_other_in_no_cycle():
    assert cycles(arrows()) == set()


def test_modules_import_each_other_in_no_cycle():
    graph = {module: {name for name in imports(module) if name in TREES} for module in TREES if module != "etsdm"}
    assert cycles(graph) == set()


def folder_graph(package):
    """Imports between the modules and folders of one package, a folder being one node. The package's `__init__` is left out."""
    names = [name for name in TREES if name.startswith(f"{package}.")]

    def node(name):
        return ".".join(name.split(".")[: package.count(".") + 2])

    graph = {node(name): set() for name in names}
    for name in names:
        graph[node(name)] |= {node(other) for other in imports(name) if other.startswith(f"{package}.")} - {node(name)}
    return graph


@pytest.mark.parametrize("package", sorted({name.rpartition(".")[0] for name in TREES if name.count(".") > 1}))
def test_folders_inside_a_room_import_each_other_in_no_cycle(package):
    assert cycles(folder_graph(package)) == set()


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


def test_importing_etsdm_imports_nothing_heavy():
    assert run("import sys, etsdm; print(sorted({'torch', 'numpy', 'pydantic', 'matplotlib'} & set(sys.modules)))") == "[]\n"


def imported_by_load(*modules):
    return run(f"import sys, etsdm; etsdm.load; print(sorted({set(modules)} & set(sys.modules)))")


def test_load_imports_neither_plotting_nor_scipy():
    assert imported_by_load("matplotlib", "jinja2", "scipy") == "[]\n"


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
