"""Measure ms-edge on public datasets of broadcasts and films, beside published systems.

The program is `python -m benchmarks.public --help`. `sets` reads the published annotations and the
outputs of other systems, and holds their published results. These modules may import `ms_edge` and
`ms_train`. To add a dataset, add it to `sets.SETS`.
"""
