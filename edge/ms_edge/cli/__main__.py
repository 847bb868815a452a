"""`python -m ms_edge.cli`: the program `ms-edge`."""

from ms_edge.cli.main import command

command()
