"""Write the results of benchmarks.speed as Markdown and as plots.

    python -m benchmarks.speed.report SPEED.json [--against OLD.json] [--docs]

Writes speed.md and plots beside the JSON. With --docs, writes the JSON to
docs/benchmarks/speed.json, the plots beside it, and the page docs/benchmarks.md (`make bench-docs
JSON=...`).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.speed.plots import plot
from benchmarks.speed.tables import (
    by_system,
    of_environments,
    of_files,
    of_goals,
    of_latency,
    of_start,
    of_what_is_missing,
    table,
    times_real,
)
from benchmarks.speed.words import FILES, SCHEMA, Found

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
MODELS = ROOT / "edge" / "ms_edge" / "models"
BUSY = 0.5  # a larger load means that other programs used the machine
# Ratio of the slowest to the fastest time of the same work between cases; a larger one means that
# other programs used the cores.
UNSTEADY = 1.25
HOW = """*Whole*: from the start of the process to its end, start-up included. *Without start-up*: a process that has
answered once, from the path to the answer. *Floor*: read the file, mix and resample it to 16 kHz mono, and
transform every frame once with `scipy.fft`; importing SciPy takes most of its time on a short file. Values are
medians, with quartiles in brackets, or the number of runs if there were fewer than five.

Each process has one core and one thread per library, and files are in the page cache. Systems take turns, each
for at most ten seconds per case. The first run of each counts only if it is the only one. The audio is real: the
sample clips in `tests/data`, one after another at changing levels, at least 95 % of its tenths of a second above
-60 dBFS. Files longer than 10 s are speech in their first half and music in their second. A wrong answer is not
timed: the label of one clip must be right, and of two halves both labels must be found. Of many files a quarter
may be wrong, and the number of wrong labels is shown.
"""


def _named(sha256: str) -> str:
    """Return the first digits of the SHA-256 of a model, after its name if ms-edge brings the model."""
    digits = sha256[:12]
    names = {hashlib.sha256(path.read_bytes()).hexdigest(): path.stem for path in MODELS.glob("*.onnx")}
    return f"{names[sha256]} ({digits})" if sha256 in names else digits


def markdown(found: Found, old: Found | None = None, plots: str = "") -> str:
    """Return all results as tables; `plots` is the prefix of links to the plots."""
    machine, cases = found["machine"], found["cases"]
    load = machine["load_before"]
    parts = [
        "**A quick run: it shows that everything runs; its figures mean little.**\n" if found["quick"] else "",
        f"Measured on {found['measured']}: {machine['cpu']}, {machine['cores']} cores, {machine['memory_bytes'] / 2**30:.0f} GiB, "
        f"{machine['system']}; model {_named(found['model'])}. Load before and after: {load:.1f} and {machine['load_after']:.1f}"
        f"{' (**others were using the machine**)' if load > BUSY else ''}.{_pace(machine)}\n",
        HOW,
        *of_goals(found),
    ]
    files = any(case in cases for case in FILES)
    if files:
        for title, kind in (("The whole command", "whole"), ("Without start-up", "inside")):
            head = "## Throughput\n\n" if kind == "whole" else ""
            cells = by_system(found, lambda one, kind=kind: times_real(one, kind))
            parts.append(f"{head}{title}, times real time:\n\n{cells}")
        parts.append(f"![Throughput]({plots}throughput.png)\n")
    parts += [*of_files(cases.get("files", {})), *of_start(cases.get("start", {}), plots)]
    parts += [*of_latency(cases.get("latency", {}), plots)]
    if files:
        cells = by_system(found, lambda one: f"{one['peak_bytes'] / 1e6:,.0f}" if "peak_bytes" in one else "")
        parts.append(
            "## Peak memory\n\nMB of the whole command, resident (under 11, it is the measuring process's own):\n\n"
            + cells
        )
    parts += [*of_environments(found["systems"]), *of_what_is_missing(found)]
    if old:
        parts.append(comparison(found, old))
    return "\n".join(part for part in parts if part)


def unsteadiness(machine: Found) -> float:
    """Return the ratio of the slowest to the fastest time of the same work between cases; 1 for
    older runs.
    """
    times = machine.get("pace_s", [1.0])
    return float(max(times) / min(times))


def _pace(machine: Found) -> str:
    if "pace_s" not in machine:
        return ""
    times = unsteadiness(machine)
    return f" One and the same work took up to {times:.2f} times as long between some cases as between others" + (
        ": **the machine did not keep its pace**, figures of cases do not compare." if times > UNSTEADY else "."
    )


def comparison(found: Found, old: Found) -> str:
    """Return each system's times over those of an earlier run; systems other than ms-edge show how
    alike the machines were.
    """
    rows = []
    for case, systems in found["cases"].items():
        for name, one in systems.items():
            before = old["cases"].get(case, {}).get(name, {})
            for kind in ("whole", "inside", "p50", "p99", "peak_bytes"):
                if kind not in one or kind not in before or one.get("audio_s") != before.get("audio_s"):
                    continue
                new, was = (
                    each[kind]["median"] if isinstance(each[kind], dict) else each[kind] for each in (one, before)
                )
                rows.append([case, name, kind.replace("_", " "), f"{new / was:.2f}"])
    same = found["machine"]["cpu"] == old["machine"]["cpu"]
    return (
        f"## Against {old['measured']}, model {_named(old['model'])}\n\nNew over old, under 1 is better"
        + ("" if same else "; **another machine**")
        + ":\n\n"
        + table(["case", "system", "what", "ratio"], rows)
    )


def write(found: Found, folder: Path, old: Found | None = None) -> str:
    """Write speed.md and the plots, and return the Markdown."""
    text = markdown(found, old)
    (folder / "speed.md").write_text(text, "utf-8")
    plot(found, folder)
    return text


PAGE = """# Benchmarks

