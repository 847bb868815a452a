"""The program `ms-edge`: parse, call, print.

`arguments` says what may be typed, `main` calls what was asked for, and `info` writes what `ms-edge info` prints. These
modules may import everything in `ms_edge`, and nothing imports them. To add an option or a command, begin with `arguments`.
"""
