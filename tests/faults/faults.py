"""Run ms-edge while the n-th system call of a kind fails, for every n, and look at what is left.

`python tests/faults/faults.py` runs `ms-edge` once for each mode (`MODES`), kind of fault
(`FAULTS`) and n; with `--runs`, an even selection of these. It prints a table with a row for each
kind and exits with status 1 if a run broke a rule (`problem_of`). `--mode M --fault F --number N`
repeats one run.

The runs are divided among `--jobs` processes. On two cores, two of them are 1.2 times as fast as one:
two thirds of the time are the work of ms-edge itself, and many modes already use two cores.

Each run is a copy of this process, in which the program is imported already, so that it takes
milliseconds. In the modes `start-…` it is not, so that the faults also hit imports. `seccomp` makes
the calls fail. The calls of Python, of libsndfile, of onnxruntime and of FFmpeg count alike, in the
process of the command, its workers and its decoders.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import errno
import faulthandler
import io
import itertools
import json
import os
import pickle
import re
import select
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import NoReturn

import seccomp

from ms_edge.cli import main as cli
from ms_edge.errors import ERROR_CODES

CORPUS = Path(__file__).parent.parent / "fuzz" / "corpus" / "audio"
RECORDINGS = tuple(
    (  # noqa: SIM905
        "aiff_float.aiff aiff_gsm610.aiff aiff_pcm_16.aiff au_float.au au_g721_32.au bext.wav caf_alac_16.caf caf_pcm_16.caf "
        "chained.ogg endless.wav flac_pcm_16.flac flac_pcm_24.flac frames.flac free_format.mp3 id3.flac joined.mp3 mp2.mp2 "
        "mp2.wav mp3.wav no_header.mp3 ogg_opus.ogg ogg_vorbis.ogg rf64_pcm_16.rf64 rifx.wav vbr.mp3 w64_ms_adpcm.w64 "
        "wav_float.wav wav_ima_adpcm.wav wav_pcm_16.wav wav_pcm_u8.wav"
    ).split()
)
MEDIA = ("aac.m4a", "opus.webm")  # decoded by FFmpeg
LIMIT_S = 120.0  # for one run, on a busy machine; without a fault it takes a second
LEFT_S = 10.0  # for workers to end after the command
KILL = -1  # in place of an error number: end the process that makes the call
USAGE, UNUSABLE = 2, 3


@dataclass(frozen=True)
class Fault:
    """Calls of a group that fail with an error number: the n-th, or all from the n-th `onwards`."""

    group: str
    error: int
    onwards: bool = False


FAULTS = {
    "open": Fault("open", errno.EIO),
    "no descriptors": Fault("open", errno.EMFILE, onwards=True),
    "read": Fault("read", errno.EIO),
    "read onwards": Fault("read", errno.EIO, onwards=True),
    "write": Fault("write", errno.EIO),
    "full disk": Fault("write", errno.ENOSPC, onwards=True),
    "rename": Fault("rename", errno.EIO),
    "fsync": Fault("fsync", errno.EIO),
    "fork, thread": Fault("fork", errno.EAGAIN),
    "no processes": Fault("fork", errno.EAGAIN, onwards=True),
    "memory": Fault("memory", errno.ENOMEM),
    "no memory": Fault("memory", errno.ENOMEM, onwards=True),
    "stat": Fault("status", errno.EIO),
    "other": Fault("other", errno.EIO),
    "kill at write": Fault("write", KILL),
    "kill at read": Fault("read", KILL),
    "kill at rename": Fault("rename", KILL),
    "kill at fsync": Fault("fsync", KILL),
}


@dataclass(frozen=True)
class Mode:
    """A command. `output` is the file or directory that it writes; None for standard output.

    `stdin` is a recording that comes through a pipe, `earlier` the number of records that an
    interrupted run left, and `cold` whether nothing is imported yet.
    """

    command: Sequence[str]
    files: Sequence[str] = RECORDINGS
    form: str = "jsonl"
    output: str | None = None
    stdin: str | None = None
    earlier: int = 0
    cold: bool = False
    threads: bool = False


CLASSIFY = ("classify", "--format", "jsonl")
MODES = {
    "start-j1": Mode((*CLASSIFY, "-j", "1"), RECORDINGS[:2], cold=True),
    "start-j2": Mode((*CLASSIFY, "-j", "2"), RECORDINGS[:3], cold=True),
    "start-version": Mode(("--version",), (), "lines", cold=True),
    "text": Mode(("classify", "-j", "1"), form="text"),
    "text-j2": Mode(("classify", "-j", "2"), form="text"),
    "csv": Mode(("classify", "--format", "csv", "-j", "1"), form="csv"),
    "jsonl-j2": Mode((*CLASSIFY, "-j", "2")),
    "threads": Mode((*CLASSIFY, "-j", "2"), threads=True),
    "file": Mode((*CLASSIFY, "-j", "1", "-o", "out.jsonl"), output="out.jsonl"),
    "file-j2": Mode((*CLASSIFY, "-j", "2", "-o", "out.jsonl"), output="out.jsonl"),
    "resume": Mode((*CLASSIFY, "-j", "1", "--resume", "-o", "out.jsonl"), output="out.jsonl", earlier=20),
    "resume-j2": Mode((*CLASSIFY, "-j", "2", "--resume", "-o", "out.jsonl"), output="out.jsonl", earlier=20),
    "csv-file": Mode(("classify", "-j", "1", "-o", "out.csv"), form="csv", output="out.csv"),
    "directory": Mode((*CLASSIFY, "-j", "1", "-o", "out/"), output="out/"),
    "directory-j2": Mode((*CLASSIFY, "-j", "2", "-o", "out/"), output="out/"),
    "tracks": Mode(("classify", "--format", "audacity", "-j", "2", "-o", "out/"), form="tracks", output="out/"),
    "report": Mode(("report", "-j", "1", "-o", "out/"), form="pages", output="out/"),
    "report-j2": Mode(("report", "-j", "2", "-o", "out/"), form="pages", output="out/"),
    "list": Mode((*CLASSIFY, "-j", "1", "--files-from", "list")),
    "list-j2": Mode((*CLASSIFY, "-j", "2", "--files-from", "list")),
    "walk": Mode((*CLASSIFY, "-j", "1", "-r", "in")),
    "stdin": Mode((*CLASSIFY, "-"), ("-",), stdin="wav_pcm_16.wav"),
    "stream": Mode(("stream", "--windows", "--format", "jsonl", "-"), (), "lines", stdin="wav_pcm_16.wav"),
    "media": Mode((*CLASSIFY, "-j", "1"), MEDIA),
    "media-j2": Mode((*CLASSIFY, "-j", "2"), MEDIA),
}


@dataclass
class Run:
    """What a run left: exit status (negative: the signal), both streams, and its files."""

    status: int
    stdout: bytes
    stderr: str
    files: dict[str, bytes]
    calls: int  # of the group of the fault
    fired: bool
    killed: bool  # the command itself, by the fault
    problem: str | None
    stacks: str


@dataclass
class Place:
    """An empty working directory with the recordings in `in`, and what an earlier run left."""

    root: Path
    count: int = 0
    earlier: dict[str, bytes] = field(default_factory=dict)

    def fresh(self, mode: Mode) -> Path:
        """Return a new directory for a run."""
        self.count += 1
        path = self.root / str(self.count)
        path.mkdir()
        (path / "in").symlink_to(self.root / "in")
        if "--files-from" in mode.command:
            (path / "list").write_text("".join(f"in/{name}\n" for name in mode.files))
        for name, content in self.earlier.items():
            (path / name).write_bytes(content)
        return path


def files_in(path: Path) -> dict[str, bytes]:
    """Return the files that a run has written."""
    ours = {"stdout", "stderr", "stacks", "list"}
    return {
        str(found.relative_to(path)): found.read_bytes()
        for found in sorted(path.rglob("*"))
        if found.is_file() and found.name not in ours and "in" not in found.relative_to(path).parts[:1]
    }


def arguments_of(mode: Mode) -> list[str]:
    named = "-" in mode.command or "--files-from" in mode.command or "in" in mode.command
    return [*mode.command, *(() if named else (f"in/{name}" for name in mode.files))]


def run(mode: Mode, arguments: Sequence[str], path: Path, fault: Fault, number: int) -> Run:
    """Run a command in a directory; let the call of this number fail, none if it is 0."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        _be_command(mode, arguments, path, fault.group, theirs)
    theirs.close()
    with ours:
        descriptors = socket.recv_fds(ours, 1, 1)[1]
    if not descriptors:
        os.waitpid(pid, 0)
        raise RuntimeError(f"the command did not begin: {(path / 'stderr').read_text()}")
    supervisor = _Supervisor(descriptors[0], pid, path, fault, number)
    try:
        problem = supervisor.supervise()
    finally:
        os.close(descriptors[0])
    return Run(
        supervisor.status,
        (path / "stdout").read_bytes(),
        (path / "stderr").read_text("utf-8", "backslashreplace"),
        files_in(path),
        supervisor.calls,
        supervisor.fired,
        supervisor.killed,
        problem,
        (path / "stacks").read_text(),
    )


