"""Recipes: one module for each system that can be trained.

`recipe` defines `Recipe`, `ranges` the values that a setting may have, and `by_name` lists the
recipes. Every other module holds one recipe as RECIPE. These modules may import `ms_edge`,
`ms_train.datasets`, `ms_train.augment`, `ms_train.scores` and each other. To add a recipe, write a
module and name it in `by_name`.
"""
