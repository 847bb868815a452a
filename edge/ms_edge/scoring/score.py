"""Compare the records of many recordings with their references, and print the result."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ms_edge.errors import UsageError
from ms_edge.results import Classification, Failure
from ms_edge.scoring.measures import CLASSES, FRAME_S, TOLERANCE_S, WITHIN_S, Counts, counted, frames_of
from ms_edge.scoring.references import BOTH, MUSIC, NEITHER, SPEECH, Part, meaning, stem_of

SCORE_SCHEMA = "ms-edge-score/1"
BEYOND_S = 1.0  # by which a reference may end after its recording without a note
NAMED = 10  # recordings of which the notes speak
LONGEST_S = 10_000_000.0  # 116 days are a billion frames


@dataclass(frozen=True)
class Scorer:
    """How recordings are compared; `labels` are meanings of labels, which replace those of `references`."""

    tolerance_s: float = TOLERANCE_S
    collar_s: float = 0.0
    labels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise UsageError for a value that is not allowed."""
        for name, value in (("--tolerance", self.tolerance_s), ("--collar", self.collar_s)):
            if not 0 <= value < 3600:
                raise UsageError(f"{name} must be from 0 to 3600 seconds, not {value:g}.")
        for label, classes in self.labels.items():
            if classes not in (SPEECH, MUSIC, BOTH, NEITHER):
                choices = f"{SPEECH}, {MUSIC}, {BOTH} or {NEITHER}"
                raise UsageError(f"--label {label}={classes}: a label means {choices}.")

    def compared(self, reference: Iterable[Part], found: Iterable[Part], seconds: float) -> dict[str, Counts]:
        """Return the counts of each class for one recording of that duration.

        Raises UsageError for a duration that no recording has.
        """
        if seconds > LONGEST_S:
            raise UsageError(f"a recording of {seconds:g} seconds cannot be scored; the longest has {LONGEST_S:,.0f}.")
        true, said = (
            frames_of(((start, end, meaning(label, self.labels)[0]) for start, end, label in parts), seconds)
            for parts in (reference, found)
        )
        return {
            name: counted(true[:, column], said[:, column], self.tolerance_s, self.collar_s)
            for column, name in enumerate(CLASSES)
        }

    def unknown(self, labels: Iterable[str]) -> dict[str, int]:
        """Return how often each label occurs that has no meaning, and so counts as neither class."""
        return {label: times for label, times in Counter(labels).items() if not meaning(label, self.labels)[1]}


@dataclass(frozen=True)
class Scores:
    """The counts of each recording, (path, seconds, counts by class), and sentences about what is not in them."""

    scorer: Scorer
    recordings: tuple[tuple[str, float, dict[str, Counts]], ...]
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """The duration of all recordings, in seconds."""
        return sum(seconds for _, seconds, _ in self.recordings)

    def total(self) -> dict[str, Counts]:
        """Return the counts of all recordings by class, and those of all classes as `total`."""
        classes = {name: sum((each[name] for _, _, each in self.recordings), Counts()) for name in CLASSES}
        return {**classes, "total": sum(classes.values(), Counts())}

    def record(self) -> dict[str, Any]:
        """Return everything as a dictionary, ready for JSON."""
        return {
            "schema": SCORE_SCHEMA,
            "settings": {
                "frame_s": FRAME_S,
                "collar_s": self.scorer.collar_s,
                "tolerance_s": self.scorer.tolerance_s,
                "boundaries_within_s": WITHIN_S,
                "labels": dict(self.scorer.labels),
            },
            "seconds": round(self.seconds, 3),
            **{name: counts.measures() for name, counts in self.total().items()},
            "recordings": [
                {"path": path, "seconds": seconds, **{name: counts.measures() for name, counts in classes.items()}}
                for path, seconds, classes in self.recordings
            ],
            "left_out": list(self.left_out),
        }

    def json(self) -> str:
        """Return the record as JSON."""
        return json.dumps(self.record(), indent=2)

    def text(self, each: bool = False) -> str:
        """Return a table of the total, and with `each` also one of the recordings."""
        lines = [_table(self.total(), self.scorer.tolerance_s)]
        number = len(self.recordings)
        lines.append(f"\n{number:,} recording{'' if number == 1 else 's'}, {self.seconds:,.1f} seconds")
        if each:
            from ms_edge.output.writers import printable

            rows = [
                [*(_percent(counts[name].measures()["frames"]["f1"]) for name in CLASSES), printable(path)]
                for path, _, counts in self.recordings
            ]
            lines.append("\n" + "\n".join(_aligned([["F1", "", ""], [*CLASSES, "path"], *rows], last_left=True)))
        return "\n".join(lines)


