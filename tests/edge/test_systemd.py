"""Messages to systemd, received by real sockets as systemd has them."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from ms_edge.live.events import Event
from ms_edge.live.systemd import Notifier

pytestmark = pytest.mark.skipif(os.name != "posix", reason="systemd runs on Linux")
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def event(kind: str, source: str = "a", rule: str | None = None) -> Event:
    return Event(kind=kind, source=source, time_s=0.0, utc=NOW, rule=rule)


def names() -> list[str]:
    return ["path", "abstract"] if sys.platform == "linux" else ["path"]


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
    notifier.tick(NOW, {"a": 0.0, "b": 0.0})
    assert received(receiver) == ["READY=1", "STATUS=0 of 2 inputs connected"]
    notifier.tick(NOW, {"a": 0.0, "b": 0.0})
    assert received(receiver) == []
    notifier.take(event("connected"))
    notifier.take(event("connected", "b"))
    notifier.take(event("lost", "b"))
    notifier.take(event("alert", rule="no music 60s"))
    notifier.tick(NOW, {"a": 60.0, "b": 1.0})
    assert received(receiver) == ["STATUS=1 of 2 inputs connected; alerts: no music 60s (a)"]
    notifier.take(event("reconnected", "b"))
    notifier.take(event("alert_end", rule="no music 60s"))
    notifier.tick(NOW, {"a": 90.0, "b": 1.0})
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
        notifier.tick(NOW, {"a": 0.0})
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
    notifier.tick(NOW, {"a": 1.0})
    notifier.close()


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
