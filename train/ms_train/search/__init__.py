"""Search: the best settings of a recipe.

`tune` draws settings and trains with each, `trials` says what a trial is, `tune_report` and
`tune_plots` show what was found. These modules may import `ms_edge`, what `ms_train.training` may
import, and each other. To change how settings are drawn, begin with `tune`; what a setting may be
is in `ms_train.recipes.ranges`.
"""
