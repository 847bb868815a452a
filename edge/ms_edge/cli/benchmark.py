"""`ms-edge benchmark`."""

from __future__ import annotations

from dataclasses import dataclass

from ms_edge.cli.arguments import UNUSABLE
from ms_edge.selftest.benchmark import measure


@dataclass(frozen=True)
class Options:
    """The options of `ms-edge benchmark`; the fields are the options' names."""

    model: str | None
    device: str
    seconds: float
    json: bool


def run(options: Options) -> int:
    """Measure, print the report, and return the exit status.

    It is 3 if an answer is wrong or the model cannot be used.
    """
    found = measure(options.model, options.device, options.seconds)
    print(found.json() if options.json else found.text())
    return 0 if found.ok else UNUSABLE