`make bench` measures for about half an hour, on a machine that does nothing else, and `make bench-docs
JSON=speed.json` writes this page from the result. `make bench BENCH=--quick` shows in minutes that everything
runs, `BENCH=--no-peers` leaves the other systems out, and `BENCH='--against old.json'` compares with an earlier
run. On a deployed machine, run `ms-edge benchmark`; for a CUDA device, `python -m benchmarks.speed.gpu`.
`make bench-check` checks that the code did not become slower: it compares counts, not times.

How often ms-edge is right is in the [model card](model-card.md); [Public datasets](public-datasets.md) shows how to
measure it on the datasets of the field.

"""


def page(found: Found, old: Found | None = None) -> str:
    """Return the text of docs/benchmarks.md."""
    return PAGE + markdown(found, old, plots="benchmarks/")


def read(path: Path) -> Found:
    """Read a speed.json. Raises OSError, or ValueError if it is none."""
    found: Any = json.loads(path.read_text("utf-8"))
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise ValueError(f"{path}: is not of benchmarks.speed ({SCHEMA}).")
    return found


def main() -> int:
    """Write the report of a JSON file."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("json", type=Path)
    parser.add_argument("--against", type=Path, metavar="OLD.json")
    parser.add_argument("--docs", action="store_true", help="write docs/benchmarks.md")
    args = parser.parse_args()
    try:
        found = read(args.json)
        old = read(args.against) if args.against else None
        machine = found["machine"]
        if args.docs and (found["quick"] or machine["load_before"] > BUSY or unsteadiness(machine) > UNSTEADY):
            raise ValueError(f"{args.json}: a quick run, or on a busy or unsteady machine, is not for the docs.")
    except (OSError, ValueError) as error:
        print(f"speed_report: {error}", file=sys.stderr)
        return 2
    if args.docs:
        (DOCS / "benchmarks").mkdir(exist_ok=True)
        (DOCS / "benchmarks" / "speed.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
        plot(found, DOCS / "benchmarks")
        (DOCS / "benchmarks.md").write_text(page(found, old), "utf-8")
        return 0
    print(write(found, args.json.parent, old))
    return 0


if __name__ == "__main__":
    sys.exit(main())
