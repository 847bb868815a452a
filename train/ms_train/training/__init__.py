"""Training: from a recipe and a dataset to a run folder.

`fit` trains a network, with batches from `rendering` and `batches`. `checkpoint` saves the state
after each epoch, from which an interrupted training continues. `decision` chooses thresholds.
`runs` writes and reads run folders. `finetune` makes a recipe from a trained network. These modules
may import `ms_edge`, the lower packages of `ms_train` (`datasets`, `augment`, `scores`, `recipes`)
and each other. To write another file into a run folder, begin with `runs`.
"""
