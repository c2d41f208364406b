"""Recipes: typed descriptions of data, model, training, sampling and evaluation, and their YAML files."""

from etsdm.recipe.arms import DEFAULT_ARM, arm_document, arm_names
from etsdm.recipe.compare import MISSING, Difference, canonical, diff, fingerprint
from etsdm.recipe.compute import Compute
from etsdm.recipe.files import find, names, read
from etsdm.recipe.load import Arms, load_arms, override, recipe_schema, validate
from etsdm.recipe.locations import SourceLocation
from etsdm.recipe.models import Recipe
from etsdm.recipe.tree import Document
from etsdm.recipe.yaml import to_yaml

__all__ = [
    "DEFAULT_ARM",
    "MISSING",
    "Arms",
    "Compute",
    "Difference",
    "Document",
    "Recipe",
    "SourceLocation",
    "arm_document",
    "arm_names",
    "canonical",
    "diff",
    "find",
    "fingerprint",
    "load_arms",
    "names",
    "override",
    "read",
    "recipe_schema",
    "to_yaml",
    "validate",
]
