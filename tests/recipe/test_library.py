from pathlib import Path

import pytest

import etsdm
from etsdm.errors import RecipeError
from etsdm.recipe.files import find, names

PACKAGE = Path(etsdm.__file__).parent


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, with two recipes in `recipes/`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    for name in ("quokka.yaml", "wombat.yaml", "notes.txt"):
        (tmp_path / "recipes" / name).write_text("a: 1\n")
    return tmp_path


def refused(name):
    with pytest.raises(RecipeError) as error:
        find(name)
    return str(error.value)


def test_a_path_is_found_as_it_is(here):
    assert find("recipes/quokka.yaml") == Path("recipes/quokka.yaml")
    assert find(here / "recipes" / "notes.txt") == here / "recipes" / "notes.txt"


def test_a_name_is_found_with_and_without_its_suffix(here):
    assert find("quokka") == find("quokka.yaml") == Path("recipes/quokka.yaml")


def test_a_folder_does_not_hide_a_recipe_of_its_name(here):
    (here / "quokka").mkdir()
    assert find("quokka") == Path("recipes/quokka.yaml")


def test_the_current_folder_wins_over_the_recipes_of_the_package(here):
    shared = next(iter(sorted(names().keys() - {"quokka", "wombat"})), "quokka")
    (here / "recipes" / f"{shared}.yaml").write_text("a: 1\n")
    assert find(shared) == names()[shared] == Path(f"recipes/{shared}.yaml")


def test_names_are_sorted_and_hold_only_recipes(here):
    found = names()
    assert list(found) == sorted(found)
    assert {"quokka", "wombat"} <= found.keys()
    assert "notes" not in found


def test_an_unknown_name_is_refused_with_the_near_ones_and_the_folders(here):
    folders = ["recipes", str(PACKAGE / "recipes")]
    if (PACKAGE.parent / "pyproject.toml").is_file():
        folders.insert(1, str(PACKAGE.parent / "recipes"))
    assert refused("quoka") == f"no recipe 'quoka'; did you mean 'quokka'? (searched in {', '.join(folders)})"
    assert refused("quoka.yaml") == f"no recipe 'quoka.yaml'; did you mean 'quokka'? (searched in {', '.join(folders)})"


def test_an_unknown_path_is_refused_with_what_is_near_in_its_folder(here):
    assert refused("recipes/quoka.yaml") == "no file recipes/quoka.yaml; did you mean 'quokka.yaml'?"
    assert refused(here / "recipes") == f"{here / 'recipes'} is a folder; give a file in it"
