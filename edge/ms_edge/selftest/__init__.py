"""Self-tests: does the model give its reference results on this machine, and how fast is it?

`golden` makes the test signal and compares the model's scores with the stored ones, `deviation`
measures how far two arrays differ, `device` holds the result of a device that cannot be used.
`doctor` and `benchmark` do the work of the commands of these names. These modules may import
everything in `ms_edge` except `cli`. To examine something else about a machine, add a field to
`doctor.Examination`.
"""
