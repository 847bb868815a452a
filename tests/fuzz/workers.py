"""Run changed files through a function in processes that may die, and report what happened.

`decoders.py` and `models.py` say what the function does, and which changes are made. The number of an
input and the seed of a run always give the same input, in any number of jobs.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import math
import os
import resource
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from multiprocessing import Pipe, connection
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NoReturn

LIMIT_S = 150.0  # wall time for one input, before its worker is ended; ms-edge waits for FFmpeg 60 s
WATCH_S = 0.5  # time from one check of that to the next
LIMIT_BYTES = 150 << 20  # memory that one input may add to its worker, or its decoder to that
MINIMISE_S = 60.0  # time to make a finding smaller
CHUNK = 500  # inputs that a job takes at once
PROGRESS = 20  # such parts from one line of progress to the next
# A kind of problem that changes if the file is made smaller: damage without a warning.
SILENT = "silent"
KINDS = ("classified", "warned", "refused")


@dataclass(frozen=True)
class Outcome:
    """What one input gave: a label or an error code, and what was wrong (None: nothing).

    `kind` is one of KINDS, or "died".
    """

    result: str
    kind: str
    problem: str | None
    seconds: float
    grown_bytes: int


Examine = Callable[[bytes, str], Outcome]  # of the content of a file and the suffix of its name
Change = Callable[[Sequence[bytes], int, int], bytes]  # of all files, the number of the input and the seed


@dataclass
class Tally:
    """The outcomes of all inputs that were made from the files of one format."""

    results: Counter[str] = field(default_factory=Counter)
    problems: int = 0
    slowest_s: float = 0.0
    slowest: int = 0  # the number of the slowest input
    grown_bytes: int = 0

    def add(self, number: int, outcome: Outcome) -> None:
        self.update(
            Tally(
                Counter([outcome.kind]),
                int(outcome.problem is not None),
                outcome.seconds,
                number,
                outcome.grown_bytes,
            )
        )

    def update(self, other: Tally) -> None:
        """Add the outcomes of another tally of the same format."""
        self.results.update(other.results)
        self.problems += other.problems
        self.grown_bytes = max(self.grown_bytes, other.grown_bytes)
        if other.slowest_s > self.slowest_s:
            self.slowest_s, self.slowest = other.slowest_s, other.slowest


@dataclass(frozen=True)
class Finding:
    """An input that broke a rule, and the smallest file found that breaks it too."""

    number: int
    name: str  # of the file that was changed
    problem: str
    content: bytes

    @property
    def kind(self) -> tuple[str, str]:
        """The changed file, and the rule that was broken."""
        return self.name, self.problem.partition(":")[0]


class Worker:
    """A process that examines inputs one after the other. It is started again if it dies.

    `begin` is called in the new process and returns the function that examines an input.
    """

    def __init__(self, begin: Callable[[], Examine], limit_s: float = LIMIT_S) -> None:
        self._begin, self._limit_s = begin, limit_s
        self._process = 0
        self._pipe: Connection | None = None

    def outcome(self, content: bytes, suffix: str = "") -> Outcome:
        """Return what became of one input. A hang ends the worker."""
        began = time.monotonic()
        pipe = self._pipe or self._start()
        problem = f"hang: no answer within {self._limit_s:g} s"
        try:
            pipe.send((content, suffix))
            # Not by the clock: both processes may have been stopped (Ctrl-Z) for longer than the limit.
            if any(pipe.poll(WATCH_S) for _ in range(math.ceil(self._limit_s / WATCH_S))):
                outcome: Outcome = pipe.recv()
                return outcome
        except (EOFError, OSError):
            problem = ""
        how = self.end()
        return Outcome("died", "died", problem or f"died: {how}", time.monotonic() - began, 0)

    def _start(self) -> Connection:
        self._pipe, theirs = Pipe()
        self._process = os.fork()
        if self._process == 0:
            self._pipe.close()
            self._serve(theirs)
        theirs.close()
        return self._pipe

    def _serve(self, pipe: Connection) -> NoReturn:
        status = 1
        try:
            examine = self._begin()
            with contextlib.suppress(EOFError):
                while True:
                    pipe.send(examine(*pipe.recv()))
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)

    def end(self) -> str:
        """End the process and return how it ended."""
        if not self._pipe:
            return "not started"
        self._pipe.close()
        self._pipe = None
        # A process that has died keeps its own status; one that hangs gets this signal.
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(self._process, 0)[1])
        return f"signal {-status}" if status < 0 else f"status {status}"


def peak_bytes() -> int:
    """Return the most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def minimised(worker: Worker, content: bytes, suffix: str, problem: str, seconds: float = MINIMISE_S) -> bytes:
    """Return a smaller input with the same kind of problem: blocks are deleted while it stays."""
    kind = problem.partition(":")[0]
    until = time.monotonic() + seconds

    def stays(tried: bytes) -> bool:
        return (worker.outcome(tried, suffix).problem or "").partition(":")[0] == kind

    count = len(content) // 2
    while count and time.monotonic() < until:
        at = 0
        while at < len(content) and time.monotonic() < until:
            tried = content[:at] + content[at + count :]
            if tried and stays(tried):
                content = tried
            else:
                at += count
        count //= 2
    return content


