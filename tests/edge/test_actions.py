"""What follows alerts: commands that fail, hang or are hostile, and servers that do the same."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from alert_server import server

from ms_edge.errors import UsageError
from ms_edge.live import actions
from ms_edge.live.actions import Commands, Webhook
from ms_edge.live.events import Event

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ALERT = Event(
    kind="alert",
    source="http://radio.example/live.ogg",
    time_s=60.0,
    utc=NOW,
    start_s=0.0,
    rule="no music 60s",
    since=NOW - timedelta(seconds=60),
    for_s=60.0,
    message="no music for 1:00.0 since 2026-03-01T11:59:00.000Z",
)

posix = pytest.mark.skipif(os.name != "posix", reason="uses the shell of POSIX")


def until(condition: Callable[[], object], tick: Callable[[], object] = lambda: None) -> None:
    """Wait until a condition holds."""
    give_up = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < give_up
        tick()
        time.sleep(0.01)


def serve(commands: Commands, condition: Callable[[], object]) -> None:
    until(condition, lambda: commands.tick(NOW, {}))


@posix
def test_command_gets_the_alert(tmp_path):
    log: list[str] = []
    commands = Commands(f"env > {tmp_path}/env; cat > {tmp_path}/event; echo done > {tmp_path}/done", log.append)
    commands.take(ALERT)
    serve(commands, (tmp_path / "done").exists)
    commands.close()
    assert json.loads((tmp_path / "event").read_text()) == ALERT.record()
    found = dict(line.partition("=")[::2] for line in (tmp_path / "env").read_text().splitlines())
    assert {name: value for name, value in found.items() if name.startswith("MS_EDGE_")} == {
        "MS_EDGE_EVENT": "alert",
        "MS_EDGE_ALERT": "no music 60s",
        "MS_EDGE_SOURCE": ALERT.source,
        "MS_EDGE_MESSAGE": ALERT.message,
        "MS_EDGE_UTC": "2026-03-01T12:00:00.000Z",
        "MS_EDGE_SINCE": "2026-03-01T11:59:00.000Z",
        "MS_EDGE_FOR_S": "60",
    }
    assert log == []


@posix
@pytest.mark.parametrize("name", ["$(touch pwned)", "`touch pwned`", "'; touch pwned; '", '"; touch pwned; "', "a\n b"])
def test_names_of_sources_are_not_run(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    commands = Commands('printf %s "$MS_EDGE_SOURCE" > got; echo $MS_EDGE_SOURCE; touch done', [].append)
    commands.take(replace(ALERT, source=name))
    serve(commands, (tmp_path / "done").exists)
    commands.close()
    assert (tmp_path / "got").read_text() == name
    assert not (tmp_path / "pwned").exists()


@posix
def test_other_events_run_nothing(tmp_path):
    commands = Commands(f"touch {tmp_path}/ran", [].append)
    commands.take(replace(ALERT, kind="segment_start", rule=None))
    commands.close()
    assert not (tmp_path / "ran").exists()


@posix
@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("exit 3", "failed with exit status 3"),
        ("no-such-program", "failed with exit status 127"),
        ("kill -9 $$", "failed with signal 9"),
    ],
)
def test_failing_commands_are_logged(command, says):
    log: list[str] = []
    commands = Commands(command, log.append)
    commands.take(ALERT)
    serve(commands, lambda: log)
    assert log == [f"--exec: the command for alert 'no music 60s' of {ALERT.source} {says}."]
    commands.close()


def test_commands_that_cannot_start_are_logged():
    log: list[str] = []
    Commands("true", log.append).take(replace(ALERT, source="a\0b"))
    assert len(log) == 1
    assert "cannot be run" in log[0]


@posix
def test_a_hanging_command_is_killed_with_its_children(tmp_path):
    log: list[str] = []
    seconds = [0.0]
    commands = Commands(f"sleep 1000 & echo $! > {tmp_path}/child; wait", log.append, lambda: seconds[0])
    commands.take(ALERT)
    serve(commands, lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text().strip())
    seconds[0] = actions.COMMAND_S
    serve(commands, lambda: log)
    child = int((tmp_path / "child").read_text())
    until(lambda: not running(child))
    assert log == [f"--exec: the command for alert 'no music 60s' of {ALERT.source} was killed after 30 s."]
    commands.close()
    assert len(log) == 1


def running(pid: int) -> bool:
    """Return whether a process runs; one that has ended may wait for its parent."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@posix
