"""Tell systemd that the monitor runs: readiness, a line of status, and the heartbeat of the watchdog.

The protocol is that of sd_notify(3): datagrams of `NAME=value` lines to the socket that `NOTIFY_SOCKET`
names. Without that variable nothing is sent.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from datetime import datetime

from ms_edge.live.events import Event, Position
from ms_edge.output.writers import printable

STATUS_LENGTH = 500  # characters


class Notifier:
    """A consumer of events that reports to systemd.

    The heartbeat `WATCHDOG=1` is sent from `tick` and from nowhere else. If the loop that calls `tick`
    hangs, in a read, a write or the model, the heartbeat ends, and systemd starts the service again.
    A message that systemd does not take at once is sent again with the next call of `tick`.
    """

    def __init__(self, environment: Mapping[str, str], clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self._socket: socket.socket | None = None
        if self._address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
        self._heartbeat_s = _heartbeat_s(environment)
        self._beaten: float | None = None
        self._connected: dict[str, bool] = {}
        self._alerts: dict[tuple[str, int | None, str | None], None] = {}
        self._status = ""

    def take(self, event: Event) -> None:
        """Note which inputs are connected and which alerts are raised."""
        if event.kind in ("connected", "reconnected", "resumed"):
            self._connected[event.source] = True
        elif event.kind in ("lost", "stall", "end"):
            self._connected[event.source] = False
        elif event.kind == "alert":
            self._alerts[event.source, event.channel, event.rule] = None
        elif event.kind == "alert_end":
            self._alerts.pop((event.source, event.channel, event.rule), None)

    def tick(self, now: datetime, progress: Mapping[str, Position]) -> None:
        """Report readiness once, the status when it changes, and the heartbeat when it is due."""
        if self._socket is None:
            return
        now_s, status = self._clock(), self._line(progress)
        first = self._beaten is None
        due = self._beaten is None or (self._heartbeat_s and now_s - self._beaten >= self._heartbeat_s)
        lines = ["READY=1"] * first
        if status != self._status:
            lines.append(f"STATUS={status}")
        if due and self._heartbeat_s:
            lines.append("WATCHDOG=1")
        if lines and self._send(*lines):
            self._status = status
            self._beaten = now_s if due else self._beaten

    def close(self) -> None:
        """Report that the service stops."""
        self._send("STOPPING=1")
        if self._socket:
            self._socket.close()
            self._socket = None

    def _line(self, progress: Mapping[str, Position]) -> str:
        sources = self._connected.keys() | progress.keys()
        connected = sum(self._connected.values())
        line = f"{connected} of {len(sources)} inputs connected"
        if self._alerts:
            alerts = ", ".join(f"{rule} ({source})" for source, _, rule in self._alerts)
            line += f"; alerts: {alerts}"
        return printable(line)[:STATUS_LENGTH]  # a name with a line break must not become a second line

    def _send(self, *lines: str) -> bool:
        """Return whether systemd has taken these lines."""
        if self._socket is None:
            return False
        try:
            self._socket.sendto("\n".join(lines).encode("utf-8", "backslashreplace"), self._address)
        except OSError:  # systemd is busy, or is being started again
            return False
        return True


def _address(name: str) -> str | bytes:
    """Return the address of a UNIX socket, whose name is a path or, after `@`, an abstract name.

    Return nothing if the name is neither.
    """
    if name.startswith("@"):
        return b"\0" + os.fsencode(name[1:])
    return name if name.startswith("/") else ""


def _heartbeat_s(environment: Mapping[str, str]) -> float | None:
    """Return the seconds between heartbeats, a third of what systemd allows; None without a watchdog."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None  # the variables are those of another process
    try:
        return int(environment.get("WATCHDOG_USEC", "0")) / 3e6 or None
    except ValueError:
        return None
