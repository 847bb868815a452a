"""Messages to systemd, received by real sockets as systemd has them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

from ms_edge.live.events import Event, Position
from ms_edge.live.systemd import Notifier

pytestmark = pytest.mark.skipif(os.name != "posix", reason="systemd runs on Linux")
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def event(kind: str, source: str = "a", rule: str | None = None) -> Event:
    return Event(kind=kind, source=source, time_s=0.0, utc=NOW, rule=rule)


def names() -> list[Any]:
    path = pytest.param("path", marks=pytest.mark.native)
    return [path, "abstract"] if sys.platform == "linux" else [path]


@pytest.fixture(params=names())
def systemd(request, tmp_path) -> Iterator[tuple[socket.socket, str]]:
    """A socket with a path or an abstract name, and what NOTIFY_SOCKET says of it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        if request.param == "path":
            path = os.path.relpath(tmp_path / "notify") if len(str(tmp_path)) > 90 else str(tmp_path / "notify")
            receiver.bind(path)
            name = path
        else:
            receiver.bind(f"\0ms-edge-test-{os.getpid()}")
            name = f"@ms-edge-test-{os.getpid()}"
        receiver.setblocking(False)
        yield receiver, name


def received(receiver: socket.socket) -> list[str]:
    """Return the lines of all messages so far."""
    lines: list[str] = []
    while True:
        try:
            lines += receiver.recv(4096).decode().split("\n")
        except BlockingIOError:
            return lines


def test_states_are_told_once(systemd):
    receiver, name = systemd
    notifier = Notifier({"NOTIFY_SOCKET": name})
    notifier.tick(NOW, {"a": Position(0, 0), "b": Position(0, 0)})
    assert received(receiver) == ["READY=1", "STATUS=0 of 2 inputs connected"]
    notifier.tick(NOW, {"a": Position(0, 0), "b": Position(0, 0)})
    assert received(receiver) == []
    notifier.take(event("connected"))
    notifier.take(event("connected", "b"))
    notifier.take(event("lost", "b"))
    notifier.take(event("alert", rule="no music 60s"))
    notifier.tick(NOW, {"a": Position(60, 62), "b": Position(1, 3)})
    assert received(receiver) == ["STATUS=1 of 2 inputs connected; alerts: no music 60s (a)"]
    notifier.take(event("reconnected", "b"))
    notifier.take(event("alert_end", rule="no music 60s"))
    notifier.tick(NOW, {"a": Position(90, 92), "b": Position(1, 3)})
    assert received(receiver) == ["STATUS=2 of 2 inputs connected"]
    notifier.close()
    notifier.close()
    assert received(receiver) == ["STOPPING=1"]


def test_heartbeats_come_with_ticks_alone(systemd):
    receiver, name = systemd
    seconds = [0.0]
    notifier = Notifier({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "30000000"}, lambda: seconds[0])
    beats = []
    for second in range(31):
        seconds[0] = second
        notifier.tick(NOW, {"a": Position(0, 0)})
        beats += [second] * ("WATCHDOG=1" in received(receiver))
    assert beats == [0, 10, 20, 30]
    seconds[0] = 1000  # the loop hangs: nothing comes, whatever is done beside it
    notifier.take(event("connected"))
    assert received(receiver) == []


@pytest.mark.parametrize(
    ("environment", "beats"),
    [
        ({}, False),
        ({"WATCHDOG_USEC": "0"}, False),
        ({"WATCHDOG_USEC": "soon"}, False),
        ({"WATCHDOG_USEC": "1000000"}, True),
        ({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getpid())}, True),
        ({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}, False),
    ],
)
def test_watchdog_is_that_of_this_process(systemd, environment, beats):
    receiver, name = systemd
    Notifier({"NOTIFY_SOCKET": name, **environment}).tick(NOW, {})
    assert ("WATCHDOG=1" in received(receiver)) == beats


def test_names_of_sources_add_no_lines(systemd):
    receiver, name = systemd
    notifier = Notifier({"NOTIFY_SOCKET": name})
    notifier.take(event("alert", "a\nMAINPID=1\n" + "x" * 10_000, "no music 60s"))
    notifier.tick(NOW, {})
    _, status = received(receiver)
    assert status.startswith(r"STATUS=0 of 0 inputs connected; alerts: no music 60s (a\nMAINPID=1\nxxx")
    assert len(status) < 600


@pytest.mark.parametrize("name", ["", "vsock:2:1", "relative", "/no/such/socket", "@no-such-socket", "/" + "x" * 200])
def test_no_systemd_is_no_error(name):
    notifier = Notifier({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "1000000"})
    notifier.take(event("connected"))
    notifier.tick(NOW, {"a": Position(1, 3)})
    notifier.close()


