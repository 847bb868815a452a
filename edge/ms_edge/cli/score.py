"""`ms-edge score`."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from ms_edge.cli.arguments import FAILED
from ms_edge.errors import UsageError
from ms_edge.output.records import read_records
from ms_edge.output.writers import printable
from ms_edge.scoring.references import read_references
from ms_edge.scoring.score import Scorer, score


@dataclass(frozen=True)
class Options:
    """The options of `ms-edge score`; the fields are the options' names."""

    records: str
    reference: str
    collar: float
    tolerance: float
    label: list[str]
    each: bool
    format: str

    def scorer(self) -> Scorer:
        """Return how to compare. Raises UsageError for invalid values."""
        labels = {}
        for text in self.label:
            label, equals, classes = text.rpartition("=")
            if not (label and equals):
                raise UsageError(f"--label takes NAME=CLASS, as in singing=music, not {text!r}.")
            labels[label] = classes
        return Scorer(self.tolerance, self.collar, labels)


def run(options: Options) -> int:
    """Print the scores, and return the exit status: 1 if a record or a reference was left out."""
    scorer = options.scorer()
    found = score(read_references(options.reference), read_records(options.records), scorer)
    print(found.json() if options.format == "json" else found.text(options.each))
    for sentence in (*found.left_out, *found.notes):
        print(f"ms-edge: {printable(sentence)}", file=sys.stderr)
    return FAILED if found.left_out else 0
