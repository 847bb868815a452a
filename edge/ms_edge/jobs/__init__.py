"""Jobs: the classification of many recordings in one run.

`classify` runs a job from start to end. `inputs` finds the recordings, `workers` classifies them in
processes and returns the results in the order of the inputs, `interrupts` handles signals, and
`progress` shows how far the run is. `limits` says how many workers help. These modules may import
everything in `ms_edge` except `selftest` and `cli`. To change what happens to each recording, begin with `classify`.
"""
