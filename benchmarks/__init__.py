"""Measurements of ms-edge and of other systems.

`peers` runs the other systems, `speed` times them, `quality` counts their errors, and `public`
compares them on public datasets. These programs have `--help`, such as `python -m benchmarks.speed
--help`. They may import `ms_edge` and `ms_train`, which do not import them. To add a system, begin
with `peers.systems`.
"""
