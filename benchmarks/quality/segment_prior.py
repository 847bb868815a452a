"""Fit the prior of segments (`ms_edge.timeline.Prior`) and measure segments with it.

    python -m benchmarks.quality.segment_prior --corpus DIR -o DIR [--model FILE] [--hop S] [--part PART]

Programmes of `benchmarks.quality.programmes` are made from the corpus's part `calib`, on which the
prior is fitted, and from `val`, on which it is measured. No model is trained on these parts.
OUT/PART holds the programmes (kept; delete it to make them again), OUT/scores the scores of a
model's windows.

Two values are fitted, each as the best of a few candidates, because they depend little on each
other:

*change*: the cost of a change of label. It minimises the mean over kinds of programmes of the error
rate in time (see `benchmarks.quality.timelines`), plus a hundredth for each found boundary per
minute that is not true, since segments with little error in time may still flicker. Likelihood is
no measure here, because windows overlap, and a difficulty of a recording affects all its windows.
*beyond_s*: how long before its start and after its end a window still has the label. It minimises
the mean distance of found boundaries from true ones within a second at which the same labels
change.

Both parts are measured with the prior of this ms-edge, with the fitted one, and without one
(`--min-duration 0`). Writes segment_prior.json, segment_prior.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.quality.programmes import build
from benchmarks.quality.splices import LABELS, Stretch
from benchmarks.quality.timelines import measured
from benchmarks.quality.validation_set import part_of
from ms_edge.audio.file import open_audio
from ms_edge.classifier import MIN_SEGMENT_S, Classifier
from ms_edge.errors import MsEdgeError
from ms_edge.features.windows import owned_samples
from ms_edge.model.metadata import Decision
from ms_edge.results import Segment
from ms_edge.scoring.measures import Frames, boundaries, frames_of
from ms_edge.timeline import PRIOR, Prior, segments
from ms_train.tables import markdown_table

SEED = 1
CHANGES = (1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 12.0, 16.0)
SPURIOUS = 0.01  # added to the error rate for one boundary per minute
BEYOND_S = tuple(round(0.05 * step, 2) for step in range(-3, 8))
NEAR_S = 1.0
SHORT_S = 30.0  # as long as GTZAN's recordings


@dataclass(frozen=True)
class Programme:
    """One programme: its truth every 10 ms, and a model's scores of its windows."""

    name: str
    truth: Frames
    stretches: list[Stretch]
    scores: NDArray[np.float32]
    silent: NDArray[np.bool_]
    borders_s: NDArray[np.float64]

    @property
    def kind(self) -> str:
        """The kind of the programme."""
        return self.name.split("-")[0]

    def segments(self, decision: Decision, prior: Prior, min_duration_s: float = MIN_SEGMENT_S) -> tuple[Segment, ...]:
        """Return its segments with a prior."""
        return segments(self.scores, self.silent, self.borders_s, ("speech", "music"), decision, min_duration_s, prior)


