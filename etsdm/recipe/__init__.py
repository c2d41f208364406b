"""Recipes: what is built, trained, sampled and measured, as typed models and as YAML."""

from etsdm.recipe.arms import DEFAULT_ARM, arm_document, arm_names
from etsdm.recipe.comparison import MISSING, Difference, canonical, diff, fingerprint
from etsdm.recipe.document import Document, Mark
from etsdm.recipe.library import find, names
from etsdm.recipe.loading import Arms, load_arms, recipe_schema
from etsdm.recipe.models import Compute, Evaluation, Recipe, Sampling, Training
from etsdm.recipe.overrides import override
from etsdm.recipe.reading import read
from etsdm.recipe.validation import validate
from etsdm.recipe.writing import to_yaml

__all__ = [
    "DEFAULT_ARM",
    "MISSING",
    "Arms",
    "Compute",
    "Difference",
    "Document",
    "Evaluation",
    "Mark",
    "Recipe",
    "Sampling",
    "Training",
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
