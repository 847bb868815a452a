"""The program `ms-edge`: parse the command line, call a function, print the result.

`arguments` defines the command line and `main` runs it. Each command has a module of its name, with
a dataclass `Options` (one field for each option) and a function `run(options)` that returns the exit
status. `options` holds what `classify` and `stream` have in common; `descriptors` looks after
standard input, output and error. These modules may import everything in `ms_edge`, and nothing
imports them. To add an option, add it to `arguments` and to the command's `Options`.
"""
