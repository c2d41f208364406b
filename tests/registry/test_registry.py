import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, PositiveInt, ValidationError

from etsdm.errors import RegistryError
from etsdm.registry import REGISTRIES, Part, Registry, json_schema, schedules
from etsdm.schedules import Cosine, Linear

ETSDM = Path(__file__).parents[2]

shapes: Registry[Any] = Registry("shapes", "etsdm.registry", "shape")


class Shape(Part, family=shapes):
    """A family of parts."""


@shapes.register("circle")
class Circle(Shape):
    """Round.

    A second paragraph that no list shows.
    """

    radius: PositiveInt = 1


@shapes.register("box")
class Box(Shape):
    """Square."""

    width: PositiveInt
    height: PositiveInt = 2


shapes.preset("banner", Box, "A wide box.", width=30)


def origin(part):
    return f"{part.__module__}.{part.__qualname__}"


def refused(action, *arguments, **fields):
    with pytest.raises(RegistryError) as error:
        action(*arguments, **fields)
    return str(error.value)


def test_a_registry_lists_its_names_in_alphabetical_order():
    assert shapes.names() == list(shapes) == ["banner", "box", "circle"]
    assert len(shapes) == 3
    assert "box" in shapes
    assert "cone" not in shapes
    assert repr(shapes) == "Registry('shapes': banner, box, circle)"


def test_a_name_gives_its_class_and_its_description():
    assert shapes["circle"] is Circle
    assert Circle.type_name == "circle"
    assert shapes.describe("circle") == "Round."
    assert shapes.describe("banner") == "A wide box."


def test_create_makes_a_part_with_defaults_and_given_fields():
    assert shapes.create("circle") == Circle(radius=1)
    assert shapes.create("box", width=3) == Box(width=3, height=2)


@pytest.mark.parametrize(
    "value", [Box(width=3), {"type": "box", "width": 3}, {"type": "box", "width": 3, "height": 2}], ids=["instance", "mapping", "all"]
)
def test_parse_takes_an_instance_or_a_mapping(value):
    assert shapes.parse(value) == Box(width=3)


def test_parse_takes_a_bare_name():
    assert shapes.parse("circle") == Circle()


def test_a_preset_sets_fields_that_can_still_be_given():
    assert shapes.create("banner") == shapes.parse("banner") == Box(width=30)
    assert shapes.create("banner", width=40, height=1) == Box(width=40, height=1)
    assert shapes.defaults("banner") == {"width": 30}
    assert shapes.defaults("box") == {}


def test_a_preset_dumps_as_the_type_of_its_class():
    assert shapes.create("banner").model_dump() == {"type": "box", "width": 30, "height": 2}


def test_classes_leave_presets_out():
    assert shapes.classes() == {"box": Box, "circle": Circle}


def test_an_unknown_name_is_refused_with_near_ones():
    assert refused(shapes.create, "circl") == "unknown shape 'circl'; did you mean 'circle'?"


def test_an_unknown_name_like_no_other_is_refused_with_all_names():
    assert refused(shapes.parse, "polyhedron") == "unknown shape 'polyhedron'; known: banner, box, circle"


def test_a_refused_field_is_named_with_what_was_found_and_the_mend():
    assert refused(shapes.create, "circle", radius=0) == "shape 'circle': radius: found 0; give a value above 0"
    assert refused(shapes.create, "box") == "shape 'box': width: is required and missing; add it"
    assert refused(shapes.create, "box", width=1, hight=2) == "shape 'box': hight: unknown field; did you mean 'height'?"


@pytest.mark.parametrize("value", [3, None, ["circle"]])
def test_a_value_that_is_no_part_is_refused_with_the_names(value):
    expected = f"found {value!r}; give the name of a shape or a mapping with `type` (banner, box, circle)"
    assert refused(shapes.parse, value) == expected


@pytest.mark.parametrize("value", [{}, {"radius": 2}, {"type": 3}])
def test_a_mapping_without_a_type_is_refused_with_the_names(value):
    assert refused(shapes.parse, value) == "a shape needs `type`, one of: banner, box, circle"


