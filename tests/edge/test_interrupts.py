"""Ctrl-C, SIGTERM and SIGHUP: files in progress are finished, and no process remains."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import hostile
import pytest

from ms_edge.jobs.interrupts import INTERRUPTED, TOGETHER_S, Interrupts

pytestmark = pytest.mark.skipif(os.name != "posix", reason="Windows sends no signal to one process")
PROGRAM = [sys.executable, "-m", "ms_edge.cli"]
NAMES = ["SIGINT", "SIGTERM", "SIGHUP"]
each_signal = pytest.mark.parametrize(
    "name", ["SIGINT", *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES[1:])]
)


def started(*arguments: str, program: list[str] = PROGRAM, **options) -> subprocess.Popen[bytes]:
    """Start a process that ignores no signal, even if this one does (under nohup)."""
    before = {number: signal.signal(number, lambda *_: None) for number in map(signal.Signals.__getitem__, NAMES)}
    try:
        return subprocess.Popen([*program, *arguments], stderr=subprocess.PIPE, **options)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def wait_until(true: Callable[[], object], process: subprocess.Popen[bytes] | None = None) -> None:
    patience = time.monotonic() + 60
    while not true():
        assert process is None or process.poll() is None, process.stderr.read()
        assert time.monotonic() < patience
        time.sleep(0.01)


def records(path: str) -> int:
    return Path(path).read_bytes().count(b"\n") if Path(path).exists() else 0


def long(path: str = "days.wav") -> None:
    """Make a sparse recording that takes minutes."""
    with open(path, "wb") as file:
        file.write(hostile.plain())
        file.truncate(4_000_000_000)
        file.seek(40)
        file.write((4_000_000_000 - 44).to_bytes(4, "little"))


def group_of(process: subprocess.Popen[bytes]) -> list[int]:
    """Return the other processes in the group that a process leads, without zombies."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            state, _, group = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[:3]
            if int(group) == process.pid != int(entry) and state != "Z":
                found.append(int(entry))
    return found


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The working directory, with a.wav and b.wav."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.wav", "b.wav"):
        hostile.CASES["plain"].make(tmp_path / name)
    return tmp_path


@each_signal
@pytest.mark.parametrize("jobs", ["1", "3"])
@pytest.mark.parametrize("output", ["r.jsonl", "r.csv", "out/"])
def test_a_signal_ends_a_run_with_one_sentence(folder, name, jobs, output):
    with started("classify", "--files-from", "-", "-j", jobs, "-o", output, stdin=subprocess.PIPE) as process:
        process.stdin.write(b"a.wav\nb.wav\n")
        process.stdin.flush()
        wait_until(lambda: len(list(folder.glob("out/*"))) + sum(map(records, folder.glob("*.part"))) >= 2, process)
        time.sleep(0.1)  # for the second file
        process.send_signal(signal.Signals[name])
        assert process.wait(60) == 130
        complaint = process.stderr.read().decode()
    assert complaint.startswith("ms-edge: interrupted after ")
    assert len(complaint.splitlines()) == 1
    assert ("holds the results so far" in complaint) is (output != "out/")
    assert ("--resume" in complaint) is (output == "r.jsonl")
    if output == "r.jsonl":
        lines = Path("r.jsonl.part").read_text().splitlines(keepends=True)
        assert [json.loads(line)["path"] for line in lines] == ["a.wav", "b.wav"][: len(lines)]
        assert all(line.endswith("}\n") for line in lines)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere files are worked on in threads")
@each_signal
def test_a_signal_to_all_processes_loses_no_result(folder, name):
    """Terminals, `timeout` and systemd do this."""
    paths = [f"{number}.wav" for number in range(20)]
    for path in paths:
        Path(path).write_bytes(hostile.plain(hostile.PCM * 20))
    options = {"stdout": subprocess.PIPE, "start_new_session": True}
    with started("classify", *paths, "-j", "2", "--hop", "0.05", "--format", "jsonl", **options) as process:
        first = process.stdout.readline()
        os.killpg(process.pid, signal.Signals[name])
        out, complaint = process.stdout.read(), process.stderr.read()
        assert process.wait(60) == 130
        assert group_of(process) == []
    found = [json.loads(line) for line in [first, *out.splitlines()]]
    assert [record["path"] for record in found] == paths[: len(found)]
    assert all("label" in record for record in found)
    assert complaint.decode().splitlines() == [
        f"ms-edge: interrupted after {len(found)} results: what was printed or written so far is complete."
    ]