def test_few_commands_run_at_once_in_order(tmp_path):
    script = f"echo $MS_EDGE_SOURCE $MS_EDGE_EVENT start >> {tmp_path}/log; until [ -e {tmp_path}/go ]; do sleep 0.05; done; "
    commands = Commands(script + f"echo $MS_EDGE_SOURCE $MS_EDGE_EVENT end >> {tmp_path}/log", [].append)
    began = time.monotonic()
    for number in range(6):
        for kind in ("alert", "alert_end"):
            commands.take(replace(ALERT, kind=kind, source=f"s{number}"))
    commands.tick(NOW, {})
    assert time.monotonic() - began < 20  # the commands themselves wait for `go`
    lines = lambda: (tmp_path / "log").read_text().splitlines() if (tmp_path / "log").exists() else []  # noqa: E731
    serve(commands, lambda: len(lines()) == actions.AT_ONCE)
    assert {line.split()[1] for line in lines()} == {"alert"}
    (tmp_path / "go").touch()
    serve(commands, lambda: len(lines()) == 24)
    for number in range(6):
        own = [line.split(maxsplit=1)[1] for line in lines() if line.startswith(f"s{number} ")]
        assert own == ["alert start", "alert end", "alert_end start", "alert_end end"]
    commands.close()


@posix
def test_too_many_alerts_drop_the_oldest(tmp_path):
    log: list[str] = []
    commands = Commands(
        f"until [ -e {tmp_path}/go ]; do sleep 0.05; done; echo $MS_EDGE_FOR_S >> {tmp_path}/ran", log.append
    )
    for number in range(actions.WAITING + 4):
        commands.take(replace(ALERT, for_s=float(number)))
    assert log == [
        f"--exec: {dropped} alert{'s' * (dropped > 1)} dropped so far, because 100 wait for their command."
        for dropped in (1, 2, 3)
    ]
    (tmp_path / "go").touch()
    serve(commands, lambda: (tmp_path / "ran").exists() and len((tmp_path / "ran").read_text().split()) == 101)
    assert [int(word) for word in (tmp_path / "ran").read_text().split()] == [0, *range(4, 104)]
    commands.close()


@posix
def test_the_end_waits_only_a_little(monkeypatch, tmp_path):
    monkeypatch.setattr(actions, "CLOSING_S", 0.3)
    log: list[str] = []
    commands = Commands(f"echo $$ > {tmp_path}/pid; sleep 1000", log.append)
    commands.take(ALERT)
    commands.take(replace(ALERT, kind="alert_end"))
    serve(commands, lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip())
    commands.close()
    until(lambda: not running(int((tmp_path / "pid").read_text())))
    assert "was killed, because the monitor ends" in log[0]
    assert log[1:] == ["--exec: 1 alert dropped, because the monitor ends."]


@posix
def test_commands_do_not_speak_to_systemd(monkeypatch, tmp_path):
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    monkeypatch.setenv("WATCHDOG_USEC", "1000")
    commands = Commands(f"env > {tmp_path}/env.part; mv {tmp_path}/env.part {tmp_path}/env", [].append)
    commands.take(ALERT)
    serve(commands, (tmp_path / "env").exists)
    assert "NOTIFY_SOCKET" not in (tmp_path / "env").read_text()
    assert "WATCHDOG" not in (tmp_path / "env").read_text()
    commands.close()


