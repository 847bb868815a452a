"""Measurements of ms-edge beside other systems: `peers` runs the others, `speed` times them, `quality` counts their errors.

`python -m benchmarks.speed --help` and `python -m benchmarks.quality.accuracy --help` are the main programs. These packages may
import `ms_edge`, `ms_train` and `ms_export`; none of those imports them. To add a system, begin with `peers.systems`.
"""
