"""Measure ms-edge and other systems on a public dataset.

    python -m benchmarks.public NAME [--repositories DIR] [--annotations DIR] [--audio DIR] [-o DIR]

All systems are compared with the published annotations by the measures of `ms-edge score`: frames
of 10 ms of all recordings together. --repositories is a folder with clones of the repositories that
hold annotations and outputs of other systems (github.com/biboamy/AVASpeech_Music_Labels,
biboamy/TVSM-dataset and ina-foss/InaGVAD); --annotations is the folder of annotations that are not
in them. With --audio, its recordings are classified by ms-edge as shipped and compared too;
recordings without annotations are not used. Without --audio, only outputs of other systems are
compared. Writes records.jsonl and NAME.json into -o.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.public.sets import SETS, Parts, PublicSet, Sources
from ms_edge.errors import MsEdgeError, UsageError
from ms_edge.output.records import read_records
from ms_edge.results import Failure
from ms_edge.scoring.measures import Counts
from ms_edge.scoring.references import stem_of
from ms_edge.scoring.score import Scorer
from ms_train.tables import markdown_table

OURS = "ms-edge"
LONGER_S = 5.0  # a recording that is longer than its dataset's by more is not cut as the dataset says


def main() -> int:
    """Compare, print the table, and write the files."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.public",
        description=__doc__,
        epilog="datasets:\n\n"
        + "\n".join(f"  {name}: {each.title}; audio {each.audio}" for name, each in SETS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=SETS, metavar="NAME", help=", ".join(SETS))
    parser.add_argument("--repositories", type=Path, metavar="DIR", help="folder of local clones")
    parser.add_argument("--annotations", type=Path, metavar="DIR", help="folder of published annotations")
    parser.add_argument("--audio", type=Path, metavar="DIR", help="folder of the recordings")
    parser.add_argument("--model", metavar="FILE", help="model file (default: the bundled model)")
    parser.add_argument("-o", "--out", type=Path, metavar="DIR")
    args = parser.parse_args()
    if args.audio and not args.out:
        parser.error("--audio needs -o DIR for the records")
    chosen = SETS[args.name]
    try:
        sources = Sources(args.repositories, args.annotations)
        references = chosen.references(sources)
        found: dict[str, dict[str, Counts]] = {}
        lengths: dict[str, float] = {}
        if args.audio:
            answers, lengths = classified(args.audio, args.model, args.out)
            missing = sorted(set(references) - set(answers))
            references = {name: parts for name, parts in references.items() if name in answers}
            print(f"{len(references)} recordings; {len(missing)} have no audio here.", file=sys.stderr)
            found[OURS] = compared(chosen, references, answers, lengths)
        if args.repositories:
            for system, read in chosen.outputs.items():
                found[system] = compared(chosen, references, read(sources), lengths)
        if not found:
            raise UsageError("nothing to compare: give --audio, or --repositories with outputs of other systems.")
    except MsEdgeError as error:
        print(f"public: {error}", file=sys.stderr)
        return 1
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / f"{args.name}.json").write_text(
            json.dumps(record(chosen, references, found), indent=1) + "\n", "utf-8"
        )
    print(markdown(chosen, references, found))
    return 0


def classified(audio: Path, model: str | None, out: Path) -> tuple[Parts, dict[str, float]]:
    """Return the segments and the seconds of each recording, as ms-edge classifies it.

    An interrupted run continues where it stopped. Raises UsageError if the command fails.
    """
    out.mkdir(parents=True, exist_ok=True)
    records = out / "records.jsonl"
    command = [
        sys.executable,
        "-m",
        "ms_edge.cli",
        "classify",
        "-r",
        str(audio),
        "--timeline",
        "-o",
        str(records),
        "--resume",
    ]
    code = subprocess.run([*command, *(["--model", model] if model else [])]).returncode
    if code not in (0, 1):
        raise UsageError(f"ms-edge classify ended with status {code}.")
    parts: Parts = {}
    lengths = {}
    for result in read_records(str(records)):
        stem = stem_of(result.path)
        if isinstance(result, Failure):
            continue
        if stem in parts:
            raise UsageError(f"{audio}: two recordings are named {stem}; keep one of them.")
        parts[stem] = [(part.start_s, part.end_s, part.label) for part in result.segments]
        lengths[stem] = result.duration_s
    return parts, lengths


def compared(chosen: PublicSet, references: Parts, answers: Parts, lengths: Mapping[str, float]) -> dict[str, Counts]:
    """Return the counts of each class over all recordings; recordings without an answer raise UsageError."""
    scorer = Scorer(collar_s=chosen.collar_s)
    total = {name: Counts() for name in chosen.classes}
    for stem, reference in references.items():
        if stem not in answers:
            raise UsageError(f"{stem}: a system has no answer for it.")
        seconds = chosen.seconds or lengths.get(stem) or max((end for _, end, _ in reference), default=0.0)
        if chosen.seconds and lengths.get(stem, 0.0) > chosen.seconds + LONGER_S:
            raise UsageError(
                f"{stem} is {lengths[stem]:.0f} s long, and {chosen.seconds:.0f} s of it are annotated; cut it."
            )
        counts = scorer.compared(reference, answers[stem], seconds)
        total = {name: total[name] + counts[name] for name in total}
    return total


def record(chosen: PublicSet, references: Parts, found: Mapping[str, Mapping[str, Counts]]) -> dict[str, Any]:
    """Return all numbers, ready for JSON."""
    return {
        "dataset": chosen.title,
        "recordings": len(references),
        "collar_s": chosen.collar_s,
        "systems": {
            system: {
                **{name: counts.measures() for name, counts in classes.items()},
                "published": dict(chosen.published.get(system, {})),
            }
            for system, classes in found.items()
        },
        "source": chosen.source,
    }


def markdown(chosen: PublicSet, references: Parts, found: Mapping[str, Mapping[str, Counts]]) -> str:
    """Return a table with a row for each system: its measures, and the published ones in brackets."""
    columns = [(name, measure) for name in chosen.classes for measure in chosen.measures]
    rows = []
    for system, classes in found.items():
        published = chosen.published.get(system, {})
        cells = []
        for name, measure in columns:
            value = classes[name].measures()["frames"][measure]
            there = published.get(f"{name} {measure}")
            cells.append(
                ("-" if value is None else f"{100 * value:.1f}") + ("" if there is None else f" ({there:.1f})")
            )
        rows.append([system, *cells])
    head = ["system", *(f"{name} {measure.replace('f1', 'F1')}, %" for name, measure in columns)]
    collar = f" Frames up to {chosen.collar_s:g} s from a boundary are left out." if chosen.collar_s else ""
    source = f" In brackets: {chosen.source}." if chosen.source else ""
    text = markdown_table(head, rows)
    return f"{chosen.title}\n\n{text}\n\nRecordings: {len(references):,}.{collar}{source}"


if __name__ == "__main__":
    sys.exit(main())
