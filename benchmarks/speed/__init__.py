"""How fast ms-edge is: `python -m benchmarks.speed --help`.

`bench` runs the cases, `contenders` are the systems that are timed, `timing` times processes, and `report` (with `tables`,
`plots` and `words`) shows what was found. `regression` counts what the hot path costs; `gpu`, `latency`, `means` and `needed`
measure one thing each. These modules may import `ms_edge`, `ms_train` and `benchmarks.peers`. To time another system, begin
with `contenders`.
"""