@each_signal
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_the_second_signal_ends_all_processes_at_once(folder, name, jobs):
    long()
    options = {"stdout": subprocess.PIPE, "start_new_session": True}
    with started("classify", "a.wav", "days.wav", "-j", jobs, "--hop", "0.05", "-o", "r.jsonl", **options) as process:
        wait_until(lambda: records("r.jsonl.part"), process)
        time.sleep(1)  # now the second file is being read
        for _ in range(2):
            assert process.poll() is None
            process.send_signal(signal.Signals[name])
            time.sleep(3 * TOGETHER_S)
        assert process.wait(10) == 130
        assert b"Traceback" not in process.stderr.read()
        if sys.platform == "linux":
            wait_until(lambda: not group_of(process))
    assert records("r.jsonl.part") == 1


def test_two_signals_at_once_count_as_one(monkeypatch):
    """`timeout` sends SIGTERM to a process and to its group, so the process gets it twice."""
    ended, now = [], [0.0]
    monkeypatch.setattr(os, "_exit", ended.append)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with Interrupts() as interrupts:
        assert not interrupts.stopped()
        signal.raise_signal(signal.SIGTERM)
        now[0] = TOGETHER_S / 2
        signal.raise_signal(signal.SIGTERM)
        assert interrupts.stopped()
        assert ended == []
        now[0] = TOGETHER_S * 2
        signal.raise_signal(signal.SIGINT)
        assert ended == [INTERRUPTED]


@pytest.mark.parametrize("name", ["SIGHUP", "SIGTERM"])
def test_an_ignored_signal_stays_ignored(folder, name):
    """nohup does this."""
    number = signal.Signals[name]
    before = signal.signal(number, signal.SIG_IGN)
    try:
        process = subprocess.Popen(
            [*PROGRAM, "classify", "--files-from", "-", "-o", "r.jsonl"], stdin=subprocess.PIPE, stderr=subprocess.PIPE
        )
    finally:
        signal.signal(number, before)
    with process:
        process.stdin.write(b"a.wav\n")
        process.stdin.flush()
        wait_until(lambda: records("r.jsonl.part") == 1, process)
        process.send_signal(number)
        assert process.communicate(b"b.wav\n", timeout=60)[1] == b""
        assert process.returncode == 0
    assert records("r.jsonl") == 2


@pytest.mark.parametrize("name", NAMES)
def test_a_signal_while_loading_is_one_sentence(folder, name):
    """The signal comes while the model is loaded."""
    script = (
        "import signal, sys, time; from ms_edge.cli import main as cli; from ms_edge.model.session import Model\n"
        f"Model.load = lambda *_: (signal.raise_signal(signal.{name}), time.sleep(60))\n"
        "sys.argv[1:] = ['classify', 'a.wav', '-o', 'r.jsonl']; cli.command()"
    )
    with started(program=[sys.executable, "-c", script]) as process:
        _, complaint = process.communicate(timeout=30)
    assert (process.returncode, complaint) == (130, b"ms-edge: interrupted; what was printed so far is complete.\n")
    assert {path.name for path in folder.iterdir()} == {"a.wav", "b.wav"}


@pytest.mark.parametrize("name", NAMES)
def test_a_signal_ends_a_stream_with_one_sentence(name):
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with started("stream", "--windows", "--hop", "0.5", "--raw", "16000:1:s16le", "-", **options) as process:
        process.stdin.write(bytes(32_000 * 2))
        process.stdin.flush()
        shown = [process.stdout.readline() for _ in range(4)]  # the header and three windows; the stream goes on
        process.send_signal(signal.Signals[name])
        assert process.wait(30) == 130
        assert process.stderr.read() == b"ms-edge: interrupted; what was printed so far is complete.\n"
        assert process.stdout.read() == b""
        assert all(line.endswith(b"\n") for line in shown)


@pytest.mark.pty
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_closed_terminal_loses_no_result(folder, jobs):
    """It shows a progress bar, which cannot be shown any more."""
    import pty
    import termios

    Path("in").mkdir()
    for number in range(300):
        hostile.CASES["plain"].make(Path(f"in/{number:03}.wav"))
    process, terminal = pty.fork()
    if process == 0:
        options = ["classify", "in", "-o", "r.jsonl", "-j", jobs, "--hop", "0.01"]
        try:
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
            os.execv(sys.executable, [*PROGRAM, *options])
        finally:
            os._exit(1)
    termios.tcsetwinsize(terminal, (25, 120))
    shown = b""
    while b"x real time" not in shown:
        shown += os.read(terminal, 1000)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 130
    lines = Path("r.jsonl.part").read_text().splitlines(keepends=True)
    assert [json.loads(line)["path"] for line in lines] == [f"in/{number:03}.wav" for number in range(len(lines))]
    assert 0 < len(lines) < 300