@posix
def test_output_of_commands_is_no_data(capfd):
    commands = Commands("echo printed; echo complained >&2", [].append)
    commands.take(ALERT)
    commands.close()
    out, err = capfd.readouterr()
    assert out == ""
    assert sorted(err.split()) == ["complained", "printed"]


@pytest.fixture
def impatient(monkeypatch):
    """Short waits."""
    monkeypatch.setattr(actions, "FIRST_RETRY_S", 0.01)
    monkeypatch.setattr(actions, "LAST_RETRY_S", 0.1)
    monkeypatch.setattr(actions, "ANSWER_S", 0.5)


def test_webhook_posts_the_alert():
    log: list[str] = []
    with server() as (state, url):
        webhook = Webhook(url.replace("//", "//me:p%40ss@") + "/secret-path?x=1", log.append)
        webhook.take(ALERT)
        webhook.take(replace(ALERT, kind="segment_end"))
        webhook.close()
    ((path, headers, body),) = state.requests
    assert path == "/secret-path?x=1"
    assert json.loads(body) == ALERT.record()
    assert headers["Content-Type"] == "application/json"
    assert headers["Authorization"] == "Basic bWU6cEBzcw=="
    assert headers["User-Agent"].startswith("ms-edge/")
    assert log == []


def test_webhook_repeats_until_it_succeeds(impatient):
    log: list[str] = []
    with server() as (state, url):
        hang, closed = threading.Event(), lambda: None
        state.answers = [500, 503, 429, 302, closed, lambda: hang.wait(30)]
        webhook = Webhook(url + "/secret-path", log.append)
        for number in range(3):
            webhook.take(replace(ALERT, for_s=float(number)))
        until(lambda: len(state.requests) == 3)
        hang.set()
        webhook.close()
    assert state.received() == [0, 1, 2]
    assert log == [
        f"--webhook {url}: no success (500 Internal Server Error); it is tried again.",
        f"--webhook {url}: success after 6 failures.",
    ]


def test_webhook_survives_an_absent_server(impatient):
    log: list[str] = []
    with server() as (_, url):
        pass
    webhook = Webhook(url, log.append)
    webhook.take(ALERT)
    until(lambda: log, lambda: webhook.tick(NOW, {}))
    assert "connection refused" in log[0]
    with server(int(url.rpartition(":")[2])) as (state, _):
        until(lambda: state.requests)
        webhook.close()
    assert log[-1].startswith(f"--webhook {url}: success after ")
    assert len(log) == 2


@pytest.mark.parametrize("target", ["file:///etc/passwd", "http://127.0.0.1:9/", "/elsewhere", "ftp://127.0.0.1/"])
def test_webhook_follows_no_redirect(impatient, target):
    log: list[str] = []
    with server() as (state, url):
        state.answers = [target]
        webhook = Webhook(url + "/alerts", log.append)
        webhook.take(ALERT)
        webhook.close()
    assert [path for path, _, _ in state.requests] == ["/alerts"]
    assert "302 Found" in log[0]


def test_webhook_gives_up_what_is_refused(impatient):
    log: list[str] = []
    with server() as (state, url):
        state.answers = [400, 404]
        webhook = Webhook(url, log.append)
        for number in range(3):
            webhook.take(replace(ALERT, for_s=float(number)))
        webhook.close()
    assert state.received() == [2]
    assert log == [
        f"--webhook {url}: alert 'no music 60s' of {ALERT.source} was refused ({why}) and is not sent again."
        for why in ("400 Bad Request", "404 Not Found")
    ]