@pytest.mark.native
def test_readiness_is_told_again_to_a_busy_systemd(tmp_path):
    path = tmp_path / "notify"
    notifier = Notifier({"NOTIFY_SOCKET": str(path)})
    notifier.tick(NOW, {})
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(path))
        receiver.setblocking(False)
        notifier.tick(NOW, {})
        assert received(receiver) == ["READY=1", "STATUS=0 of 0 inputs connected"]
        # Its queue is full: the loop does not wait.
        for number in range(2000):
            notifier.take(event("connected", str(number)))
            notifier.tick(NOW, {})
        assert 1 <= len(received(receiver)) < 2000
        notifier.take(event("lost", "0"))
        notifier.tick(NOW, {})
        assert received(receiver) == ["STATUS=1999 of 2000 inputs connected"]


one_socket = pytest.mark.parametrize("systemd", names()[:1], indirect=True)


class Running:
    """`ms-edge monitor -` with audio that the test writes, under the watch of a test that plays systemd."""

    def __init__(self, name: str) -> None:
        environment = {**os.environ, "NOTIFY_SOCKET": name, "WATCHDOG_USEC": "1500000"}
        rules = ["--alert", "speech 2s", "--alert", "no input 5s"]
        command = [sys.executable, "-m", "ms_edge.cli", "monitor", "-", "--raw", "16000:1:f32le", *rules]
        self.process = subprocess.Popen(
            [*command, "--format", "jsonl", "--stall", "1h"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def write(self, samples: np.ndarray) -> None:
        with contextlib.suppress(BrokenPipeError):  # the test has ended
            self.process.stdin.write(samples.tobytes())
            self.process.stdin.flush()

    def read_until(self, kind: str, rule: str) -> dict[str, Any]:
        """Read events until an alert comes."""
        for line in self.process.stdout:
            event = json.loads(line)
            if event["event"] == kind and event.get("rule") == rule:
                return event
        raise AssertionError


@pytest.fixture
def running(systemd) -> Iterator[Running]:
    found = Running(systemd[1])
    yield found
    found.process.kill()
    found.process.communicate()


@pytest.fixture(scope="module")
def speech(samples) -> np.ndarray:
    """Half a minute of speech, mono float32 at 16 kHz."""
    found = []
    for path in samples:
        if path.name.startswith("speech"):
            sound, rate = soundfile.read(path, dtype="float32", always_2d=True)
            found.append(soxr.resample(sound.mean(axis=1), rate, 16_000))
    return np.concatenate(found)


def wait_for(receiver: socket.socket, line: str) -> list[str]:
    """Wait until the monitor sends a line that begins so, and return all lines until then."""
    receiver.settimeout(120)
    lines: list[str] = []
    give_up = time.monotonic() + 120
    while not any(each.startswith(line) for each in lines):
        assert time.monotonic() < give_up, (line, lines)  # heartbeats go on for ever
        lines += receiver.recv(4096).decode().split("\n")
    receiver.setblocking(False)
    return lines


@one_socket
def test_monitor_tells_systemd_what_it_does(systemd, running, speech):
    receiver, _ = systemd
    assert wait_for(receiver, "READY=1") == ["READY=1", "STATUS=0 of 1 inputs connected", "WATCHDOG=1"]
    running.write(speech)
    assert running.read_until("alert", "speech 2s")["time_s"] == pytest.approx(2, abs=1)
    wait_for(receiver, "STATUS=1 of 1 inputs connected; alerts: speech 2s (-)")
    raised = running.read_until("alert", "no input 5s")  # nothing happens: the clock alone says so
    assert raised["for_s"] == 5
    wait_for(receiver, "STATUS=1 of 1 inputs connected; alerts: speech 2s (-), no input 5s (-)")
    running.process.send_signal(signal.SIGTERM)
    running.read_until("alert_end", "no input 5s")
    assert wait_for(receiver, "STOPPING=1")[-1] == "STOPPING=1"
    assert running.process.wait(60) == 130


@one_socket
@pytest.mark.skipif(sys.platform != "linux", reason="makes a pipe smaller as Linux can")
def test_a_hung_monitor_has_no_heartbeat(systemd, running, speech):
    """Nobody reads the events: the pipe is full, and the loop hangs in a write until somebody does."""
    import fcntl

    receiver, _ = systemd
    fcntl.fcntl(running.process.stdout, fcntl.F_SETPIPE_SZ, 4096)
    wait_for(receiver, "READY=1")
    programme = np.concatenate([speech, np.zeros_like(speech)] * 8)
    writer = threading.Thread(target=running.write, args=(programme,), daemon=True)
    writer.start()
    assert not beats_on(receiver)
    threading.Thread(target=running.process.stdout.read, daemon=True).start()
    wait_for(receiver, "WATCHDOG=1")


def beats_on(receiver: socket.socket) -> bool:
    """Return whether messages still come after three minutes; False once none has come for 4 s."""
    receiver.settimeout(4)  # twice what a heartbeat needs
    give_up = time.monotonic() + 180
    try:
        while time.monotonic() < give_up:
            receiver.recv(4096)
    except TimeoutError:
        return False
    return True
