"""Jobs: many recordings in one run, whatever comes in between.

`classify` runs a job from end to end. `inputs` finds what the user named, `workers` are processes that answer, `ordered`
keeps the answers in the order of the inputs, `interrupts` hears signals, and `progress` says how far the run is. These modules
may import everything in `ms_edge` but `selftest` and `cli`. To change what happens to each recording, begin with `classify`.
"""
