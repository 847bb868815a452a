"""`python -m ms_train.cli`: the program `ms-train`."""

from ms_train.cli.main import command

command()
