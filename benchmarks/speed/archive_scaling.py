"""A model of `ms-edge archive` on clusters that nobody has measured: a million recordings, 1 to 1,000 CPUs.

    python -m benchmarks.speed.archive_scaling docs/benchmarks/archive.json -o docs/benchmarks/archive.png

The constants are measured (`benchmarks.speed.archive_constants`); what is assumed of the archive and of its store
are the fields of `Archive`. The head is the process that starts the run. It finds all recordings and
divides them into tasks, which nobody can help it with. Then the workers work while the head hands out
tasks and writes rows, so that the slower of the two counts. At the end, workers wait for the last
task.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass, fields
from pathlib import Path

from ms_edge.archive.listing import COMPRESSED_BYTES_S, OPENING_S, TASK_S, TASK_SHARE
from ms_edge.archive.stores import BLOCK_BYTES

CPUS = (1, 10, 100, 200, 500, 1000)
STEPS = ("start", "find", "work", "head", "last task")


@dataclass(frozen=True)
class Constants:
    """The seconds of each step. The head is the process that starts the run."""

    #: the head finds a recording in a directory, with its size and time
    list_file_s: float
    #: the head finds 1,000 recordings in a store (CPU time)
    list_page_s: float
    #: the head gives a recording to a task (CPU time)
    plan_s: float
    #: the head schedules a task and takes its rows (CPU time)
    task_s: float
    #: the head writes a row, with its segments (CPU time)
    row_s: float
    #: the head starts an actor (CPU time)
    actor_s: float
    #: the command starts Ray and an actor, and classifies one recording
    start_s: float
    #: an actor classifies a recording, however short it is (CPU time)
    open_s: float
    #: an actor classifies a second of audio (CPU time)
    audio_s: float
    #: an actor opens a recording in a store (CPU time)
    stored_s: float
    #: an actor reads a megabyte from a store (CPU time)
    megabyte_s: float


@dataclass(frozen=True)
class Archive:
    """Recordings, how they are classified, and what is assumed of the store that has them.

    Assumed, not measured: S3 answers after about 50 ms, lists 1,000 keys in each answer, and gives
    40 MB/s to each request.
    """

    recordings: int = 1_000_000
    duration_s: float = 180.0
    in_store: bool = True
    actors_per_cpu: int = 1  # --cpus is one by this number
    bytes_s: float = COMPRESSED_BYTES_S  # bytes of a second of audio: MP3 of 128 kbit/s
    latency_s: float = 0.05
    keys: int = 1000
    bytes_per_s: float = 40e6

    @property
    def audio_s(self) -> float:
        """The duration of all recordings, in seconds."""
        return self.recordings * self.duration_s


def steps(cost: Constants, archive: Archive, cpus: int) -> dict[str, float]:
    """Return the seconds of each of STEPS. `work` and `head` are at the same time."""
    actors = cpus * archive.actors_per_cpu
    tasks, last = tasks_of(archive, actors)
    busy_s, waiting_s = cost.open_s + archive.duration_s * cost.audio_s, 0.0
    find_s = archive.recordings * cost.list_file_s
    if archive.in_store:
        size = archive.duration_s * archive.bytes_s
        busy_s += cost.stored_s + size / 1e6 * cost.megabyte_s
        # The size and the first block are waited for, while the recording before is classified.
        waiting_s = 2 * archive.latency_s + min(size, BLOCK_BYTES) / archive.bytes_per_s
        find_s = math.ceil(archive.recordings / archive.keys) * (archive.latency_s + cost.list_page_s)
    # The actors of a CPU wait at the same time, and work one after the other.
    one_s = max(busy_s, waiting_s / archive.actors_per_cpu)
    return {
        "start": cost.start_s + actors * cost.actor_s,
        "find": find_s + archive.recordings * cost.plan_s,
        "work": archive.recordings * one_s / cpus,
        "head": tasks * cost.task_s + archive.recordings * cost.row_s,
        "last task": last * (busy_s + waiting_s) * (1 - 1 / actors),
    }


def tasks_of(archive: Archive, actors: int) -> tuple[int, float]:
    """Return the number of tasks, and how many recordings are in the last ones: see `ms_edge.archive.listing.tasks`."""
    work_s = OPENING_S + archive.duration_s * archive.bytes_s / COMPRESSED_BYTES_S  # in the unit of TASK_S
    least_s, most_s = (work_s * max(1.0, limit_s // work_s) for limit_s in TASK_S)
    shares = actors * TASK_SHARE
    left_s = archive.recordings * work_s
    large_s = max(0.0, left_s - shares * most_s)  # in tasks of the most work
    left_s -= large_s
    shrinking = shares * math.log(left_s / (shares * least_s)) if left_s > shares * least_s else 0.0
    count = large_s / most_s + shrinking + min(left_s, shares * least_s) / least_s
    return min(archive.recordings, math.ceil(count)), min(archive.recordings / actors, least_s / work_s)


def total_s(cost: Constants, archive: Archive, cpus: int) -> float:
    """Return the seconds of a whole run."""
    one = steps(cost, archive, cpus)
    return one["start"] + one["find"] + max(one["work"], one["head"]) + one["last task"]


def efficiency(cost: Constants, archive: Archive, cpus: int) -> float:
    """Return the share of a run in which the workers have work."""
    return steps(cost, archive, cpus)["work"] / total_s(cost, archive, cpus)


def most_cpus(cost: Constants, archive: Archive, least: float = 0.5) -> int:
    """Return how many CPUs have work for at least this share of a run."""
    low, high = 1, 1_000_000
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if efficiency(cost, archive, middle) >= least else (low, middle - 1)
    return low


def plot(cost: Constants, path: Path) -> None:
    """Draw the hours of each step, and the pace for recordings of three lengths in three places."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5))
    counts = [round(10 ** (3 * step / 60)) for step in range(61)]
    archive = Archive()
    for name in STEPS:
        left.plot(counts, [steps(cost, archive, count)[name] / 3600 for count in counts], label=name, linewidth=1)
    left.plot(counts, [total_s(cost, archive, count) / 3600 for count in counts], "k", linewidth=2.2, label="whole run")
    left.set_yscale("log")
    left.set_ylim(bottom=1e-4)
    left.set_ylabel("hours")
    left.set_title(f"{archive.recordings:,} recordings of {archive.duration_s / 60:g} minutes in a store", fontsize=10)
    left.legend(fontsize=8, ncols=2)
    for colour, (duration_s, label) in enumerate(((10.0, "10 s"), (180.0, "3 min"), (3600.0, "1 h"))):
        for where, style, one in (
            ("store", "-", Archive(duration_s=duration_s)),
            ("store, --cpus 0.5", "--", Archive(duration_s=duration_s, actors_per_cpu=2)),
            ("shared disk", ":", Archive(duration_s=duration_s, in_store=False)),
        ):
            pace = [one.audio_s / total_s(cost, one, count) for count in counts]
            right.plot(counts, pace, style, color=f"C{colour}", label=f"{label}, {where}")
    right.set_yscale("log")
    right.set_ylabel("times real time")
    right.set_title("a million recordings of 10 s, 3 min and 1 h", fontsize=10)
    right.legend(fontsize=7, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.16))
    for axis in (left, right):
        axis.set_xscale("log")
        for part in (axis.xaxis, axis.yaxis):
            part.set_major_formatter(lambda value, _: f"{value:,.9g}")
        axis.set_xlabel("CPUs that classify")
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle("Model from measured constants; no cluster of more than three nodes was measured", fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def explained() -> dict[str, str]:
    """Return what each constant is."""
    lines = Path(__file__).read_text("utf-8").splitlines()
    at = {line.strip().partition(":")[0]: number for number, line in enumerate(lines) if line.endswith("_s: float")}
    return {each.name: lines[at[each.name] - 1].strip().removeprefix("#: ") for each in fields(Constants)}


def read_constants(path: Path) -> Constants:
    """Return the constants in the JSON that `benchmarks.speed.archive` wrote."""
    return Constants(**json.loads(path.read_text("utf-8"))["constants"])


def main() -> None:
    """Draw the plot."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.archive_scaling",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("json", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    plot(read_constants(args.json), args.output)


if __name__ == "__main__":
    main()
