import pytest

from etsdm.errors import RecipeError
from etsdm.recipe.load import override
from etsdm.recipe.locations import COMMAND_LINE, SourceLocation
from etsdm.recipe.tree import Document, Node

RECIPE = {"model": {"schedule": "linear"}, "training": {"images": 10}, "metrics": ["fid", {"type": "is"}]}


def changed(*assignments):
    return override(Document.of(RECIPE), assignments).data


def refused(assignment):
    with pytest.raises(RecipeError) as error:
        changed(assignment)
    return str(error.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [("20000", 20000), ("1e-4", 1e-4), ("null", None), ("on", "on"), ("''", ""), ("a=b", "a=b"), ("[1, 2]", [1, 2]), (" x ", "x")],
)
def test_a_value_is_yaml(text, value):
    assert changed(f"training.images={text}") == {**RECIPE, "training": {"images": value}}


@pytest.mark.parametrize(
    ("assignment", "schedule"),
    [
        ("model.schedule=cosine", "cosine"),
        ("model.schedule.timesteps=5", {"type": "linear", "timesteps": 5}),
        ("model.schedule={timesteps: 5, base.s: 1}", {"type": "linear", "timesteps": 5, "base": {"s": 1}}),
        ("model.schedule={type: cosine, s: 1}", {"type": "cosine", "s": 1}),
        ("model={schedule.type: linear}", {"type": "linear"}),
    ],
)
def test_a_part_is_changed_by_the_merge_rule(assignment, schedule):
    assert changed(assignment) == {**RECIPE, "model": {"schedule": schedule}}


def test_a_path_may_count_the_entries_of_a_list():
    assert changed("metrics.0.images=100", "metrics.1=fid")["metrics"] == [{"type": "fid", "images": 100}, "fid"]


def test_of_two_the_later_wins():
    assert changed("training.images=1", "training.images=2")["training"] == {"images": 2}


def test_no_override_changes_nothing():
    assert changed() == RECIPE


def test_a_value_is_marked_with_the_command_line():
    here = SourceLocation("a.yaml", 1)
    document = override(Document(Node({"m": Node({"x": Node(1, here)}, here)}, here)), ["m.y=[1]"])
    assert document.locations == {(): here, ("m",): here, ("m", "x"): here, ("m", "y"): COMMAND_LINE, ("m", "y", 0): COMMAND_LINE}


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("training.images", "override 'training.images': write key=value, for example training.images=20000 (command line)"),
        ("=5", "override '=5': write key=value, for example training.images=20000 (command line)"),
        ("a..b=5", "the key 'a..b' has an empty step; write names with single dots between (command line)"),
        ("a.b=", "a.b: no value after the equals sign; write a.b=null for none or a.b=\"''\" for empty text (command line)"),
        ("a.b=[1", "a.b: expected ',' or ']', but got '<stream end>', column 3 (command line)"),
        ("a.b=@x", "a.b: found character '@' that cannot start any token, column 1 (command line)"),
        ("a.b={c: 1, c: 2}", "a.b.c: given twice; keep one (command line)"),
        ("a.b={c.d: 1, c: {d: 2}}", "a.b.c.d: given twice, here and at command line; keep one (command line)"),
        ("metrics.2=fid", "metrics.2: the list has no such entry; its entries are 0 to 1 (command line)"),
    ],
)
def test_a_malformed_override_is_refused(assignment, message):
    assert refused(assignment) == message
