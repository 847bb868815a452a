"""Datasets: recordings with a label each, wherever they come from, and what is kept of them on disk.

`dataset` says what a `Dataset` and a `Recording` are. `folder`, `manifest`, `examples`, `gtzan` and `open_corpus` each read one
kind of dataset, `by_name` chooses among them, and `splits` divides recordings. `cache` keeps decoded audio and features, `clips`
cuts recordings into what a network is trained on, and `activity` finds where a recording sounds. These modules may import
`ms_edge`, the modules directly in `ms_train`, and each other. To add a kind of dataset, write a module and name it in `by_name`.
"""