def _be_command(mode: Mode, arguments: Sequence[str], path: Path, group: str, link: socket.socket) -> NoReturn:
    """Become the command."""
    try:
        os.setsid()
        os.chdir(path)
        stdin = os.open(os.devnull, os.O_RDONLY)
        if mode.stdin:
            stdin, filled = os.pipe()
            os.write(filled, (CORPUS / mode.stdin).read_bytes())
            os.close(filled)
        os.dup2(stdin, 0)
        for descriptor, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)  # noqa: SIM115
        sys.argv = ["ms-edge", *arguments]
        stacks = open("stacks", "w")  # noqa: SIM115
        faulthandler.register(signal.SIGUSR1, stacks)
        faulthandler.enable(stacks)
        if mode.threads:
            import threading

            threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
        descriptor = seccomp.watch(group)
        socket.send_fds(link, [b"x"], [descriptor])
        os.close(descriptor)
        link.close()
    except BaseException:
        traceback.print_exc()
        os._exit(90)
    try:
        cli.command()
    except SystemExit as error:  # argparse
        sys.stdout.flush()
        os._exit(int(error.code or 0))
    except BaseException:
        with contextlib.suppress(BaseException):
            traceback.print_exc(file=stacks)
            stacks.flush()
        os._exit(91)


class _Supervisor:
    """Answers the calls of a command until it and all that it has started have ended."""

    def __init__(self, descriptor: int, pid: int, path: Path, fault: Fault, number: int) -> None:
        self._descriptor, self._pid, self._path, self._fault, self._number = descriptor, pid, path, fault, number
        self.calls, self.status = 0, 0
        self.fired = self.killed = False

    def supervise(self) -> str | None:
        """Return what was wrong: a hang, or processes that were left."""
        until, ended, problem = time.monotonic() + LIMIT_S, False, None
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        command = os.pidfd_open(self._pid)
        poll.register(command, select.POLLIN)
        try:
            while True:
                events = dict(poll.poll(100))
                if events.get(self._descriptor, 0) & select.POLLIN:
                    self._answer()
                if events.get(self._descriptor, 0) & select.POLLHUP:
                    self._reap(0)
                    return problem
                if command in events and not ended:
                    ended, until = True, time.monotonic() + LEFT_S
                    poll.unregister(command)
                self._reap()
                if time.monotonic() > until:
                    where = self._stacks(poll)
                    problem = (
                        problem or f"{'left: processes run on' if ended else 'hang'} after {self.calls} calls: {where}"
                    )
                    _kill_below()
                    until = time.monotonic() + LEFT_S
        finally:
            os.close(command)

    def _stacks(self, poll: select.poll) -> str:
        """Return the stack of each thread of the command and of the processes below it."""
        for process in (self._pid, *_below(self._pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGUSR1)
        until = time.monotonic() + 1
        while time.monotonic() < until:
            if dict(poll.poll(100)).get(self._descriptor, 0) & select.POLLIN:
                self._answer()
        return (self._path / "stacks").read_text()

    def _answer(self) -> None:
        call = seccomp.next_call(self._descriptor)
        if call is None:
            return
        self.calls += 1
        fails = self.calls == self._number or (self._fault.onwards and 0 < self._number < self.calls)
        if fails and self._fault.error == KILL:
            self.fired = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(call.thread, signal.SIGKILL)
            return
        self.fired |= fails
        seccomp.answer(self._descriptor, call, self._fault.error if fails else 0)

    def _reap(self, options: int = os.WNOHANG) -> None:
        """Take the status of ended processes; with the options 0, wait for all of them."""
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitpid(-1, options))[0]:
                if found[0] == self._pid:
                    self.status = os.waitstatus_to_exitcode(found[1])
                    self.killed = self.fired and self._fault.error == KILL and self.status == -signal.SIGKILL


