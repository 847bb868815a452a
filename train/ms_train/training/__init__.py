"""Training: from a recipe and a dataset to a run folder.

`fit` trains, with batches that `rendering` and `batches` make; `checkpoint` lets it go on where it was interrupted, `decision`
chooses thresholds, and `runs` writes and reads the run folder. `finetune` makes a recipe of a trained network. These modules may
import `ms_edge`, what stands below them in `ms_train` (`datasets`, `augment`, `scores`, `recipes`) and each other.
To write something else into a run folder, begin with `runs`.
"""
