import pytest
from hypothesis import given
from hypothesis import strategies as st

from etsdm.errors import RecipeError
from etsdm.recipe.locations import SourceLocation
from etsdm.recipe.tree import Node, merge, nested


def merged(*trees):
    result = Node.of(trees[0])
    for tree in trees[1:]:
        result = merge(result, Node.of(tree))
    return result.plain


def at(line, value):
    return Node(value, SourceLocation("a.yaml", line))


# Plain mappings: a name in capitals is always a mapping, one in small letters never.
LEAVES = st.none() | st.booleans() | st.integers() | st.sampled_from(["", "x"]) | st.lists(st.integers(), max_size=2)
PLAIN = st.recursive(
    st.dictionaries(st.sampled_from("abc"), LEAVES, max_size=3),
    lambda inner: st.builds(
        dict.__or__,
        st.dictionaries(st.sampled_from("abc"), LEAVES, max_size=2),
        st.dictionaries(st.sampled_from("ABC"), inner, max_size=2),
    ),
    max_leaves=8,
)


@given(PLAIN, PLAIN, PLAIN)
def test_merging_plain_mappings_is_associative(a, b, c):
    assert merged(merged(a, b), c) == merged(a, merged(b, c))


@given(PLAIN)
def test_an_empty_mapping_changes_nothing_on_either_side(a):
    assert merged(a, {}) == merged({}, a) == merged(a, a) == a


@given(PLAIN, PLAIN)
def test_merging_leaves_its_arguments_as_they_are(a, b):
    below, above = Node.of(a), Node.of(b)
    merge(below, above)
    assert (below.plain, above.plain) == (a, b)


@pytest.mark.parametrize(
    ("below", "above", "result"),
    [
        ({"a": 1, "m": {"x": 1, "y": 2}}, {"m": {"y": 3, "z": 4}}, {"a": 1, "m": {"x": 1, "y": 3, "z": 4}}),
        ({"m": {"x": 1}}, {"m": None}, {"m": None}),
        ({"m": None}, {"m": {"x": 1}}, {"m": {"x": 1}}),
        ({"m": 5}, {"m": {"x": 1}}, {"m": {"x": 1}}),
        ({"l": [1, 2, 3]}, {"l": [4]}, {"l": [4]}),
    ],
)
def test_mappings_merge_and_everything_else_replaces(below, above, result):
    assert merged(below, above) == result


@pytest.mark.parametrize(
    ("below", "above", "result"),
    [
        # The same type merges; another replaces; a mapping without type changes the part that is there.
        ({"type": "linear", "n": 5}, {"type": "linear", "m": 6}, {"type": "linear", "n": 5, "m": 6}),
        ({"type": "linear", "n": 5}, {"type": "cosine", "s": 1}, {"type": "cosine", "s": 1}),
        ({"type": "linear", "n": 5}, {"n": 6}, {"type": "linear", "n": 6}),
        ({"n": 5}, {"type": "linear"}, {"n": 5, "type": "linear"}),
        # Below a mapping a bare name is the part with its defaults.
        ("linear", {"n": 6}, {"type": "linear", "n": 6}),
        ("linear", {"type": "linear", "n": 6}, {"type": "linear", "n": 6}),
        ("linear", {"type": "cosine", "s": 1}, {"type": "cosine", "s": 1}),
        ("linear", {}, {"type": "linear"}),
        # Above, it replaces the part whole, whatever its type.
        ({"type": "linear", "n": 5}, "linear", "linear"),
        ({"type": "linear", "n": 5}, "cosine", "cosine"),
    ],
)
def test_parts_merge_by_their_type(below, above, result):
    assert merged({"part": below}, {"part": above}) == {"part": result}


def test_numbers_as_keys_change_the_entries_of_a_list():
    assert merged({"l": ["fid", {"type": "is", "n": 1}]}, {"l": {"0": {"n": 5}, "1": "fid"}}) == {"l": [{"type": "fid", "n": 5}, "fid"]}


def test_other_keys_replace_a_list():
    assert merged({"l": [1, 2]}, {"l": {"0": 1, "a": 2}}) == {"l": {"0": 1, "a": 2}}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([1, 2], "a.l.2: the list has no such entry; its entries are 0 to 1 (a.yaml:7)"),
        ([], "a.l.2: the list has no such entry; it is empty; give the whole list (a.yaml:7)"),
    ],
)
def test_an_entry_that_a_list_does_not_have_is_refused(entries, message):
    with pytest.raises(RecipeError) as error:
        merge(Node.of({"a": {"l": entries}}), Node({"a": Node({"l": Node({"2": at(7, 0)})})}))
    assert str(error.value) == message


def test_marks_follow_values():
    below = at(1, {"kept": at(2, 0), "part": at(3, "linear"), "list": at(4, [at(5, 0), at(6, 0)])})
    above = Node({"part": Node({"n": at(11, 1)}), "list": Node({"1": at(12, 1)})})
    result = merge(below, above)
    part, entries = result.value["part"], result.value["list"]
    assert (result.location.line, result.value["kept"].location.line) == (1, 2)
    assert (part.location.line, part.value["type"].location.line, part.value["n"].location.line) == (3, 3, 11)
    assert (entries.location.line, [entry.location.line for entry in entries.value]) == (4, [5, 12])


def test_a_mapping_written_again_takes_the_new_mark():
    assert merge(at(1, {"a": at(2, 0)}), at(10, {"a": at(11, 1)})).location.line == 10


@pytest.mark.parametrize(
    ("changes", "result"),
    [
        ({"a.b.c": 1}, {"a": {"b": {"c": 1}}}),
        ({"a": {"b.c": 1, "d": 2}, "a.e": 3}, {"a": {"b": {"c": 1}, "d": 2, "e": 3}}),
        ({"l.0.n": 1, "l.2": 5}, {"l": {"0": {"n": 1}, "2": 5}}),
        ({"a.b": {}}, {"a": {"b": {}}}),
        ({"a": {}, "a.b": 1}, {"a": {"b": 1}}),
        ({}, {}),
        # The part is named first, whatever the order of the lines.
        ({"part.n": 1, "part": "linear"}, {"part": {"type": "linear", "n": 1}}),
        ({"part.n": 1, "part": {"type": "linear"}}, {"part": {"n": 1, "type": "linear"}}),
        # The entries of lists are values, not changes.
        ({"a": [{"b.c": 1}]}, {"a": [{"b.c": 1}]}),
    ],
)
def test_dotted_keys_are_paths(changes, result):
    assert nested(Node.of(changes)).plain == result


@given(PLAIN)
def test_changes_without_dots_stay_as_they_are(changes):
    assert nested(Node.of(changes)).plain == changes


def test_one_value_in_two_spellings_is_refused():
    changes = Node({"a.b": at(3, 1), "a": at(4, {"b": at(5, 2)})})
    with pytest.raises(RecipeError) as error:
        nested(changes, ("arms", "x"))
    assert str(error.value) == "arms.x.a.b: given twice, here and at a.yaml:3; keep one (a.yaml:5)"


@pytest.mark.parametrize("key", ["b..c", ".b", "b.", ".", ""])
def test_an_empty_step_in_a_key_is_refused(key):
    with pytest.raises(RecipeError) as error:
        nested(Node({"a": Node({key: at(3, 1)})}))
    assert str(error.value) == f"a: the key {key!r} has an empty step; write names with single dots between (a.yaml:3)"
