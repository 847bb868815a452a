"""`ms-edge monitor` and a real radio station: stopped, restarted, frozen and throttled."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from station import Station, wait_until

pytestmark = pytest.mark.live
DATA = Path(__file__).parent.parent / "data"
PERIOD_S = 12.0  # of the programme: speech, then music, six seconds each


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    folder = tmp_path / "icecast"
    folder.mkdir()
    for parent in folder.parents:  # the server runs as another user
        with contextlib.suppress(OSError):
            if parent.stat().st_uid == os.geteuid() and not parent.stat().st_mode & 0o005:
                parent.chmod(0o755)
    made = Station(folder)
    made.start()
    yield made
    made.close()


class Monitor:
    """A running `ms-edge monitor`, and the events that it has printed."""

    def __init__(self, *arguments: str) -> None:
        self.events: list[dict] = []
        command = [sys.executable, "-m", "ms_edge.cli", "monitor", "--format", "jsonl", *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.log = ""
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._read, self._listen)]
        for thread in self._threads:
            thread.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.events.append(json.loads(line))

    def _listen(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self.log += line

    def of(self, kind: str, mount: str = "") -> list[dict]:
        return [each for each in self.events if each["event"] == kind and each["source"].endswith(mount)]

    def wait_for(self, kind: str, mount: str = "", count: int = 1) -> dict:
        try:
            wait_until(lambda: len(self.of(kind, mount)) >= count or self.process.poll() is not None)
        except AssertionError:
            pytest.fail(f"no {kind} of {mount}: {self.log}")
        return self.of(kind, mount)[count - 1]

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(30)
        for thread in self._threads:
            thread.join(10)
        return status


@pytest.fixture
def monitor() -> Iterator[type[Monitor]]:
    started: list[Monitor] = []

    class Started(Monitor):
        def __init__(self, *arguments: str) -> None:
            super().__init__(*arguments)
            started.append(self)

    yield Started
    for each in started:
        each.process.kill()
        each.process.wait()


@pytest.fixture
def programme(tmp_path: Path) -> Path:
    parts = [soundfile.read(DATA / f"{name}.wav")[0] for name in ("speech_italian_man", "music_palace")]
    soundfile.write(tmp_path / "programme.wav", np.concatenate(parts), 16_000)
    return tmp_path / "programme.wav"


def phases(monitor: Monitor, mount: str = "") -> list[float]:
    """Return when music begins, alone or with speech, as times in the period of the programme.

    After an interruption the first of them may be where the music was joined, and not where it begins.
    """
    starts = monitor.of("segment_start", mount)
    begins = [e for before, e in pairwise(starts) if "music" in e["label"] and "music" not in before["label"]]
    return [datetime.fromisoformat(each["utc"]).timestamp() % PERIOD_S for each in begins]


def apart(first: float, second: float) -> float:
    """Return the time between two phases."""
    return abs((first - second + PERIOD_S / 2) % PERIOD_S - PERIOD_S / 2)


def adds_up(events: list[dict], source: str) -> None:
    """Require that all lost audio is counted, and that UTC keeps step with stream time.

    The first second of the first connection tells the time. On a busy machine it comes late, and UTC is
    corrected later.
    """
    mine = [each for each in events if each["source"] == source]
    lost = sum(each.get("lost_s", 0) for each in mine if each["event"] != "end")
    assert mine[-1]["event"] == "end"
    assert mine[-1]["lost_s"] == pytest.approx(lost, abs=1e-3)
    begun, ended = (datetime.fromisoformat(each["utc"]).timestamp() for each in (mine[0], mine[-1]))
    assert mine[-1]["time_s"] == pytest.approx(ended - begun, abs=5)
    times = [each["time_s"] for each in mine if "label" not in each]
    assert times == sorted(times)


def test_both_codings_survive_what_stations_do(station: Station, monitor, programme):
    """The studio stops; the server is frozen, then restarted."""
    studios = [station.broadcast(programme, mount) for mount in ("live.ogg", "live.mp3")]
    sources = [f"{station.url}/live.ogg", f"{station.url}/live.mp3"]
    listening = monitor(*sources, "--stall", "5s")
    for mount in (".ogg", ".mp3"):
        listening.wait_for("connected", mount)
        listening.wait_for("segment_start", mount, 3)

    studios[0].send_signal(signal.SIGINT)  # Ogg alone: the other one goes on
    studios[0].wait()
    lost = listening.wait_for("lost", ".ogg")
    wait_until(lambda: "404 Not Found" in listening.log)
    station.broadcast(programme, "live.ogg")
    back = listening.wait_for("reconnected", ".ogg")
    assert lost["message"] == "the connection was closed"
    assert back["lost_s"] == pytest.approx(back["time_s"] - lost["time_s"], abs=2e-3)
    assert listening.of("lost", ".mp3") == []

    wait_until(lambda: phases(listening, ".mp3"))
    before = phases(listening, ".mp3")
    station.freeze(frozen=True)
    for mount in (".ogg", ".mp3"):
        listening.wait_for("stall", mount)
    station.freeze(frozen=False)
    for mount in (".ogg", ".mp3"):
        listening.wait_for("resumed", mount)
    wait_until(lambda: len(phases(listening, ".mp3")) >= len(before) + 2)
    # The studio went on meanwhile, so the programme is where it would be without the interruption.
    assert apart(before[-1], phases(listening, ".mp3")[-1]) < 1.5

    station.stop()
    for mount in (".ogg", ".mp3"):
        listening.wait_for("lost", mount, 2 if mount == ".ogg" else 1)
    station.start()
    for mount in ("live.ogg", "live.mp3"):
        station.broadcast(programme, mount)
    listening.wait_for("reconnected", ".ogg", 2)
    listening.wait_for("reconnected", ".mp3", 1)
    assert listening.stop() == 130
    for source in sources:
        adds_up(listening.events, source)
    assert re.search(r"live\.ogg: reconnected, \d+\.\d{3} s lost\.", listening.log)


def throttled(port: int, slow: threading.Event) -> int:
    """Start a relay to a server, which passes 4 kB/s on while `slow` is set. Return its port."""
    relay = socket.create_server(("127.0.0.1", 0))

    def pass_on(source: socket.socket, sink: socket.socket, *, answers: bool) -> None:
        with source, sink, contextlib.suppress(OSError):
            while data := source.recv(1024):
                sink.sendall(data)
                if answers and slow.is_set():
                    time.sleep(len(data) / 4000)

    def serve() -> None:
        while True:
            client = relay.accept()[0]
            server = socket.socket()
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)  # else the kernel holds minutes
            server.connect(("127.0.0.1", port))
            for ends, answers in (((client, server), False), ((server, client), True)):
                threading.Thread(target=pass_on, args=ends, kwargs={"answers": answers}, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return int(relay.getsockname()[1])


def test_slow_network_costs_audio_but_no_time(station: Station, monitor, programme):
    """Icecast disconnects a listener that is too slow, or the monitor gives up late audio, which is then lost."""
    station.broadcast(programme, "live.mp3")
    slow = threading.Event()
    listening = monitor(f"http://127.0.0.1:{throttled(station.port, slow)}/live.mp3", "--stall", "5s")
    wait_until(lambda: len(phases(listening)) >= 2)
    before = phases(listening)
    slow.set()
    wait_until(lambda: listening.of("lost") or listening.of("stall"), timeout_s=150)
    slow.clear()
    wait_until(lambda: listening.of("reconnected") or listening.of("resumed"))
    lost, back = (each for each in listening.events if each["event"] in ("lost", "stall", "reconnected", "resumed"))
    wait_until(lambda: len(phases(listening)) >= len(before) + 2)
    assert listening.stop() == 130
    assert back["lost_s"] == pytest.approx(back["time_s"] - lost["time_s"], abs=2e-3)
    assert back["lost_s"] > 3
    assert apart(before[-1], phases(listening)[-1]) < 1.5
    adds_up(listening.events, listening.events[0]["source"])


def test_listener_needs_the_password(station: Station, monitor, programme):
    station.admit("listener", "sesame")
    station.broadcast(programme, "private.ogg")
    refused = monitor(f"{station.url}/private.ogg", "--give-up", "3s")
    assert refused.process.wait(60) == 5
    heard = monitor(f"http://listener:sesame@127.0.0.1:{station.port}/private.ogg")
    assert heard.wait_for("segment_start")["source"] == f"http://listener:***@127.0.0.1:{station.port}/private.ogg"
    assert heard.stop() == 130
    assert "sesame" not in heard.log + str(heard.events)


def test_alert_lasts_while_the_station_is_silent(station: Station, monitor, programme, tmp_path: Path):
    station.admit("listener", "sesame")
    station.broadcast(programme, "private.ogg")
    act = ["--alert", "no input 12s", "--exec", f"env >> {tmp_path}/env"]
    heard = monitor(f"http://listener:sesame@127.0.0.1:{station.port}/private.ogg", "--stall", "3s", *act)
    heard.wait_for("segment_start")
    assert not heard.of("alert")
    station.freeze(frozen=True)
    raised = heard.wait_for("alert")
    station.freeze(frozen=False)
    ended = heard.wait_for("alert_end")
    assert (raised["rule"], raised["for_s"]) == ("no input 12s", 12)
    assert ended["since"] == raised["since"]
    assert ended["for_s"] >= 12
    (stalled,), (resumed, *_) = heard.of("stall")[:1], heard.of("resumed")
    assert heard.events.index(stalled) < heard.events.index(raised) < heard.events.index(resumed)
    assert heard.stop() == 130
    assert len(heard.of("alert")) == len(heard.of("alert_end")) == 1
    told = (tmp_path / "env").read_text()
    assert f"MS_EDGE_SOURCE=http://listener:***@127.0.0.1:{station.port}/private.ogg" in told
    assert "sesame" not in told
