"""What benchmarks.speed found, as Markdown and as plots.

    python -m benchmarks.speed_report SPEED.json [--against OLD.json] [--docs]

Writes speed.md and plots beside the JSON; with --docs, the JSON as docs/benchmarks/speed.json, the plots beside it, and
docs/benchmarks.md of them (`make bench-docs JSON=...`).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.speed_plots import plot
from benchmarks.speed_words import FILES, OURS, SCHEMA, STAGES, Found, enough, label_of

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
FLOOR, IMPORTS = "floor", "import numpy, onnxruntime, soundfile"
FEW = 5  # runs under which there are no quartiles
BUSY = 0.5  # a load over this: others were using the machine
HOW = """*Whole*: from the start of the process to its end, start-up included. *Without start-up*: of a process that has answered once,
from the path to the answer. *Floor*: read the file, mix and resample what is not 16 kHz mono, and transform every frame once
with `scipy.fft`, whose import is most of what a short file takes it. Medians and, in brackets, quartiles; of under five runs,
how many there were. One core, one thread in each library, files in the page cache; systems take turns, each for at most ten
seconds of a case, and the first run of each counts only where it is the only one. The audio is real: the sample clips in
`tests/data` one after another at changing levels, at least 95 % of its tenths of a second over -60 dBFS; what is over 10 s is
speech in its first half and music in its second. What answers wrongly is not timed: the label of one clip; of two halves, that
each label is there. Of many files a quarter may be wrong, and how many are is shown.
"""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)) + "\n"


def times_real(found: Found, kind: str) -> str:
    """`4,750 [4,700, 4,800]` of audio seconds a second; empty where it was not measured."""
    if kind not in found:
        return "failed" if "failed" in found else ""
    audio_s, times = found["audio_s"], found[kind]
    values = [audio_s / times[name] for name in ("median", "q3", "q1")]
    middle, low, high = (f"{value:,.0f}" if value >= 100 else f"{value:.1f}" for value in values)
    return f"{middle} [{low}, {high}]" if times["n"] >= FEW else f"{middle} (of {times['n']})"


def milliseconds(times: Found) -> str:
    """`120 [118, 125]`."""
    return "{:.0f} [{:.0f}, {:.0f}]".format(*(1000 * times[name] for name in ("median", "q1", "q3")))


def of_systems(found: Found, cell: Callable[[Found], str]) -> str:
    """A table with a line for each system and a column for each file."""
    cases = [case for case in FILES if case in found["cases"]]
    names = [name for name, facts in found["systems"].items() if "absent" not in facts]
    rows = [[name, *(cell(found["cases"][case].get(name, {})) for case in cases)] for name in names]
    return table(["", *(label_of(found, case) for case in cases)], [row for row in rows if any(row[1:])])


def goals(found: Found) -> Iterator[tuple[str, float, str, Callable[[float, float], bool], float | None]]:
    """Case, goal, unit, how to compare, and what was measured, if it was."""
    cases = found["cases"]

    def speed(case: str, kind: str) -> float | None:
        one = cases.get(case, {}).get(OURS, {})
        return one["audio_s"] / one[kind]["median"] if kind in one else None

    def most(bar: float, value: float) -> bool:
        return value <= bar

    def least(bar: float, value: float) -> bool:
        return value >= bar

    start = cases.get("start", {})
    files = cases.get("files", {})
    size = found["systems"][OURS].get("installed_bytes")
    floor = cases.get("1h", {}).get(FLOOR, {})
    ours = cases.get("1h", {}).get(OURS, {})

    def ratio(some: Found, first: str, second: str, kind: str = "whole") -> float | None:
        if kind in some.get(first, {}) and kind in some.get(second, {}):
            return float(some[first][kind]["median"] / some[second][kind]["median"])
        return None

    wanted = (
        ("10 min, whole command", 2500, "x real time", least, speed("10min", "whole")),
        ("1 h, whole command", 5500, "x real time", least, speed("1h", "whole")),
        ("1 h without start-up", 10_000, "x real time", least, speed("1h", "inside")),
        (
            "1 h without start-up, against the floor",
            2,
            "x its time",
            most,
            ratio({"a": ours, "b": floor}, "a", "b", "inside"),
        ),
        ("10 min of 44.1 kHz stereo without start-up", 4000, "x real time", least, speed("stereo", "inside")),
        (
            "many files, all cores against one",
            1.8,
            "x",
            least,
            ratio(files, "ms-edge, one core", "ms-edge, all cores"),
        ),
        (
            "cold start, 10 s clip, against the imports",
            1.25,
            "x their time",
            most,
            ratio(start, "ms-edge, 10 s clip", IMPORTS),
        ),
        (
            "peak memory, 1 h",
            100,
            "MB",
            most,
            ours["peak_bytes"] / 1e6 if "peak_bytes" in ours else None,
        ),
        (
            "streamed hop, p99",
            1,
            "ms",
            most,
            cases["latency"]["streamed hop"]["p99"] * 1000 if "streamed hop" in cases.get("latency", {}) else None,
        ),
        ("installed with [cpu]", 200, "MB", most, sum(size.values()) / 1e6 if size else None),
    )
    yield from wanted


def markdown(found: Found, old: Found | None = None, plots: str = "") -> str:
    """Everything, as tables; `plots` is the folder of the plots, as a link begins."""
    machine, cases = found["machine"], found["cases"]
    load = machine["load_before"]
    parts = [
        "**A quick run: it shows that everything runs; its figures mean little.**\n" if found["quick"] else "",
        f"Measured on {found['measured']}: {machine['cpu']}, {machine['cores']} cores, {machine['memory_bytes'] / 2**30:.0f} GiB, "
        f"{machine['system']}; model {found['model'][:12]}. Load before and after: {load:.1f} and {machine['load_after']:.1f}"
        f"{' (**others were using the machine**)' if load > BUSY else ''}.\n",
        HOW,
        *_goals_met(found),
    ]
    files = any(case in cases for case in FILES)
    if files:
        for title, kind in (("The whole command", "whole"), ("Without start-up", "inside")):
            head = "## Throughput\n\n" if kind == "whole" else ""
            cells = of_systems(found, lambda one, kind=kind: times_real(one, kind))
            parts.append(f"{head}{title}, times real time:\n\n{cells}")
        parts.append(f"![Throughput]({plots}throughput.png)\n")
    parts += [*_many(cases.get("files", {})), *_start(cases.get("start", {}), plots)]
    parts += [*_latency(cases.get("latency", {}), plots), *_needed(found)]
    if files:
        cells = of_systems(found, lambda one: f"{one['peak_bytes'] / 1e6:,.0f}" if "peak_bytes" in one else "")
        parts.append(
            "## Peak memory\n\nMB of the whole command, resident (under 11, it is the measuring process's own):\n\n"
            + cells
        )
    parts += [*_systems(found["systems"]), *_missing(found)]
    if old:
        parts.append(comparison(found, old))
    return "\n".join(part for part in parts if part)


def _goals_met(found: Found) -> Iterator[str]:
    if found["quick"]:  # of other files
        return
    rows = []
    for name, goal, unit, met, value in goals(found):
        if value is None:
            rows.append([name, f"{goal:,g} {unit}", "", "not measured"])
            continue
        measured = f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"
        rows.append([name, f"{goal:,g} {unit}", f"{measured} {unit}", "met" if met(goal, value) else "**missed**"])
    yield "## Goals\n\n" + table(["", "goal", "measured", ""], rows)


def _many(files: Found) -> Iterator[str]:
    if not files:
        return
    count = next((one["audio_s"] / 10 for one in files.values() if "audio_s" in one), 0)
    rows = [
        [name, times_real(one, "whole"), str(one.get("wrong_labels", "")), f"{one.get('peak_bytes', 0) / 1e6:,.0f}"]
        for name, one in files.items()
    ]
    head = ["", "times real time", "wrong labels", "peak MB of a process"]
    yield f"{count:,.0f} files of 10 s, one command:\n\n" + table(head, rows)


def _start(start: Found, plots: str) -> Iterator[str]:
    if not start:
        return
    base = start.get(IMPORTS, {}).get("whole", {}).get("median")
    rows = [
        [name, milliseconds(one["whole"]), f"{one['whole']['median'] / base:.2f}" if base else ""]
        for name, one in start.items()
        if "whole" in one
    ]
    yield (
        "## Cold start\n\nWhole processes, in ms, and against the imports that `ms-edge` cannot do without:\n\n"
        + table(["", "ms", "x imports"], rows)
    )
    yield f"![Cold start and memory]({plots}start.png)\n"


def _latency(latency: Found, plots: str) -> Iterator[str]:
    timed = {name: one for name, one in latency.items() if "stages" in one}
    if not timed:
        return
    at = ("50", "95", "99", "99.9")
    rows = [
        [
            name,
            f"{one['runs']:,}",
            *(f"{1000 * one[f'p{each}']:.3f}" if enough(one, each) else "" for each in at),
        ]
        for name, one in timed.items()
    ]
    yield (
        "## Latency\n\nIn a running process, from a path, or from a hop's last sample, to the label, in ms:\n\n"
        + table(["", "runs", *(f"p{each}" for each in at)], rows)
    )
    rows = [[name, *(f"{1000 * one['stages'][stage]:.3f}" for stage in STAGES)] for name, one in timed.items()]
    yield (
        "By stage, means in ms, with instruments that take a little themselves:\n\n"
        + table(["", *(stage.replace("_", " ") for stage in STAGES)], rows)
    )
    yield f"![Latency]({plots}latency.png)\n"


def _needed(found: Found) -> Iterator[str]:
    stages = {name: one for name, one in found["cases"].get("needed", {}).items() if "us" in one}
    if not stages:
        return
    rows = [
        [name, f"{one['us']:,.1f}", f"{one['needed_us']:,.1f}" if one["needed_us"] else "", one["needed"]]
        for name, one in stages.items()
    ]
    yield (
        "## Where the time goes\n\nOf a long recording, stage by stage, each alone: microseconds for a second of audio, next to the least "
        f"that is needed on this core, whose large matrix product makes {found['machine']['gflops']:.0f} GFLOP/s:\n\n"
        + table(["", "takes", "needed", "for"], rows)
    )


def _systems(systems: Found) -> Iterator[str]:
    rows = []
    for name, facts in systems.items():
        if sizes := facts.get("installed_bytes"):
            largest = ", ".join(f"{part} {size / 1e6:.0f}" for part, size in list(sizes.items())[:4])
            rows.append([name, f"{sum(sizes.values()) / 1e6:.0f}", largest])
    yield (
        "## Installed size\n\nMB in the site-packages of a fresh environment, bytecode included, pip left out:\n\n"
        + table(["", "MB", "of which"], rows)
    )
    rows = [
        [name, ", ".join(f"{part} {version}" for part, version in facts["versions"].items())]
        for name, facts in systems.items()
        if "absent" not in facts
    ]
    yield "## Versions\n\n" + table(["", ""], rows)


def _missing(found: Found) -> Iterator[str]:
    said = [f"{name}: absent, {facts['absent']}" for name, facts in found["systems"].items() if "absent" in facts]
    for case, systems in found["cases"].items():
        said += [f"{name}, {case}: failed, {one['failed']}" for name, one in systems.items() if "failed" in one]
    yield "## Absent and failed\n\n" + ("".join(f"- {each.rstrip('.')}.\n" for each in said) or "Nothing.\n")


def comparison(found: Found, old: Found) -> str:
    """Every system against itself in an earlier run, as ratios of times: others than ms-edge show how alike the machines were."""
    rows = []
    for case, systems in found["cases"].items():
        for name, one in systems.items():
            before = old["cases"].get(case, {}).get(name, {})
            for kind in ("whole", "inside", "p50", "p99", "us", "peak_bytes"):
                if kind not in one or kind not in before or one.get("audio_s") != before.get("audio_s"):
                    continue
                new, was = (
                    each[kind]["median"] if isinstance(each[kind], dict) else each[kind] for each in (one, before)
                )
                rows.append([case, name, kind.replace("_", " "), f"{new / was:.2f}"])
    same = found["machine"]["cpu"] == old["machine"]["cpu"]
    return (
        f"## Against {old['measured']}, model {old['model'][:12]}\n\nNew over old, under 1 is better"
        + ("" if same else "; **another machine**")
        + ":\n\n"
        + table(["case", "system", "what", "ratio"], rows)
    )


def write(found: Found, folder: Path, old: Found | None = None) -> str:
    """Write speed.md and the plots; returns the Markdown."""
    text = markdown(found, old)
    (folder / "speed.md").write_text(text, "utf-8")
    plot(found, folder)
    return text


PAGE = """# Benchmarks

Made by `make bench-docs JSON=speed.json` of what `make bench` wrote. To repeat it: `make bench`, which takes about half an hour, on a
machine that does nothing else. `make bench BENCH=--quick` shows in minutes that it runs, `BENCH=--no-peers` leaves the others out,
`BENCH='--against old.json'` compares with an earlier run. `ms-edge benchmark` is the short one for a deployed machine, `python -m
benchmarks.gpu` the one for a CUDA device; `python -m benchmarks.means` shows what each means of being fast brings. That nothing gets
slower is held by counts and not by times: `make bench-check`.

"""


def page(found: Found, old: Found | None = None) -> str:
    """docs/benchmarks.md."""
    return PAGE + markdown(found, old, plots="benchmarks/")


def read(path: Path) -> Found:
    """A speed.json. Raises OSError, or ValueError where it is none."""
    found: Any = json.loads(path.read_text("utf-8"))
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise ValueError(f"{path}: is not of benchmarks.speed ({SCHEMA}).")
    return found


def main() -> int:
    """Write anew what a JSON says."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed_report",
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
        if args.docs and (found["quick"] or found["machine"]["load_before"] > BUSY):
            raise ValueError(f"{args.json}: a quick run, or on a busy machine, is not for the docs.")
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