def score(
    references: Mapping[str, Sequence[Part]], results: Iterable[Classification | Failure], scorer: Scorer
) -> Scores:
    """Compare results with references of the same stem.

    Raises UsageError if two results have one stem, if a result has no segments, and if none has a
    reference.
    """
    found: dict[str, Classification | Failure] = {}
    for result in results:
        stem = stem_of(result.path)
        if stem in found:
            raise UsageError(
                f"{found[stem].path} and {result.path} are both records of {stem}; "
                "score each recording, and each channel, by itself."
            )
        found[stem] = result
    pairs, left_out = [], []
    for stem, result in found.items():
        if stem not in references:
            left_out.append(f"{result.path}: no reference is named {stem}; it is not scored.")
        elif isinstance(result, Failure):
            left_out.append(f"{result.path}: its record is an error ({result.code}); it is not scored.")
        elif not result.segments:
            raise UsageError(f"{result.path}: its record has no segments; classify with --timeline.")
        else:
            pairs.append((stem, result))
    left_out += [
        f"{stem}: no record is of this reference; it is not scored." for stem in references if stem not in found
    ]
    if not pairs:
        raise UsageError(f"no recording can be scored: {left_out[0] if left_out else 'there is no record.'}")
    recordings = tuple(
        (
            result.path,
            result.duration_s,
            scorer.compared(
                references[stem],
                ((part.start_s, part.end_s, part.label) for part in result.segments),
                result.duration_s,
            ),
        )
        for stem, result in pairs
    )
    return Scores(scorer, recordings, tuple(left_out), tuple(_notes(references, pairs, scorer)))


def _notes(
    references: Mapping[str, Sequence[Part]], pairs: Sequence[tuple[str, Classification]], scorer: Scorer
) -> Iterable[str]:
    """Say what of the references is not scored, and which labels count as neither class."""
    said = 0
    for stem, result in pairs:
        parts = references[stem]
        end_s = max((end for _, end, _ in parts), default=0.0)
        empty = sum(end <= max(0.0, start) for start, end, _ in parts)
        if end_s <= result.duration_s + BEYOND_S and not empty:
            continue
        said += 1
        if said > NAMED:
            continue
        if empty:
            segments = "a segment of its reference is" if empty == 1 else f"{empty:,} segments of its reference are"
            yield f"{result.path}: {segments} empty or before 0 s, and not scored."
        if end_s > result.duration_s + BEYOND_S:
            yield (
                f"{result.path}: its reference goes on to {end_s:,.1f} s, and the recording has {result.duration_s:,.1f} s; "
                "what is beyond is not scored."
            )
    if said > NAMED:
        yield f"the same holds for {said - NAMED:,} other references."
    sides = {
        "references": (label for stem, _ in pairs for *_, label in references[stem]),
        "records": (part.label for _, result in pairs for part in result.segments),
    }
    for side, labels in sides.items():
        if unknown := scorer.unknown(labels):
            shown = ", ".join(f"{label!r} ({times:,})" for label, times in list(unknown.items())[:10])
            yield f"labels of the {side} that count as neither: {shown}; --label NAME=speech changes that."


def _table(counts: Mapping[str, Counts], tolerance_s: float) -> str:
    """Return the measures of each class, one column each."""
    measures = {name: each.measures() for name, each in counts.items()}

    def row(title: str, *keys: str, unit: str = "%") -> list[str]:
        cells = []
        for each in measures.values():
            value: Any = each
            for key in keys:
                value = value[key]
            digits = 2 if unit == "s" else 0
            cells.append(_percent(value) if unit == "%" else "-" if value is None else f"{value:,.{digits}f}")
        return [title, *cells]

    rows = [
        ["", *measures],
        row("seconds in the reference", "seconds", unit="s"),
        row("frames of 10 ms: precision, %", "frames", "precision"),
        row("frames of 10 ms: recall, %", "frames", "recall"),
        row("frames of 10 ms: F1, %", "frames", "f1"),
        row("segments in the reference", "segments", "true", unit=""),
        row("segments found", "segments", "found", unit=""),
        row(f"segments, start within {tolerance_s:g} s: F1, %", "segments", "onset", "f1"),
        row(f"segments, start and end within {tolerance_s:g} s: F1, %", "segments", "onset_offset", "f1"),
        row("boundaries, median error, s", "boundaries", "median_s", unit="s"),
        row("boundaries, mean error, s", "boundaries", "mean_s", unit="s"),
        row(f"boundaries missed by over {WITHIN_S:g} s, %", "boundaries", "missed"),
        row("boundaries found that are none, %", "boundaries", "false"),
    ]
    return "\n".join(_aligned(rows))


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _aligned(rows: Sequence[Sequence[str]], last_left: bool = False) -> list[str]:
    """Return lines with the cells of each column below each other; numbers are to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    left = len(widths) - 1 if last_left else 0
    return [
        "  ".join(
            cell.ljust(width) if column == left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
