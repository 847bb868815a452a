"""All recipes by name. This module imports TensorFlow and Keras only when a recipe is loaded."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ms_edge.errors import UsageError

if TYPE_CHECKING:
    from ms_train.recipes.recipe import Recipe

# Each is a module of this package that holds the recipe as RECIPE.
NAMES = (
    "logstft_cnn",
    "resized_cnn",
    "mel_dscnn",
    "linear_dscnn",
    "mel_patches",
    "mel_residual",
    "mel_pair",
    "mel_attention",
)


def recipes() -> dict[str, Recipe]:
    """Return all recipes by name."""
    return {name: import_module(f"ms_train.recipes.{name}").RECIPE for name in NAMES}


def get_recipe(name: str) -> Recipe:
    """Return the recipe of that name. Raises UsageError with the known names if there is none."""
    known = recipes()
    if name not in known:
        raise UsageError(f"There is no recipe {name!r}; there are {', '.join(known)}.")
    return known[name]
