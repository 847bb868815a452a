"""The program `ms-train`: parse, call, print.

`arguments` says what may be typed, and `main` calls what was asked for. These modules may import everything in `ms_edge` and
`ms_train`, and nothing imports them. To add an option or a command, begin with `arguments`.
"""
