"""Recipes: what is built, trained, sampled and measured, as typed models and as YAML."""

from etsdm.recipe.compare import MISSING, Difference, canonical, diff, fingerprint
from etsdm.recipe.compute import Compute
from etsdm.recipe.load import DEFAULT_ARM, Arms, arm_document, arm_names, find, load_arms, names, override, read, recipe_schema, validate
from etsdm.recipe.models import Recipe
from etsdm.recipe.tree import Document, SourceLocation
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
