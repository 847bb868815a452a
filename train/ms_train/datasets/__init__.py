"""Datasets: labelled recordings from any source, and the cache of what is made from them.

`dataset` defines `Dataset` and `Recording`. `folder`, `manifest`, `examples`, `gtzan` and
`open_corpus` each read one kind of dataset, `by_name` chooses among them, and `splits` divides
recordings. `cache` stores decoded audio and features, `clips` cuts recordings into training clips,
and `activity` finds the active parts of a recording. These modules may import `ms_edge`, the
modules directly in `ms_train`, and each other. To add a kind of dataset, write a module and name it
in `by_name`.
"""
