"""The program `ms-train`.

`arguments` is the parser, `options` holds a class of options for each command, and `main` calls the
function behind a command and prints its result. These modules may import everything in `ms_edge`
and `ms_train`; no other module imports them. To add an option or a command, begin with `arguments`.
"""