def main() -> int:
    """Fit, measure, print the tables, and write the files."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality.segment_prior",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument(
        "--model", type=Path, help="model file with the labels speech and music (default: the bundled model)"
    )
    parser.add_argument("--hop", type=float, help="hop in seconds (default: the model's own)")
    parser.add_argument("--part", default="calib", help="part to fit on (default: calib)")
    args = parser.parse_args()
    try:
        classifier = Classifier(args.model, "cpu", hop_s=args.hop)
        parts = {
            part: programmes(args.corpus, args.out, part, classifier) for part in dict.fromkeys((args.part, "val"))
        }
    except MsEdgeError as error:
        print(f"segment_prior: {error}", file=sys.stderr)
        return 1
    decision = classifier.decision
    fitted, curve = fit(parts[args.part], decision)
    ways = {
        "each window's label": (PRIOR, 0.0),
        "a minimum of 1 s alone": (Prior(0.0, 0.0, {}), MIN_SEGMENT_S),
        "the prior in use": (PRIOR, MIN_SEGMENT_S),
        "the fitted prior": (fitted, MIN_SEGMENT_S),
    }
    numbers = {
        "model": classifier.model.sha256,
        "hop_s": classifier.spec.hop_s,
        "in_use": asdict(PRIOR),
        "fitted": asdict(fitted),
        "fitted_on": args.part,
        "curve": curve,
        "parts": {
            part: {name: measures(those, decision, *way) for name, way in ways.items()} for part, those in parts.items()
        },
    }
    (args.out / "segment_prior.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    text = markdown(numbers)
    (args.out / "segment_prior.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


def programmes(corpus: Path, out: Path, part: str, classifier: Classifier) -> list[Programme]:
    """Return the programmes of a part with a model's scores; make and score them if necessary."""
    stretches = build(corpus, out / part, part_of(corpus, part), SEED)
    of: dict[str, list[Stretch]] = defaultdict(list)
    for stretch in stretches:
        of[stretch.file].append(stretch)
    kept = out / "scores" / f"{part}-{classifier.model.sha256[:16]}-{classifier.spec.hop_s:g}.npz"
    if not kept.exists():
        kept.parent.mkdir(exist_ok=True)
        arrays = {}
        for name in tqdm(of, desc=f"scoring {part}", unit="file", file=sys.stderr, disable=None):
            for key, array in zip(
                ("scores", "silent", "borders_s"), scored(out / part / name, classifier), strict=True
            ):
                arrays[f"{name}/{key}"] = array
        np.savez(kept, allow_pickle=False, **arrays)
    found = np.load(kept)
    return [
        Programme(
            name,
            frames_of(((each.start_s, each.end_s, each.label) for each in parts), parts[-1].end_s),
            parts,
            *(found[f"{name}/{key}"] for key in ("scores", "silent", "borders_s")),
        )
        for name, parts in of.items()
    ]


def scored(path: Path, classifier: Classifier) -> tuple[NDArray[Any], ...]:
    """Return for the windows of a file the scores, whether they are silent, and the borders between
    them in seconds.
    """
    spec = classifier.spec
    with open_audio(path) as audio:
        found = classifier.window_scores(audio.blocks(spec.sample_rate_hz))
        owned = owned_samples(found.starts, spec.clip_samples, audio.frames)
    return found.scores, found.silent, np.concatenate(([0.0], np.round(owned.cumsum() / spec.sample_rate_hz, 3)))


def fit(of: Sequence[Programme], decision: Decision) -> tuple[Prior, dict[str, float]]:
    """Return the best prior, and the loss with each cost of a change."""
    prior = replace(PRIOR, beyond_s={})
    curve = {}
    for change in CHANGES:
        found = measures(of, decision, replace(prior, change=change), MIN_SEGMENT_S)["kinds"].values()
        curve[str(change)] = float(
            np.mean([each["error_rate"] + SPURIOUS * each["false_per_minute"] for each in found])
        )
    prior = replace(prior, change=float(min(curve, key=lambda change: curve[change])))
    pairs = [pair for each in of for pair in changes_found(each, each.segments(decision, prior))]

    def far(beyond_s: tuple[float, float]) -> float:
        return float(np.mean([abs(error - shift(before, after, beyond_s)) for before, after, error in pairs]))

    speech, music = min(product(BEYOND_S, repeat=2), key=far)
    return replace(prior, beyond_s={"speech": speech, "music": music}), curve


def shift(before: NDArray[np.bool_], after: NDArray[np.bool_], beyond_s: tuple[float, float]) -> float:
    """Return by how much a boundary is late if windows keep labels for these times beyond their
    ends.
    """
    ends, begins = np.array(beyond_s)[before & ~after], np.array(beyond_s)[after & ~before]
    return float(np.sum(ends) / max(1, len(ends)) - np.sum(begins) / max(1, len(begins)))


