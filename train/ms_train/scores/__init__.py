"""Scores: from what a network gives to probabilities, and how good these are.

`outputs` turns logits into probabilities, `losses` is what training makes smaller, `metrics` counts what is right, and
`calibration` measures whether probabilities are true. These modules may import `ms_edge`, `ms_train.datasets` and each other.
To add a measure, begin with `metrics`.
"""