def run(
    seeds: dict[str, bytes],
    change: Change,
    numbers: range,
    seed: int,
    worker: Worker,
    on_finding: Callable[[Finding], None],
) -> Iterator[tuple[str, int, Outcome]]:
    """Yield the name of the changed file, the number and the outcome of each input.

    Each kind of problem of a file is reported once, with its smallest input.
    """
    names, contents = list(seeds), list(seeds.values())
    known: set[tuple[str, str]] = set()
    for number in numbers:
        name = names[number % len(names)]
        content, suffix = change(contents, number, seed), Path(name).suffix
        outcome = worker.outcome(content, suffix)
        if outcome.problem and (kind := (name, outcome.problem.partition(":")[0])) not in known:
            known.add(kind)
            if kind[1] != SILENT:
                content = minimised(worker, content, suffix, outcome.problem)
            on_finding(Finding(number, name, outcome.problem, content))
        yield name, number, outcome


@dataclass(frozen=True)
class Part:
    """What some inputs gave: the outcomes for each format, and the findings."""

    numbers: range
    tallies: dict[str, Tally]
    findings: list[Finding]


Prepare = Callable[[], AbstractContextManager[Worker]]


def in_jobs(
    seeds: dict[str, bytes],
    change: Change,
    seed: int,
    prepare: Prepare,
    parts: Sequence[range],
    jobs: int,
    until: float,
) -> Generator[Part]:
    """Run the parts in `jobs` processes. Yield what each part gave, as soon as it is known.

    If the caller ends early, the processes end within the input that they examine.
    """
    started = [_job(seeds, change, seed, prepare, parts[job::jobs], until) for job in range(jobs)]
    pipes = [pipe for pipe, _ in started]
    try:
        while pipes:
            for pipe in connection.wait(pipes):
                assert isinstance(pipe, Connection)
                if (part := pipe.recv()) is None:
                    pipes.remove(pipe)
                else:
                    yield part
    finally:
        for pipe, process in started:
            if pipe in pipes:
                os.kill(process, signal.SIGTERM)
            os.waitpid(process, 0)


def _job(
    seeds: dict[str, bytes], change: Change, seed: int, prepare: Prepare, parts: Sequence[range], until: float
) -> tuple[Connection, int]:
    """Start a process for some of the parts.

    Return the pipe from which its results come, and then None, and its number.
    """
    ours, theirs = Pipe()
    process = os.fork()
    if process == 0:
        status = 1
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that reports
        try:
            with prepare() as worker:
                signal.signal(signal.SIGTERM, _stop)
                for numbers in itertools.takewhile(lambda _: time.monotonic() < until, parts):
                    tallies: dict[str, Tally] = {}
                    findings: list[Finding] = []
                    for name, number, outcome in run(seeds, change, numbers, seed, worker, findings.append):
                        tallies.setdefault(Path(name).suffix, Tally()).add(number, outcome)
                    theirs.send(Part(numbers, tallies, findings))
            theirs.send(None)
            status = 0
        except KeyboardInterrupt:
            pass
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    theirs.close()
    return ours, process


