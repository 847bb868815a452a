"""Self-tests: does this machine compute what the model's makers computed, and how fast?

`golden` makes a signal and compares the model's answer with the stored one, `deviation` says how far two arrays are apart,
`doctor` and `benchmark` are the commands of that name. These modules may import everything in `ms_edge` but `cli`. To examine
something else about a machine, begin with `doctor`.
"""
