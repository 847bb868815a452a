"""The tables of the results of benchmarks.speed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from benchmarks.speed.words import FILES, OURS, STAGES, Found, enough, label_of
from ms_train.tables import markdown_table

FLOOR, IMPORTS = "floor", "import numpy, onnxruntime, soundfile"
FEW = 5  # fewest runs for quartiles
# Times real time of whole commands on the machine where the goals were set.
THERE = {"10min": {"Opus analysis": 1705.0, "YAMNet": 885.0}, "1h": {"Opus analysis": 1600.0, "YAMNet": 900.0}}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    return markdown_table(head, rows, rule=" --- ") + "\n"


def times_real(found: Found, kind: str) -> str:
    """Return audio seconds per second as `4,750 [4,700, 4,800]`, or an empty text if not measured."""
    if kind not in found:
        return "failed" if "failed" in found else ""
    audio_s, times = found["audio_s"], found[kind]
    values = [audio_s / times[name] for name in ("median", "q3", "q1")]
    middle, low, high = (f"{value:,.0f}" if value >= 100 else f"{value:.1f}" for value in values)
    return f"{middle} [{low}, {high}]" if times["n"] >= FEW else f"{middle} (of {times['n']})"


def milliseconds(times: Found) -> str:
    """Return milliseconds as `120 [118, 125]`."""
    return "{:.0f} [{:.0f}, {:.0f}]".format(*(1000 * times[name] for name in ("median", "q1", "q3")))


def by_system(found: Found, cell: Callable[[Found], str]) -> str:
    """Return a table with a row for each system and a column for each file."""
    cases = [case for case in FILES if case in found["cases"]]
    names = [name for name, facts in found["systems"].items() if "absent" not in facts]
    rows = [[name, *(cell(found["cases"][case].get(name, {})) for case in cases)] for name in names]
    return table(["", *(label_of(found, case) for case in cases)], [row for row in rows if any(row[1:])])


def goals(found: Found) -> Iterator[tuple[str, float, str, Callable[[float, float], bool], float | None]]:
    """Return the goals: case, goal, unit, comparison, and the measured value if there is one."""
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


def of_goals(found: Found) -> Iterator[str]:
    """Yield the table of goals and whether they are met."""
    if found["quick"]:  # a quick run has other files
        return
    rows = []
    for name, goal, unit, met, value in goals(found):
        if value is None:
            rows.append([name, f"{goal:,g} {unit}", "", "not measured"])
            continue
        measured = f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"
        rows.append([name, f"{goal:,g} {unit}", f"{measured} {unit}", "met" if met(goal, value) else "**missed**"])
    yield "## Goals\n\n" + table(["", "goal", "measured", ""], rows)
    yield from _beside_peers(found)


def _beside_peers(found: Found) -> Iterator[str]:
    """Yield the goals of throughput as ratios to other systems, which do not depend on the machine."""
    peers = list(THERE["1h"])
    rows = []
    for what, case, kind, goal in (
        ("10 min, whole command", "10min", "whole", 2500),
        ("1 h, whole command", "1h", "whole", 5500),
        ("1 h without start-up", "1h", "inside", 10_000),
    ):
        systems = found["cases"].get(case, {})
        if not all(kind in systems.get(OURS, {}) and "whole" in systems.get(peer, {}) for peer in peers):
            return
        cells = [what]
        for peer in peers:
            ratio = systems[peer]["whole"]["median"] / systems[OURS][kind]["median"]
            cells += [f"{goal / THERE[case][peer]:.1f} x", f"{ratio:.1f} x"]
        rows.append(cells)
    there = ", ".join(f"{peer} {THERE['10min'][peer]:,.0f} and {THERE['1h'][peer]:,.0f}" for peer in peers)
    head = ["", *(cell for peer in peers for cell in (f"{peer}: goal", "measured"))]
    yield (
        "The goals were set on another machine. There these peers classified ten minutes and one hour (whole commands) at this many\n"
        f"times real time: {there}. As ratios to the peers, in this run:\n\n" + table(head, rows)
    )


def of_files(files: Found) -> Iterator[str]:
    """Yield the table of many files in one command."""
    if not files:
        return
    count = next((one["audio_s"] / 10 for one in files.values() if "audio_s" in one), 0)
    rows = [
        [name, times_real(one, "whole"), str(one.get("wrong_labels", "")), f"{one.get('peak_bytes', 0) / 1e6:,.0f}"]
        for name, one in files.items()
    ]
    head = ["", "times real time", "wrong labels", "peak MB of a process"]
    yield f"{count:,.0f} files of 10 s, one command:\n\n" + table(head, rows)


def of_start(start: Found, plots: str) -> Iterator[str]:
    """Yield the table of cold starts."""
    if not start:
        return
    base = start.get(IMPORTS, {}).get("whole", {}).get("median")
    rows = [
        [name, milliseconds(one["whole"]), f"{one['whole']['median'] / base:.2f}" if base else ""]
        for name, one in start.items()
        if "whole" in one
    ]
    yield (
        "## Cold start\n\nTime of whole processes, in ms, and as a multiple of the time of the imports that `ms-edge` needs:\n\n"
        + table(["", "ms", "x imports"], rows)
    )
    yield f"![Cold start and memory]({plots}start.png)\n"


def of_latency(latency: Found, plots: str) -> Iterator[str]:
    """Yield the tables of percentiles and stages."""
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
        "## Latency\n\nTime in ms in a running process, from a path, or from the last sample of a hop, to the label:\n\n"
        + table(["", "runs", *(f"p{each}" for each in at)], rows)
    )
    rows = [[name, *(f"{1000 * one['stages'][stage]:.3f}" for stage in STAGES)] for name, one in timed.items()]
    yield (
        "Mean time of each stage in ms; the measurement itself adds a little:\n\n"
        + table(["", *(stage.replace("_", " ") for stage in STAGES)], rows)
    )
    yield f"![Latency]({plots}latency.png)\n"


def of_environments(systems: Found) -> Iterator[str]:
    """Yield the tables of installed sizes and versions."""
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


def of_what_is_missing(found: Found) -> Iterator[str]:
    """Yield the list of absent and failed systems."""
    said = [f"{name}: absent, {facts['absent']}" for name, facts in found["systems"].items() if "absent" in facts]
    for case, systems in found["cases"].items():
        said += [f"{name}, {case}: failed, {one['failed']}" for name, one in systems.items() if "failed" in one]
    yield "## Absent and failed\n\n" + ("".join(f"- {each.rstrip('.')}.\n" for each in said) or "Nothing.\n")