def _stop(number: int, _: object) -> NoReturn:
    """Stop at a signal, once: the next one must not stop the clearing up."""
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def report(tallies: dict[str, Tally]) -> str:
    """Return a table with a row for each format, and one for all."""
    rows = [("format", "inputs", *KINDS, "findings", "slowest ms (input)", "memory MB")]
    every = Tally()
    for tally in tallies.values():
        every.update(tally)
    for suffix, tally in [*sorted(tallies.items()), ("all", every)]:
        rows.append(
            (
                suffix,
                f"{tally.results.total():,}",
                *(f"{tally.results[kind]:,}" for kind in KINDS),
                str(tally.problems),
                f"{1000 * tally.slowest_s:.0f} ({tally.slowest})",
                str(tally.grown_bytes >> 20),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if at else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def command_line(
    description: str,
    seeds_of: Callable[[str], dict[str, bytes]],
    change: Change,
    prepare: Prepare,
    arguments: Sequence[str] | None,
) -> int:
    """Run from the command line, and return the exit status: 1 if there is a finding."""
    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=300, help="how many inputs (default: 300)")
    parser.add_argument("--first", type=int, default=0, help="the number of the first input (default: 0)")
    parser.add_argument("--seed", type=int, default=0, help="another number gives other inputs (default: 0)")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="change only files with these names")
    parser.add_argument("--save", type=Path, default=Path("build/fuzz"), metavar="DIR", help="where findings are saved")
    parser.add_argument("--jobs", type=int, default=1, help="how many processes (default: 1)")
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop after this time")
    options = parser.parse_args(arguments)
    last, began = options.first + options.inputs, time.monotonic()
    parts = [range(at, min(at + CHUNK, last)) for at in range(options.first, last, CHUNK)]
    seeds, until = seeds_of(options.only), began + options.seconds
    tallies: dict[str, Tally] = {}
    known: set[tuple[str, str]] = set()
    done: set[int] = set()  # the first inputs of the parts that are finished
    stopped = False
    signal.signal(signal.SIGINT, _stop)
    found = in_jobs(seeds, change, options.seed, prepare, parts, options.jobs, until)
    try:
        for part in found:
            done.add(part.numbers.start)
            for suffix, tally in part.tallies.items():
                tallies.setdefault(suffix, Tally()).update(tally)
            for finding in part.findings:
                if finding.kind not in known:
                    known.add(finding.kind)
                    _save(finding, options.save, options.seed)
            if len(done) % PROGRESS == 0:
                print(_summary(tallies, began, len(known)), flush=True)
    except KeyboardInterrupt:
        stopped = True
    finally:
        found.close()
    print(report(tallies))
    print(_summary(tallies, began, len(known)))
    if left := [part.start for part in parts if part.start not in done]:
        print(f"not finished: all inputs before {left[0]} are; continue with --first {left[0]}")
    return 1 if known else 130 if stopped else 0


def _summary(tallies: dict[str, Tally], began: float, kinds: int) -> str:
    count, seconds = sum(tally.results.total() for tally in tallies.values()), time.monotonic() - began
    return (
        f"{count:,} inputs in {seconds:.0f} s, {1000 * seconds / max(1, count):.1f} ms each; {kinds} kinds of findings"
    )


def _save(finding: Finding, folder: Path, seed: int) -> None:
    """Write the file of a finding and print what it is."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{finding.kind[1]}-{seed}-{finding.number}-{finding.name}"
    path.write_bytes(finding.content)
    print(f"{path}: {finding.problem[:600]}", flush=True)
