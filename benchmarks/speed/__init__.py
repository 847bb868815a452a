"""Measure how fast ms-edge is.

`python -m benchmarks.speed --help` describes the main program. `bench` runs the cases, `contenders`
are the systems, `timing` times processes, and `report` (with `tables`, `plots`, `words` and
`comparison`) writes the results. `regression` counts what the hot path costs; `gpu` and `latency`
measure one thing each. These modules may import `ms_edge`, `ms_train` and `benchmarks.peers`. To
time another system, begin with `contenders`.
"""
