"""Scores: from a network's outputs to probabilities, and measures of them.

`outputs` turns logits into probabilities, `losses` holds the loss of independent labels, `metrics`
measures accuracy, and `calibration` measures whether probabilities are true. These modules may
import `ms_edge`, `ms_train.datasets` and each other. To add a measure, begin with `metrics`.
"""