def test_webhook_drops_the_oldest(monkeypatch, impatient):
    monkeypatch.setattr(actions, "FIRST_RETRY_S", 30.0)
    monkeypatch.setattr(actions, "LAST_RETRY_S", 30.0)
    log: list[str] = []
    with server() as (state, url):
        state.answers = [500]
        webhook = Webhook(url, log.append)
        webhook.take(replace(ALERT, for_s=0.0))
        until(lambda: not state.answers)
        began = time.monotonic()
        for number in range(1, actions.WAITING + 3):
            webhook.take(replace(ALERT, for_s=float(number)))
        assert time.monotonic() - began < 20  # it does not wait for the server
        monkeypatch.setattr(actions, "FIRST_RETRY_S", 0.01)  # the thread may not have read the answer yet
        webhook.close()
    assert state.received() == list(range(3, 103))
    assert [line.split(": ")[1] for line in log if "dropped" in line] == [
        f"{dropped} alert{'s' * (dropped > 1)} dropped so far, because 100 wait to be sent." for dropped in (1, 2, 3)
    ]


def test_webhook_drops_only_the_oldest(impatient, monkeypatch):
    """An alert that is dropped while it is sent takes no other alert with it."""
    monkeypatch.setattr(actions, "ANSWER_S", 30.0)
    dropped = threading.Event()
    with server() as (state, url):
        state.answers = [lambda: 200 * dropped.wait(30)]
        webhook = Webhook(url, [].append)
        webhook.take(replace(ALERT, for_s=0.0))
        until(lambda: not state.answers)
        for number in range(1, actions.WAITING + 1):
            webhook.take(replace(ALERT, for_s=float(number)))
        dropped.set()
        webhook.close()
    assert state.received() == list(range(actions.WAITING + 1))


def test_webhook_that_hangs_does_not_hold_the_end(monkeypatch):
    monkeypatch.setattr(actions, "CLOSING_S", 0.3)
    log: list[str] = []
    hang = threading.Event()
    with server() as (state, url):
        state.answers = [lambda: hang.wait(60)]
        webhook = Webhook(url, log.append)
        webhook.take(ALERT)
        until(lambda: not state.answers)
        webhook.close()
        hang.set()
    assert log == [f"--webhook {url}: 1 alert not sent, because the monitor ends."]


@pytest.mark.parametrize("begins", [b"", b"HTTP/1.1 200 OK\r\nX: "])
def test_webhook_leaves_a_server_that_drips(monkeypatch, impatient, begins):
    monkeypatch.setattr(actions, "ANSWER_S", 0.5)
    log: list[str] = []
    listener, left = socket.create_server(("127.0.0.1", 0)), threading.Event()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"

    def answer() -> None:
        dripping, _ = listener.accept()
        with dripping, contextlib.suppress(OSError):
            dripping.sendall(begins)
            while True:
                dripping.sendall(b"H")
                time.sleep(0.05)
        other, _ = listener.accept()
        with other:
            received = b""
            while not received.endswith(b"}"):
                received += other.recv(1 << 16)
            other.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            left.set()

    with listener:
        threading.Thread(target=answer, daemon=True).start()
        webhook = Webhook(url, log.append)
        webhook.take(ALERT)
        until(left.is_set)
        webhook.close()
    assert log == [
        f"--webhook {url}: no success (timed out); it is tried again.",
        f"--webhook {url}: success after 1 failure.",
    ]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.org",
        "file:///etc/passwd",
        "ftp://example.org/",
        "http://",
        "https://a b/",
        "http://a:x/",
        "http://é/",
    ],
)
def test_webhook_is_an_address_of_http(url):
    with pytest.raises(UsageError, match=r"is no address of HTTP or HTTPS, such as"):
        Webhook(url, [].append)


@posix
def test_a_command_need_not_read_its_input(tmp_path):
    log: list[str] = []
    commands = Commands(f"exec 0<&-; {shlex.quote(sys.executable)} -c pass; touch {tmp_path}/done", log.append)
    commands.take(replace(ALERT, source="x" * 100_000))  # more than a pipe holds
    serve(commands, (tmp_path / "done").exists)
    commands.close()
    assert log == []