def test_a_part_of_another_family_is_refused():
    assert refused(shapes.parse, Linear()).startswith("found a Linear;")


def test_two_classes_of_one_name_are_refused_with_both_origins():
    class Ring(Shape):
        """Also round."""

    message = refused(shapes.register("circle"), Ring)
    assert message == f"two parts are called shape 'circle': {origin(Circle)} and {origin(Ring)}; rename one"
    assert shapes["circle"] is Circle
    assert Ring.type_name == ""


def test_a_preset_with_the_name_of_a_part_is_refused_with_both_origins():
    message = refused(shapes.preset, "circle", Box, "Not a circle.", width=1)
    assert message == f"two parts are called shape 'circle': {origin(Circle)} and {origin(Box)}, preset circle; rename one"


def test_a_class_may_be_registered_again():
    assert shapes.register("circle")(Circle) is Circle  # a module that is reloaded does this
    assert shapes["circle"] is Circle


@pytest.mark.parametrize("name", ["Circle", "a circle", "a_circle", "", "-circle"])
def test_a_name_that_is_not_in_kebab_case_is_refused(name):
    message = refused(shapes.register(name), Circle)
    assert message == f"{name!r} is no name for a shape; use lower case, digits and hyphens ({origin(Circle)})"


def test_built_in_parts_are_found_without_importing_them_first():
    assert {"linear", "quadratic", "cosine"} <= set(schedules.names())
    assert schedules.create("cosine") == Cosine()


@pytest.mark.parametrize("registry", REGISTRIES.values(), ids=REGISTRIES)
def test_every_part_of_etsdm_has_a_description_and_keeps_its_name(registry):
    assert registry.names()
    assert all(registry.describe(name) for name in registry)
    assert all(part.type_name == name for name, part in registry.classes().items())


@pytest.mark.parametrize("registry", REGISTRIES.values(), ids=REGISTRIES)
def test_every_part_of_etsdm_comes_back_equal_from_its_dump(registry):
    for name, part in registry.classes().items():
        try:
            made = registry.create(name)
        except RegistryError:
            assert any(field.is_required() for field in part.model_fields.values())
            continue
        for mode in ("python", "json"):
            assert registry.parse(made.model_dump(mode=mode)) == made
        assert part.model_validate_json(made.model_dump_json()) == made


def test_a_refused_field_of_a_mapping_keeps_its_path():
    with pytest.raises(ValidationError) as error:
        shapes.parse({"type": "circle", "radius": "wide"})
    assert error.value.errors()[0]["loc"] == ("radius",)


# Plug-ins: a module `drawing` with a registry of its own, and distributions that offer parts to it. A distribution is installed
# as pip leaves it: a module and a folder `*.dist-info` on the path.

DRAWING = """
from typing import Any
from etsdm.registry import Part, Registry

shapes: Registry[Any] = Registry("shapes", "drawing", "shape")

class Shape(Part, family=shapes):
    pass

@shapes.register("circle")
class Circle(Shape):
    radius: int = 1
"""