def _kill_below() -> None:
    """End all processes below this one."""
    for _ in range(5):
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        for child in map(int, children):
            for each in (child, *_below(child)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(each, signal.SIGKILL)


def _below(pid: int) -> list[int]:
    try:
        children = list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    except OSError:
        return []
    return [*children, *itertools.chain.from_iterable(map(_below, children))]


# What a run may leave.


def problem_of(mode: Mode, fault: Fault, found: Run, good: Run) -> str | None:
    """Return which rule a run breaks, or None.

    `good` is the run without faults. A command prints sentences alone to standard error. It gives
    all results, each correct or an error, or it gives one sentence; the exit status says which.
    What it has written is complete, or has a name that says that it is not.
    """
    if found.problem:
        return found.problem
    if found.killed:
        return None if _unfinished(mode, found, good) else "half: " + _shown(found)
    if fault.group == "memory" and found.status < 0 and _unfinished(mode, found, good):
        return None  # onnxruntime crashes during its import, NumPy if the system refuses every page
    # While Python itself starts, its hashlib logs a traceback of each hash that cannot be loaded.
    lines = found.stderr.splitlines()[-1:] if mode.cold else found.stderr.splitlines()
    if any(line.startswith("Traceback") for line in lines) or found.status not in (0, 1, USAGE, UNUSABLE):
        return f"died: status {found.status}\n{found.stacks}"
    for line in lines:
        if not (line.startswith("ms-edge: ") and line.endswith(".")):
            return f"stderr: {line!r}"
    results = _results(mode, found, good)
    if found.status == 0:
        return None if results == "good" else f"status 0, but {results}"
    if not found.stderr and fault.group != "write":  # the sentence may be what could not be written
        return f"status {found.status} without a sentence"
    if _source_failed(mode, found, results):
        return None
    if results == "good" and found.status != 1:
        return f"status {found.status}, but all results are there"
    if results in ("good", "errors") and found.status == 1:
        return None
    return None if _unfinished(mode, found, good) else f"half: {results}: {_shown(found)}"


def _source_failed(mode: Mode, found: Run, results: str) -> bool:
    """Return whether the end of the list of recordings, which might be longer, or their folder cannot be read."""
    if "--files-from" in mode.command:
        return found.status == USAGE and results == "good"
    if "-r" not in mode.command or found.status != 1 or "ms-edge: in: " not in found.stderr:
        return False
    return _error_of(mode.form, found.stdout.decode(), json.dumps({"path": "in"}), "") == "in"


def _results(mode: Mode, found: Run, good: Run) -> str:
    """Return "good" if the results are those of the run without faults, "errors" if some are errors.

    Any other text says what is wrong.
    """
    if set(found.files) - set(good.files):
        return f"files left: {sorted(set(found.files) - set(good.files))}"
    pairs = [(found.stdout, good.stdout)] if not good.files else []
    pairs += [(found.files.get(name), content) for name, content in good.files.items()]
    kinds = [_compared(mode, *pair, found.stderr) for pair in pairs]
    wrong = [kind for kind in kinds if kind not in ("good", "errors")]
    return wrong[0] if wrong else "errors" if "errors" in kinds else "good"


def _compared(mode: Mode, found: bytes | None, good: bytes, stderr: str) -> str:
    """Compare one document."""
    if found == good:
        return "good"
    if found is None:
        return "errors" if mode.form in ("tracks", "pages") and stderr else "a document is missing"
    if mode.form == "pages":
        return _compared_rows(found.decode(), good.decode(), stderr)
    ours, theirs = found.decode().splitlines(), good.decode().splitlines()
    if mode.form in ("tracks", "lines") or len(ours) != len(theirs):
        return f"{len(ours)} lines in place of {len(theirs)}"
    kind = "good"
    for line, right in zip(ours, theirs, strict=True):
        if line != right:
            kind = "errors"
            path = _error_of(mode.form, line, right, theirs[0])
            if path is None:
                return f"other: {line} in place of {right}"
            if f"ms-edge: {path}: " not in stderr:
                return f"no sentence about {path}"
    return kind


def _compared_rows(found: str, good: str, stderr: str) -> str:
    """Compare two pages: only the index may differ, in rows of errors."""
    ours, theirs = ((re.findall(r'id="data">(.*)</script>', each) or ["{}"])[0] for each in (found, good))
    rows, expected = (json.loads(each).get("rows", []) for each in (ours, theirs))
    if len(rows) != len(expected) or not all(isinstance(row, list) for row in rows):
        return f"{len(rows)} rows in place of {len(expected)}"
    for row, right in zip(rows, expected, strict=True):
        # Names in the index are without the folder that all pages share; that of a failed recording is not.
        name = row[0].rpartition("/")[2]
        if row != right and not (row[2] == "error" and name == right[0].rpartition("/")[2] and f"/{name}: " in stderr):
            return f"other: {row} in place of {right}"
    return "errors" if rows else "another page"


def _error_of(form: str, line: str, right: str, head: str) -> str | None:
    """Return the path of a line that is an error about the same path as the right line, or None."""
    if form == "text":
        match = re.fullmatch(r"error(?: +-)+ +(\S+) \(([a-z-]+)\)", line)
        return match[1] if match and match[2] in ERROR_CODES and match[1] in right.split() else None
    if form == "csv":
        row, expected = (next(csv.DictReader(io.StringIO(f"{head}\n{each}\n"))) for each in (line, right))
        return row["path"] if row["path"] == expected["path"] and row["error"] in ERROR_CODES else None
    try:
        record, expected = json.loads(line), json.loads(right)
    except ValueError:
        return None
    same = record.get("path") == expected["path"] and record.get("error", {}).get("code") in ERROR_CODES
    return record["path"] if same else None


def _unfinished(mode: Mode, found: Run, good: Run) -> bool:
    """Return whether what a run left is the beginning of what it should, under names that say so."""
    if not mode.output:
        return _begins(mode, found.stdout, good.stdout, found.stderr)
    for name, content in found.files.items():
        if name in good.files:
            if _compared(mode, content, good.files[name], found.stderr) not in ("good", "errors"):
                return False
        elif name.endswith(".resume"):  # records of several earlier runs, one after the other
            if not set(content.splitlines()[:-1]) <= set(good.files[mode.output].splitlines()):
                return False
        elif name.endswith(".part"):
            if "/" not in name and not _begins(mode, content, good.files[mode.output], found.stderr):
                return False
        else:
            return False
    return True


def _begins(mode: Mode, found: bytes, good: bytes, stderr: str) -> bool:
    """Return whether a document is the beginning of another, errors apart."""
    if good.startswith(found):
        return True
    whole = found[: found.rfind(b"\n") + 1]
    count = whole.count(b"\n")
    theirs = b"".join(good.splitlines(keepends=True)[:count])
    return _compared(mode, whole, theirs, f"{stderr}ms-edge: ") in ("good", "errors") or mode.form == "lines"


def _shown(found: Run) -> str:
    return f"status {found.status}, {found.stdout[-200:]!r}, {{{', '.join(f'{k}: {len(v)}' for k, v in found.files.items())}}}"


# The selection of runs.


@dataclass
class Tally:
    """What the runs of one kind gave."""

    results: Counter[str] = field(default_factory=Counter)

    def add(self, found: Run, problem: str | None) -> None:
        kind = (
            "finding" if problem else "killed" if found.status < 0 else {0: "all right", 1: "errors"}.get(found.status)
        )
        self.results[kind or "sentence"] += 1


Tallies = dict[tuple[str, str], Tally]  # by mode and fault


class Bench:
    """Runs modes with faults, and compares each run with one without."""

    def __init__(self, root: Path) -> None:
        self.place = Place(root)
        (root / "in").mkdir()
        for name in (*RECORDINGS, *MEDIA):
            shutil.copy(CORPUS / name, root / "in")
        self._warm = False
        self._good: dict[str, Run] = {}
        self._calls: dict[tuple[str, str], int] = {}

    def prepare(self, name: str) -> Run:
        """Return the run of a mode without faults."""
        mode = MODES[name]
        if not mode.cold and not self._warm:
            self._warm_up()
        if name not in self._good:
            self.place.earlier = {}
            found = self._run(mode, "read", 0)
            if found.problem or found.status or found.stderr:
                raise RuntimeError(f"{name}: without faults: {found}")
            self._good[name] = found
        good = self._good[name]
        self.place.earlier = {}
        if mode.earlier:
            lines = good.files["out.jsonl"].splitlines(keepends=True)
            part = b"".join(lines[: mode.earlier]) + lines[mode.earlier][:50]
            self.place.earlier = {"out.jsonl.part": part, "out.jsonl.resume": b"".join(lines[:5])}
        return good

    def calls(self, name: str, fault: str) -> int:
        """Return how many calls of the group a run makes."""
        good, key = self.prepare(name), (name, FAULTS[fault].group)
        if key not in self._calls:
            found = self._run(MODES[name], fault, 0)
            if found.files != good.files or found.stdout != good.stdout:
                raise RuntimeError(f"{name}: another result without faults: {found}")
            self._calls[key] = found.calls
        return self._calls[key]

    def once(self, name: str, fault: str, number: int) -> tuple[Run, str | None]:
        """Run a mode with a fault. Return what it left and which rule it broke."""
        good, mode = self.prepare(name), MODES[name]
        path = self.place.fresh(mode)
        found = run(mode, arguments_of(mode), path, FAULTS[fault], number)
        problem = problem_of(mode, FAULTS[fault], found, good)
        if not problem and mode.output == "out.jsonl" and found.status:
            command = [*arguments_of(mode), *(() if "--resume" in mode.command else ("--resume",))]
            for stream in ("stdout", "stderr"):
                (path / stream).unlink()
            again = run(mode, command, path, FAULTS["fsync"], 0)
            if again.status or again.files != good.files:
                problem = f"resume: {again.stderr.strip()} {_shown(again)}"
        shutil.rmtree(path)
        return found, problem

    def _run(self, mode: Mode, fault: str, number: int) -> Run:
        path = self.place.fresh(mode)
        found = run(mode, arguments_of(mode), path, FAULTS[fault], number)
        shutil.rmtree(path)
        return found

    def _warm_up(self) -> None:
        """Import everything, so that the copies of this process need not."""
        self._warm = True
        files = [str(CORPUS / name) for name in (*RECORDINGS, *MEDIA)]
        for jobs in ("1", "2"):
            if cli.main(["classify", "-q", "-j", jobs, "-o", str(self.place.root / "warm.csv"), *files]):
                raise RuntimeError("the recordings cannot be classified")
        if (threads := len(os.listdir("/proc/self/task"))) != 1:
            raise RuntimeError(f"{threads} threads")


def selection(
    bench: Bench, modes: Sequence[str], faults: Sequence[str], runs: int | None
) -> Iterator[tuple[str, str, int]]:
    """Yield mode, fault and number of each run: all, or `runs` in about equal parts of each pair."""
    pairs = [
        (name, fault)
        for name, fault in itertools.product(modes, faults)
        # Thread.start() waits forever if the new thread gets no memory to begin with. FFmpeg is watched by threads.
        if fault not in ("memory", "no memory") or not name.startswith(("threads", "media", "walk"))
    ]
    for index, (name, fault) in enumerate(pairs):
        share = None if runs is None else (index + 1) * runs // len(pairs) - index * runs // len(pairs)
        if share != 0:
            calls = bench.calls(name, fault)
            count = calls if share is None else min(calls, share)
            # The middle of each part, shifted, so that the faults do not all hit the same files.
            for at in range(count):
                yield name, fault, 1 + (2 * at + 1 + index % 2) * calls // (2 * count) % calls


def made(bench: Bench, chosen: Sequence[tuple[str, str, int]], *, show: bool = False) -> tuple[Tallies, int]:
    """Make runs. Return what they gave by mode and fault, and the number of findings, which are printed.

    `show` prints the other runs, too.
    """
    tallies: Tallies = {}
    findings = 0
    for name, fault, number in chosen:
        found, problem = bench.once(name, fault, number)
        tallies.setdefault((name, fault), Tally()).add(found, problem)
        findings += problem is not None
        if problem or show:
            print(f"--mode {name} --fault '{fault}' --number {number}: {problem}\n{found.stderr[-3000:]}", flush=True)
    return tallies, findings


def made_in_parallel(bench: Bench, chosen: Sequence[tuple[str, str, int]], jobs: int) -> tuple[Tallies, int]:
    """Do what `made` does in several copies of this process."""
    sys.stdout.flush()
    started = []
    for number in range(jobs):
        pid = os.fork()
        if pid == 0:
            try:
                seccomp.adopt_orphans()
                bench.place.count = number << 32  # directories of its own
                done = made(bench, chosen[number::jobs])
                (bench.place.root / f"made-{number}").write_bytes(pickle.dumps(done))
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        started.append(pid)
    statuses = [os.waitpid(pid, 0)[1] for pid in started]
    if any(statuses):
        raise RuntimeError("a process that makes runs has failed")
    tallies: Tallies = {}
    findings = 0
    for number in range(jobs):
        theirs, count = pickle.loads((bench.place.root / f"made-{number}").read_bytes())
        findings += count
        for key, tally in theirs.items():
            tallies.setdefault(key, Tally()).results.update(tally.results)
    order = list(dict.fromkeys((name, fault) for name, fault, _ in chosen))
    return dict(sorted(tallies.items(), key=lambda each: order.index(each[0]))), findings


def report(tallies: Tallies, by: int) -> str:
    """Return a table with a row for each mode (`by` 0) or kind of fault (1)."""
    columns = ("all right", "errors", "sentence", "killed", "finding")
    rows: dict[str, Counter[str]] = {}
    for key, tally in tallies.items():
        rows.setdefault(key[by], Counter()).update(tally.results)
    lines = [f"{('mode', 'fault')[by]:<16}{'runs':>7}" + "".join(f"{column:>11}" for column in columns)]
    for name, results in rows.items():
        cells = "".join(f"{results[column]:>11}" for column in columns)
        lines.append(f"{name:<16}{results.total():>7}{cells}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, help="how many runs at most, evenly spread (default: all)")
    parser.add_argument("--mode", default="*", metavar="PATTERN", help="only these modes")
    parser.add_argument("--fault", default="*", metavar="PATTERN", help="only these kinds of faults")
    parser.add_argument("--number", type=int, help="only the call of this number")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--jobs", type=int, default=cores, help="how many at a time (default: one per core)")
    options = parser.parse_args(arguments)
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    os.environ["PATH"] = ""  # the program ffmpeg, if PyAV cannot be imported, gives slightly other samples
    seccomp.adopt_orphans()
    modes = [name for name in MODES if fnmatch(name, options.mode)]
    faults = [name for name in FAULTS if fnmatch(name, options.fault)]
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        bench = Bench(Path(folder))
        if options.number is None:
            chosen = list(selection(bench, modes, faults, options.runs))
        else:
            chosen = [(name, fault, options.number) for name, fault in itertools.product(modes, faults)]
        if options.jobs > 1 and options.number is None:
            tallies, findings = made_in_parallel(bench, chosen, options.jobs)
        else:
            tallies, findings = made(bench, chosen, show=options.number is not None)
    for by in (0, 1):
        print(report(tallies, by), end="\n\n")
    runs = sum(tally.results.total() for tally in tallies.values())
    print(f"{runs:,} runs in {time.monotonic() - began:.0f} s, {findings} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
