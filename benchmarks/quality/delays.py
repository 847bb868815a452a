"""Measure what a bounded delay costs: live segments beside those of the whole recording.

    python -m benchmarks.quality.delays --corpus DIR -o DIR [--model FILE] [--part PART]

The programmes are those of `benchmarks.quality.segment_prior` (part `val`, which no model is trained
on). Each is decided as `ms-edge stream` decides it (`ms_edge.live.online`), with several delays, and
compared with its truth, and with the timeline of `ms-edge classify`:

*differs*: the share of time in which the labels are not those of the timeline.
*other segments*: the share of the timeline's segments without a live one of the same label whose
start and end are at most half a second away.
The other measures are those of `benchmarks.quality.timelines`.

Writes delays.json, delays.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality.segment_prior import Programme, programmes
from benchmarks.quality.timelines import measured
from ms_edge.classifier import MIN_SEGMENT_S, Classifier
from ms_edge.errors import MsEdgeError
from ms_edge.live.online import Online, Window
from ms_edge.live.session import plan
from ms_edge.scoring.measures import frames_of
from ms_edge.timeline import PRIOR, window_labels
from ms_train.tables import markdown_table

DELAYS_S = (1.0, 1.5, 2.0, 3.0, 4.0, 10.0)
NEAR_S = 0.5

Parts = list[tuple[float, float, str]]  # start and end in seconds, and label


def main() -> int:
    """Measure, print the table, and write the files."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality.delays",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("-o", "--out", type=Path, required=True, help="as for segment_prior, whose programmes are used")
    parser.add_argument(
        "--model", type=Path, help="model file with the labels speech and music (default: the bundled model)"
    )
    parser.add_argument("--part", default="val", help="part of the corpus (default: val)")
    args = parser.parse_args()
    try:
        classifier = Classifier(args.model, "cpu")
        found = programmes(args.corpus, args.out, args.part, classifier)
    except MsEdgeError as error:
        print(f"delays: {error}", file=sys.stderr)
        return 1
    whole = [offline(each, classifier) for each in found]
    rows = {"whole recording": measures(found, whole, whole)}
    for delay_s in DELAYS_S:
        rows[f"{delay_s:g} s"] = measures(found, whole, [live(each, classifier, delay_s) for each in found])
    numbers = {
        "model": classifier.model.sha256,
        "part": args.part,
        "programmes": len(found),
        "minutes": sum(len(each.truth) for each in found) / 6000,
        "delays": rows,
    }
    (args.out / "delays.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    text = markdown(numbers)
    (args.out / "delays.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


def offline(of: Programme, classifier: Classifier) -> Parts:
    """Return the segments of the timeline."""
    return [(part.start_s, part.end_s, part.label) for part in of.segments(classifier.decision, PRIOR, MIN_SEGMENT_S)]


def live(of: Programme, classifier: Classifier, delay_s: float) -> Parts:
    """Return the segments that are decided with a delay."""
    labels, decision = classifier.model.metadata.labels, classifier.decision
    planned = plan(classifier, delay_s)
    online = Online(labels, decision, round(1000 * MIN_SEGMENT_S), 0.0)
    times = np.round(1000 * of.borders_s).astype(int).tolist()
    names = window_labels(of.scores, labels, decision, of.silent)
    windows = list(map(Window, times[:-1], times[1:], of.scores.tolist(), of.silent.tolist(), names))
    changes, first, size = [], 0, planned.few
    while first + size < len(windows):
        online.add(windows[first : first + size])
        first += size
        size, lag_ms = planned.next_batch(online.settled)
        changes += online.decide(lag_ms)
    changes += online.close(windows[first:], times[-1])
    return [
        (change.start_ms / 1000, change.at_ms / 1000, change.label)
        for change in changes
        if change.kind == "segment_end"
    ]


def measures(of: Sequence[Programme], whole: Sequence[Parts], answers: Sequence[Parts]) -> dict[str, Any]:
    """Return all measures of the answers for the programmes."""
    truth = [each.truth for each in of]
    steps, expected = (
        [frames_of(parts, len(each) / 100) for parts, each in zip(some, truth, strict=True)]
        for some in (answers, whole)
    )
    differing = sum(int((one != other).any(axis=1).sum()) for one, other in zip(steps, expected, strict=True))
    lacking = sum(
        not any(
            label == other and abs(start_s - begins_s) <= NEAR_S and abs(end_s - ends_s) <= NEAR_S
            for begins_s, ends_s, other in answer
        )
        for parts, answer in zip(whole, answers, strict=True)
        for start_s, end_s, label in parts
    )
    found = measured(truth, steps)
    kinds = list(dict.fromkeys(each.kind for each in of))
    return {
        "error_rate": found["error_rate"]["value"],
        "kinds": {
            kind: measured(
                *([s for s, each in zip(some, of, strict=True) if each.kind == kind] for some in (truth, steps))
            )["error_rate"]["value"]
            for kind in kinds
        },
        **found["boundaries"],
        "segments": sum(map(len, answers)),
        "differs": differing / sum(map(len, steps)),
        "other_segments": lacking / sum(map(len, whole)),
    }


def markdown(numbers: dict[str, Any]) -> str:
    """Return the table."""
    kinds = list(next(iter(numbers["delays"].values()))["kinds"])
    head = [
        "delay",
        "error rate in %",
        *kinds,
        "boundary",
        "missed",
        "false / min",
        "segments",
        "differs",
        "other segments",
    ]
    rows = [
        [
            delay,
            *(f"{100 * rate:.2f}" for rate in (found["error_rate"], *found["kinds"].values())),
            f"{found['median_s']:.2f} s",
            f"{100 * found['missed']:.1f} %",
            f"{found['false_per_minute']:.2f}",
            str(found["segments"]),
            f"{100 * found['differs']:.2f} %",
            f"{100 * found['other_segments']:.1f} %",
        ]
        for delay, found in numbers["delays"].items()
    ]
    return (
        f"{markdown_table(head, rows)}\n\n{numbers['programmes']} programmes of {numbers['part']}, "
        f"{numbers['minutes']:.0f} minutes, model {numbers['model'][:12]}.\n"
    )


if __name__ == "__main__":
    sys.exit(main())