CONE = """
from drawing import Shape, shapes

class Cone(Shape):
    "Round at the bottom."

    height: int = 2
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of the import path, with the module `drawing`; what was imported from it is forgotten after the test."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "drawing.py").write_text(DRAWING)
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] in {"drawing", "acme", "emca"}]:
        del sys.modules[name]


def install(folder, name, entry_point, *, group="etsdm.shapes", **modules):
    """Installs a distribution, version 1.2, that is a package of the same name with these modules; `init` is its own."""
    (folder / name).mkdir()
    for module, text in modules.items():
        (folder / name / f"{module.replace('init', '__init__')}.py").write_text(text)
    info = folder / f"{name}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{entry_point}\n")


def drawing():
    return import_module("drawing").shapes


def test_a_plug_in_is_found_when_its_name_is_asked_for(folder):
    install(folder, "acme", "cone = acme:Cone", init=CONE)
    assert drawing().names() == ["circle", "cone"]
    assert "acme" not in sys.modules  # a list of names loads nothing
    cone = drawing().create("cone", height=3)
    assert cone.model_dump() == {"type": "cone", "height": 3}
    assert drawing().parse("cone").height == 2
    assert drawing().describe("cone") == "Round at the bottom."
    assert drawing().names() == ["circle", "cone"]


def test_a_plug_in_may_register_its_class_itself(folder):
    install(folder, "acme", "cone = acme:Cone", init=CONE.replace("class Cone", '@shapes.register("cone")\nclass Cone'))
    assert drawing()["cone"] is import_module("acme").Cone
    assert drawing().names() == ["circle", "cone"]


def test_a_plug_in_may_name_its_class_by_the_package_that_exports_it(folder):
    install(folder, "acme", "cone = acme:Cone", init="from acme.solids import Cone", solids=CONE)
    assert drawing().create("cone").height == 2
    assert drawing().names() == ["circle", "cone"]


def test_an_unknown_name_is_refused_with_the_names_of_plug_ins_too(folder):
    install(folder, "acme", "cone = acme:Cone", init=CONE)
    assert refused(drawing().create, "come") == "unknown shape 'come'; did you mean 'cone'?"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import nowhere_to_be_found", "does not load: ModuleNotFoundError(\"No module named 'nowhere_to_be_found'\")"),
        ("", "does not load: AttributeError(\"module 'acme' has no attribute 'Cone'\")"),
        ("1 / 0", "does not load: ZeroDivisionError('division by zero')"),
        ("raise SystemExit", "does not load: SystemExit()"),
        ("import sys; sys.exit(0)", "does not load: SystemExit(0)"),
        ("class Own(BaseException): ...\nraise Own('own')", "does not load: Own('own')"),
        ("class Mute(Exception):\n  def __repr__(self): 1 / 0\nraise Mute", "does not load: Mute"),
        (CONE.replace("class Cone", '@shapes.register("cone")\nclass Cone') + "\nraise SystemExit(3)", "does not load: SystemExit(3)"),
        ("Cone = 3", "is not a class of that family"),
        ("from etsdm.registry import Part as Cone", "is not a class of that family"),
    ],
)
def test_a_plug_in_that_is_broken_is_named_and_does_no_harm_to_others(folder, text, reason):
    install(folder, "acme", "cone = acme:Cone", init=text)
    install(folder, "emca", "torus = emca:Torus", init=CONE.replace("Cone", "Torus"))
    message = f"shape 'cone': the plug-in acme:Cone of acme 1.2 {reason}; mend it or remove it"
    for _ in range(2):
        assert refused(drawing().create, "cone") == message
    assert drawing().create("circle").radius == 1
    assert drawing().names() == ["circle", "cone", "torus"]
    with pytest.warns(UserWarning, match="does not load|not a class") as warned:
        assert drawing().loadable() == list(drawing().classes()) == ["circle", "torus"]
    assert [str(warning.message) for warning in warned] == [f"{message}; it is left out"]


def test_ctrl_c_while_a_plug_in_loads_is_no_fault_of_it(folder):
    install(folder, "acme", "cone = acme:Cone", init="raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        drawing().create("cone")


def test_what_a_plug_in_prints_goes_to_stderr(folder, capsys):
    install(folder, "acme", "cone = acme:Cone", init="print('hello')\n" + CONE)
    drawing().create("cone")
    assert capsys.readouterr() == ("", "hello\n")


def test_a_plug_in_with_the_name_of_a_built_in_part_is_left_out(folder):
    install(folder, "acme", "circle = acme:Cone", init=CONE)
    origins = r"drawing\.Circle and acme:Cone of acme 1\.2"
    with pytest.warns(UserWarning, match=rf"two parts are called shape 'circle': {origins}; the plug-in is left out, remove it$"):
        assert drawing().names() == ["circle"]
    assert drawing().create("circle").radius == 1


def test_of_two_plug_ins_of_one_name_none_is_taken(folder):
    install(folder, "acme", "cone = acme:Cone", init=CONE)
    install(folder, "emca", "cone = emca:Cone", init=CONE)
    message = refused(drawing().create, "cone")
    assert message.startswith("two plug-ins offer shape 'cone': ")
    assert "acme:Cone of acme 1.2" in message
    assert "emca:Cone of emca 1.2" in message
    with pytest.warns(UserWarning, match="two plug-ins offer shape 'cone': .* remove one; both are left out$"):
        assert drawing().names() == ["circle"]


@pytest.mark.parametrize("entry_points", [b"[etsdm.shapes]\nno equals sign\n", b"\xff\xfe"])
def test_a_distribution_whose_entry_points_cannot_be_read_is_named_and_the_others_are_found(folder, entry_points):
    install(folder, "acme", "cone = acme:Cone", init=CONE)
    install(folder, "emca", "torus = emca:Torus", init=CONE.replace("Cone", "Torus"))
    (folder / "acme-1.2.dist-info/entry_points.txt").write_bytes(entry_points)
    with pytest.warns(UserWarning, match=r"the entry points of .*acme-1\.2\.dist-info cannot be read: .*; install it again or remove it"):
        assert drawing().names() == ["circle", "torus"]
    assert drawing().create("torus").height == 2


def test_a_plug_in_without_a_json_schema_is_left_out_of_the_schema(folder):
    install(folder, "acme", "cone = acme:Cone", init=CONE + "\n    @classmethod\n    def model_json_schema(cls): 1 / 0\n")
    registry = drawing()

    class Picture(BaseModel):
        shape: import_module("drawing").Shape

    with pytest.warns(UserWarning, match=r"shape 'cone': acme\.Cone has no JSON schema: division by zero; it is left out$"):
        schema = json_schema(Picture, {"shapes": registry})
    assert [name for name in schema["$defs"] if "/" in name] == ["shapes/circle"]


@pytest.mark.parametrize("ending", ["raise SystemExit(0)", "1 / 0"])
def test_commands_go_on_without_a_broken_plug_in(folder, ending):
    install(folder, "acme", "gentle = acme:Gentle", group="etsdm.schedules", init=f"print('hello')\n{ending}\n")
    command = [sys.executable, "-m", "etsdm", "parts", "schedules", "--json"]
    found = subprocess.run(command, cwd=folder, env={"PYTHONPATH": f"{folder}:{ETSDM}"}, capture_output=True, text=True, check=False)
    assert found.returncode == 0
    assert {"linear", "cosine"} <= set(json.loads(found.stdout)["schedules"])
    assert found.stderr.count("schedule 'gentle': the plug-in acme:Gentle of acme 1.2 does not load: ") == 1


def test_a_plug_in_adds_a_schedule_to_etsdm(folder):
    text = "from etsdm.schedules import Linear\nclass Gentle(Linear):\n    beta_end: float = 0.01\n"
    install(folder, "acme", "gentle = acme:Gentle", group="etsdm.schedules", init=text)
    # In a process of its own, because the registries of this one are used by other tests.
    program = "from etsdm.registry import schedules; print('gentle' in schedules, schedules.create('gentle').model_dump())"
    found = subprocess.run([sys.executable, "-c", program], cwd=folder, env={"PYTHONPATH": str(folder)}, capture_output=True, text=True)
    assert found.stdout == "True {'type': 'gentle', 'timesteps': 1000, 'beta_start': 0.0001, 'beta_end': 0.01, 'grid': 'linspace'}\n", (
        found.stderr
    )


def test_modules_that_register_a_part_are_imported_and_no_others(tmp_path, monkeypatch):
    package = tmp_path / "rooms_of_colours"
    (package / "deeper").mkdir(parents=True)
    (package / "__init__.py").write_text("from etsdm.registry import Part, Registry\ncolours = Registry('colours', __name__, 'colour')\n")
    (package / "deeper" / "__init__.py").touch()
    family = "from rooms_of_colours import Part, colours\nclass Colour(Part, family=colours): ...\n"
    register = family + "@colours.register('{0}')\nclass C(Colour): ...\n"
    (package / "red.py").write_text(register.format("red"))
    (package / "deeper" / "blue.py").write_text(register.format("blue"))
    (package / "heavy.py").write_text("raise RuntimeError('slow to import, and registers nothing')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert import_module("rooms_of_colours").colours.names() == ["blue", "red"]
