"""Actions: what is done when an alert is raised or ends. A command is run, or a URL is called.

Both are consumers of events. Neither makes the loop that calls them wait, and neither can end it: what
fails is logged. Alerts that wait are kept in a queue of bounded length, whose oldest are dropped first.
The alerts of one source reach the command, and all alerts the URL, in the order in which they came.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.message import Message
from typing import IO, Any

from ms_edge._version import __version__
from ms_edge.errors import UsageError, first_line, reason
from ms_edge.live.events import Event, Position, iso_utc

ALERTS = ("alert", "alert_end")
WAITING = 100  # alerts that wait at most
AT_ONCE = 4  # commands that run at a time
COMMAND_S = 30.0  # a command that runs longer is killed
CLOSING_S = 10.0  # how long the end of the monitor waits for commands, and for a URL
ANSWER_S = 10.0  # how long a server may take to connect, and to answer
FIRST_RETRY_S, LAST_RETRY_S = 1.0, 60.0
PASSING = (408, 425, 429)  # statuses of a request that may be accepted later, unlike those of other 4xx


@dataclass
class _Run:
    """A command that runs for an event, since a time of the clock."""

    process: subprocess.Popen[bytes]
    event: Event
    began: float
    killed: bool = False

    def kill(self) -> None:
        """Kill the command and what it has started."""
        self.killed = True
        with contextlib.suppress(OSError):  # it has just ended
            if os.name == "nt":
                self.process.kill()
            else:
                os.killpg(self.process.pid, signal.SIGKILL)


class Commands:
    """Run a command for every alert and for every end of one.

    On POSIX `command` is a line for the shell, on Windows a program with its arguments. It finds what
    is known about the alert in environment variables, which a shell does not interpret, and as the JSON
    object of the event on standard input. What it prints goes to standard error.
    """

    def __init__(self, command: str, log: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._command, self._log, self._clock = command, log, clock
        self._waiting: deque[Event] = deque()
        self._running: list[_Run] = []
        self._dropped = 0

    def take(self, event: Event) -> None:
        """Run the command for an alert, now or as soon as its turn comes."""
        if event.kind not in ALERTS:
            return
        if len(self._waiting) == WAITING:
            self._waiting.popleft()
            self._dropped += 1
            self._log(f"--exec: {_counted(self._dropped)} dropped so far, because {WAITING} wait for their command.")
        self._waiting.append(event)
        self._advance()

    def tick(self, now: datetime, progress: Mapping[str, Position]) -> None:
        """Collect commands that have ended, kill those that hang, and start those that wait."""
        self._advance()

    def close(self) -> None:
        """Wait a little for the commands, then kill those that still run."""
        until = self._clock() + CLOSING_S
        try:
            while (self._running or self._waiting) and self._clock() < until:
                self._advance()
                time.sleep(0.02)
        finally:  # a second signal may interrupt the wait
            for run in self._running:
                run.kill()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    run.process.wait(1)
                self._log(f"--exec: the command for {_named(run.event)} was killed, because the monitor ends.")
            if self._waiting:
                self._log(f"--exec: {_counted(len(self._waiting))} dropped, because the monitor ends.")
            self._running, self._waiting = [], deque()

    def _advance(self) -> None:
        self._running = [run for run in self._running if self._runs(run)]
        for event in list(self._waiting):
            if len(self._running) < AT_ONCE and all(run.event.source != event.source for run in self._running):
                self._waiting.remove(event)
                self._start(event)

    def _runs(self, run: _Run) -> bool:
        """Return whether a command still runs. Kill it if it has run for too long."""
        status = run.process.poll()
        if status is None:
            if not run.killed and self._clock() - run.began >= COMMAND_S:
                run.kill()
                self._log(f"--exec: the command for {_named(run.event)} was killed after {COMMAND_S:g} s.")
            return True
        if status and not run.killed:
            how = f"exit status {status}" if status > 0 else f"signal {-status}"
            self._log(f"--exec: the command for {_named(run.event)} failed with {how}.")
        return False

    def _start(self, event: Event) -> None:
        posix: dict[str, Any] = {} if os.name == "nt" else {"shell": True, "start_new_session": True}
        try:
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=sys.stderr,  # standard output is for events
                stderr=sys.stderr,
                env=_environment(event),
                **posix,
            )
        except (OSError, ValueError) as error:  # ValueError: a name with a NUL
            why = reason(error) if isinstance(error, OSError) else first_line(error)
            self._log(f"--exec: the command for {_named(event)} cannot be run ({why}).")
            return
        assert process.stdin is not None
        # The event fits into the buffer of the pipe. The command need not read it.
        with contextlib.suppress(OSError), process.stdin as pipe:
            if os.name != "nt":
                os.set_blocking(pipe.fileno(), False)
            os.write(pipe.fileno(), (json.dumps(event.record()) + "\n").encode())
        self._running.append(_Run(process, event, self._clock()))


def _environment(event: Event) -> dict[str, str]:
    """Return the environment of a command: that of this process, and what is known about an alert."""
    given = {
        "EVENT": event.kind,
        "ALERT": event.rule or "",
        "SOURCE": event.source,
        "MESSAGE": event.message or "",
        "UTC": iso_utc(event.utc),
        "SINCE": iso_utc(event.since or event.utc),
        "FOR_S": f"{event.for_s or 0:g}",
    }
    systemd = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")  # a command must not speak for the monitor
    return {name: value for name, value in os.environ.items() if name not in systemd} | {
        f"MS_EDGE_{name}": value for name, value in given.items()
    }


class Webhook:
    """Send every alert, and every end of one, to a URL as a POST request with the JSON object of the event.

    A thread sends them one after another. It repeats a request that fails, after 1 s, 2 s, 4 s and so on
    up to a minute, until the server accepts it (2xx), refuses it for good (4xx), or newer alerts need its
    place in the queue. Redirects are not followed.

    Raises UsageError if `url` is no address of HTTP or HTTPS.
    """

    def __init__(self, url: str, log: Callable[[str], None]) -> None:
        self._url, self._headers, self._name = _checked(url)
        self._log = log
        self._messages: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._waiting: deque[Event] = deque()
        self._dropped = 0
        self._changed = threading.Condition()
        self._closing = False
        self._opener = urllib.request.build_opener(_NoRedirect, _Bounded)
        self._thread = threading.Thread(target=self._work, name="webhook", daemon=True)
        self._thread.start()

    def take(self, event: Event) -> None:
        """Send an alert as soon as its turn comes."""
        if event.kind not in ALERTS:
            return
        with self._changed:
            if len(self._waiting) == WAITING:
                self._waiting.popleft()
                self._dropped += 1
                self._say(f"{_counted(self._dropped)} dropped so far, because {WAITING} wait to be sent.")
            self._waiting.append(event)
            self._changed.notify()

    def tick(self, now: datetime, progress: Mapping[str, Position]) -> None:
        """Log what the thread has to say."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._log(self._messages.get_nowait())

    def close(self) -> None:
        """Wait a little until what waits is sent."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(CLOSING_S)
        with self._changed:
            if self._waiting:
                self._say(f"{_counted(len(self._waiting))} not sent, because the monitor ends.")
            self._waiting.clear()
        self.tick(datetime.now(), {})

    def _say(self, message: str) -> None:
        self._messages.put(f"--webhook {self._name}: {message}")

    def _work(self) -> None:
        """Send what waits, until the monitor ends and nothing waits any more."""
        failures = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                event = self._waiting[0]
            failure, final = self._send(event)
            with self._changed:
                if (not failure or final) and self._waiting and self._waiting[0] is event:
                    self._waiting.popleft()
            if final:
                self._say(f"{_named(event)} was refused ({failure}) and is not sent again.")
            elif failure:
                if not failures:
                    self._say(f"no success ({failure}); it is tried again.")
                self._pause(min(FIRST_RETRY_S * 2.0 ** min(failures, 30), LAST_RETRY_S))
                failures += 1
                continue
            elif failures:
                self._say(f"success after {failures} failure{'s' * (failures > 1)}.")
            failures = 0

    def _pause(self, seconds: float) -> None:
        """Wait before a request is repeated. When the monitor ends, wait only a little."""
        with self._changed:
            if not self._closing:
                self._changed.wait_for(lambda: self._closing, seconds)
                return
        time.sleep(min(seconds, FIRST_RETRY_S))

    def _send(self, event: Event) -> tuple[str, bool]:
        """Send one event. Return why that failed, or an empty text, and whether the failure is final."""
        body = json.dumps(event.record()).encode()
        request = urllib.request.Request(self._url, body, self._headers, method="POST")
        try:
            self._opener.open(request, timeout=ANSWER_S).close()
        except urllib.error.HTTPError as error:
            error.close()
            return f"{error.code} {error.reason}", 400 <= error.code < 500 and error.code not in PASSING
        except (OSError, http.client.HTTPException, ValueError) as error:
            cause = error.reason if isinstance(error, urllib.error.URLError) else error
            return reason(cause) if isinstance(cause, OSError) else first_line(error), False
        return "", False


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Treat a redirect as a failure: an alert goes only where the user sends it."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        """Follow no redirect."""


class _Bounded(urllib.request.HTTPSHandler, urllib.request.HTTPHandler):
    """Connect to HTTP and HTTPS servers whose answer must be complete in time."""

    def do_open(self, http_class: Any, req: urllib.request.Request, **arguments: Any) -> http.client.HTTPResponse:
        """Send a request, and return the answer."""

        def connection(*given: Any, **options: Any) -> http.client.HTTPConnection:
            made: http.client.HTTPConnection = http_class(*given, **options)
            made.response_class = _Answer
            return made

        return super().do_open(connection, req, **arguments)


class _Answer(http.client.HTTPResponse):
    """An answer whose status and headers must arrive within ANSWER_S seconds.

    The timeout of a socket is that of each read, so a server that sends a byte a second never reaches it.
    """

    def __init__(self, sock: socket.socket, *given: Any, **options: Any) -> None:
        super().__init__(sock, *given, **options)
        self._sock, self._late = sock, False

    def begin(self) -> None:
        """Read the status and the headers. Raises TimeoutError."""
        timer = threading.Timer(ANSWER_S, self._end)
        timer.daemon = True
        timer.start()
        try:
            super().begin()
        except (OSError, http.client.HTTPException, ValueError):
            if not self._late:
                raise
        finally:
            timer.cancel()
        if self._late:
            raise TimeoutError("timed out")

    def _end(self) -> None:
        """End the read that waits."""
        self._late = True
        with contextlib.suppress(OSError):  # the server has closed the connection
            self._sock.shutdown(socket.SHUT_RDWR)


def _checked(url: str) -> tuple[str, dict[str, str], str]:
    """Return a URL without user and password, the headers of its requests, and its name in the log."""
    try:
        parts = urllib.parse.urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    if not valid or re.search(r"[^!-~]", url):
        raise UsageError(f"--webhook {url!r} is no address of HTTP or HTTPS, such as https://example.org/alerts.")
    place = parts.netloc.rpartition("@")[2]
    headers = {"Content-Type": "application/json", "User-Agent": f"ms-edge/{__version__}"}
    if parts.username is not None:
        user = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(user.encode()).decode()}"
    # The path of a URL is often its secret, so the log does not show it.
    return urllib.parse.urlunsplit(parts._replace(netloc=place)), headers, f"{parts.scheme}://{place}"


def _named(event: Event) -> str:
    return f"{event.kind} {event.rule!r} of {event.source}"


def _counted(alerts: int) -> str:
    return f"{alerts} alert{'' if alerts == 1 else 's'}"
