"""`ms-edge doctor`."""

from __future__ import annotations

from dataclasses import dataclass

from ms_edge.cli.arguments import UNUSABLE
from ms_edge.selftest.doctor import examine


@dataclass(frozen=True)
class Options:
    """The options of `ms-edge doctor`; the fields are the options' names."""

    model: str | None
    device: str
    json: bool


def run(options: Options) -> int:
    """Print the report, and return the exit status.

    It is 3 if an answer is wrong or the model cannot be used.
    """
    found = examine(options.model, options.device)
    print(found.json() if options.json else found.text())
    return 0 if found.ok else UNUSABLE