def changes_found(of: Programme, said: Sequence[Segment]) -> list[tuple[NDArray[np.bool_], NDArray[np.bool_], float]]:
    """Return for each true change with a found one near it the labels before and after, and the
    delay in seconds.
    """
    answer = frames_of(((part.start_s, part.end_s, part.label) for part in said), len(of.truth) / 100)
    true, found = (np.flatnonzero((steps[1:] != steps[:-1]).any(axis=1)) for steps in (of.truth, answer))
    pairs = []
    for place in true if len(found) else ():
        nearest = found[np.abs(found - place).argmin()]
        late_s = (nearest - place) / 100
        same = (of.truth[place : place + 2] == answer[nearest : nearest + 2]).all()
        if same and abs(late_s) <= NEAR_S:
            pairs.append((of.truth[place], of.truth[place + 1], late_s))
    return pairs


def measures(of: Sequence[Programme], decision: Decision, prior: Prior, min_duration_s: float) -> dict[str, Any]:
    """Return for each kind of programme the measures of `benchmarks.quality.timelines` and the
    numbers of found and true segments.
    """
    kinds: dict[str, Any] = {}
    singles: dict[str, list[int]] = defaultdict(list)
    said = [each.segments(decision, prior, min_duration_s) for each in of]
    for kind in dict.fromkeys(each.kind for each in of):
        pairs = [(each, answer) for each, answer in zip(of, said, strict=True) if each.kind == kind]
        found = measured(
            [each.truth for each, _ in pairs],
            [
                frames_of(((part.start_s, part.end_s, part.label) for part in answer), len(each.truth) / 100)
                for each, answer in pairs
            ],
        )
        edges = found["boundaries"]
        kinds[kind] = {
            "error_rate": found["error_rate"]["value"],
            "boundary_s": edges["median_s"],
            "missed": edges["missed"],
            "false_per_minute": edges["false_per_minute"],
            "segments": sum(len(answer) for _, answer in pairs),
            "true_segments": sum(1 + len(boundaries(each.truth)) for each, _ in pairs),
        }
    for each, answer in zip(of, said, strict=True):
        if each.kind == "single" and len(each.stretches) == 1 and len(each.truth) <= (SHORT_S + 1) * 100:
            singles[each.stretches[0].label].append(len(answer))
    return {
        "kinds": kinds,
        "segments_of_30_s": {label: float(np.mean(singles[label])) for label in LABELS if label in singles},
    }


def markdown(numbers: dict[str, Any]) -> str:
    """Return the fit, and a table for each part, as Markdown."""
    lines = [
        f"Model {numbers['model'][:12]}, hop {numbers['hop_s']:g} s. In use: {numbers['in_use']}.",
        f"Fitted on {numbers['fitted_on']}: {numbers['fitted']}.",
        "",
        markdown_table(
            ["a change costs", *numbers["curve"]],
            [["loss, %", *(f"{100 * loss:.2f}" for loss in numbers["curve"].values())]],
        ),
    ]
    head = ["", "kind", "error rate in %", "boundary", "missed", "false / min", "segments: found / true"]
    for part, ways in numbers["parts"].items():
        rows = []
        for way, found in ways.items():
            for kind, each in found["kinds"].items():
                edge = "-" if each["boundary_s"] is None else f"{each['boundary_s']:.2f} s"
                missed = "-" if each["missed"] is None else f"{100 * each['missed']:.0f} %"
                segments = f"{each['segments']} / {each['true_segments']}"
                rate, false = f"{100 * each['error_rate']:.1f}", f"{each['false_per_minute']:.1f}"
                rows.append([way, kind, rate, edge, missed, false, segments])
        lines += [f"\n{part}:\n", markdown_table(head, rows), "", "Mean segments of 30 s of one thing: "]
        lines += [
            f"* {way}: " + ", ".join(f"{label} {mean:.2f}" for label, mean in found["segments_of_30_s"].items())
            for way, found in ways.items()
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
