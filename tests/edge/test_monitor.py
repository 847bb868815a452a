"""The monitor's arithmetic of time: what it counts as lost, when it connects again and when it gives up.

A clock that the tests set, and sources that they play, stand for the network.
"""

from __future__ import annotations

import math
import os
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from ms_edge.live import monitor as module
from ms_edge.live.events import Position
from ms_edge.live.monitor import Clock, Feed, Settings, monitor
from ms_edge.live.rules import Rules, parse_rule

RATE = 1000
NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
LATENCY_S = 0.1  # between a sample and its arrival


class FakeClock:
    def __init__(self):
        self.now, self.set_s = 5000.0, 0.0

    def elapsed(self):
        return self.now

    def utc(self):
        return NOON + timedelta(seconds=self.now - 5000 + self.set_s)


class FakeSession:
    """Counts frames; the labels are not what is tested here."""

    def __init__(self, rate, started_at, **_):
        self.sample_rate_hz, self.started_at, self.frames, self.warnings = rate, started_at, 0, []
        self.decided_s = self.wanted_s = 0.0

    received_s = property(lambda self: self.frames / self.sample_rate_hz)

    def push(self, samples):
        self.frames += len(samples)
        return []

    def lose(self, duration_s):
        self.frames += round(duration_s * self.sample_rate_hz)
        return []

    def close(self):
        return []


class FakeClassifier:
    def session(self, rate, **options):
        return FakeSession(rate, **options)


class FakeSource:
    """A source whose connections are made by hand: `up` says whether it answers."""

    def __init__(self, *, regained=True, address="http://radio/live"):
        self.name, self.regained, self.address = "radio", regained, address
        self.up, self.connections, self.finite = True, [], False

    def connect(self, rate_hz):
        self.connections.append(FakeConnection(rate_hz or RATE, self.up, self.finite))
        return self.connections[-1]


class FakeConnection:
    descriptor, pipe_s = 0, 8.0

    def __init__(self, rate_hz, up, finite):
        self.rate_hz, self.finite = rate_hz, finite
        self.items, self.failure, self.closed = [], None, False
        if not up:
            self.end("Connection refused")

    def end(self, failure):
        self.items, self.failure = None, failure

    def read(self):
        items, self.items = self.items, None if self.items is None else []
        return items

    def close(self):
        self.closed = True


class Play:
    """A feed, and the means to play audio to it in simulated time."""

    def __init__(self, source=None, **settings):
        self.clock, self.source = FakeClock(), source or FakeSource()
        self.events, self.lines = [], []
        self.feed = Feed(
            self.source, FakeClassifier(), Settings(**settings), self.events.append, self.lines.append, self.clock
        )

    @property
    def connection(self):
        return self.source.connections[-1]

    @property
    def kinds(self):
        return [event.kind for event in self.events]

    @property
    def session(self):
        return self.feed._session

    def wait(self, seconds, step_s=0.25):
        for _ in range(round(seconds / step_s)):
            self.clock.now += step_s
            self.feed.check()
            if self.feed.descriptor is not None and self.connection.items != []:
                self.feed.ready()

    def wait_for_connection(self):
        while self.feed.descriptor is None:
            self.wait(0.25)

    def give(self, seconds):
        """Let audio arrive at once."""
        self.connection.items = [np.zeros((round(seconds * RATE), 1), np.float32)]
        self.feed.ready()

    def air(self, seconds, step_s=0.25):
        """Let audio arrive in real time."""
        for _ in range(round(seconds / step_s)):
            self.clock.now += step_s
            self.feed.check()
            self.give(step_s)

    def late_s(self):
        """How much later the last sample has arrived than its time says."""
        return (self.clock.utc() - self.session.started_at).total_seconds() - self.session.received_s


@pytest.fixture(autouse=True)
def no_jitter(monkeypatch):
    monkeypatch.setattr(module.random, "uniform", lambda low, high: high)


def connected(**settings) -> Play:
    play = Play(**settings)
    play.wait(0.25)
    play.air(30)
    assert play.kinds == ["connected"]
    return play


def test_lost_audio_is_what_was_not_received():
    play = connected()
    play.connection.end("the connection was closed")
    play.wait(0.25)
    assert play.events[-1].kind == "lost"
    assert play.events[-1].message == "the connection was closed"
    play.wait(10)  # connected again after a second, and nothing comes for nine
    play.air(10)
    assert play.kinds == ["connected", "lost", "reconnected"]
    assert play.events[-1].lost_s == pytest.approx(10.25)
    assert play.session.received_s == pytest.approx(50.25)
    assert play.late_s() == pytest.approx(0, abs=1e-3)


def test_stored_audio_is_not_counted_twice():
    play = connected()
    play.connection.end("the connection was closed")
    play.wait(2)
    play.give(5)  # a server sends the last seconds again
    play.air(10)
    assert play.events[-1].kind == "reconnected"
    assert play.events[-1].lost_s == 0
    assert play.session.received_s == pytest.approx(42)
    assert play.late_s() == pytest.approx(0, abs=1e-3)


def test_stored_audio_at_the_start_is_older():
    play = Play()
    play.wait(0.25)
    play.give(6)
    play.air(10)
    assert play.late_s() == pytest.approx(0, abs=1e-3)
    assert play.events[0].utc == play.clock.utc() - timedelta(seconds=16)


def test_audio_that_was_only_late_is_not_lost():
    play = connected()
    play.connection.end("the connection was closed")
    play.wait(2)
    play.air(10, step_s=1.25)  # a slow network, then it catches up
    for _ in range(8):
        play.clock.now += 0.5
        play.give(0.1)
    play.give(3.4)
    play.air(20)
    assert play.events[-1].kind == "reconnected"
    assert play.late_s() == pytest.approx(0, abs=0.6)
    lost = sum(event.lost_s for event in play.events if event.lost_s)
    assert play.session.received_s == pytest.approx(play.clock.now - 5000.25, abs=0.6)
    assert lost == pytest.approx(2, abs=1.3)


def test_first_audio_that_was_late_moves_the_time():
    play = Play()
    play.wait(0.25)
    for _ in range(8):
        play.clock.now += 0.5
        play.give(0.1)
    play.give(6.0)
    play.air(20)
    assert play.session.received_s == pytest.approx(26.8)  # nothing is left out
    assert play.late_s() == pytest.approx(0, abs=0.5)


def test_gaps_inside_a_connection_are_counted():
    play = connected()
    play.connection.items = [300, np.zeros((250, 1), np.float32)]
    play.feed.ready()
    assert play.kinds == ["connected", "gap"]
    assert play.events[-1].lost_s == 0.3
    assert play.session.frames == 30_550


def test_waits_double_up_to_a_minute():
    play = connected()
    play.connection.end("the connection was closed")
    play.source.up = False
    times = []
    for _ in range(4 * 400):
        before = len(play.source.connections)
        play.wait(0.25)
        if len(play.source.connections) > before:
            times.append(play.clock.now)
    waits = np.diff(times)
    assert waits[:6] == pytest.approx([2, 4, 8, 16, 32, 60], abs=0.5)
    assert waits[6:] == pytest.approx(60, abs=0.5)
    assert len([line for line in play.lines if "Connection refused" in line]) <= 7
    play.source.up = True
    play.wait_for_connection()
    play.air(90)
    assert play.kinds[-1] == "reconnected"
    play.connection.end("the connection was closed")
    play.wait(2)  # a good connection makes the wait short again
    play.air(5)
    assert play.kinds[-1] == "reconnected"


def test_stalled_connection_is_replaced():
    play = connected(stall_s=10.0)
    stalled = play.connection
    play.wait(9.5)
    assert not stalled.closed
    play.wait(1)
    assert stalled.closed
    assert play.events[-1].message == "no audio for 10 s"
    play.wait(5)
    play.air(5)
    assert play.kinds == ["connected", "stall", "resumed"]
    assert play.events[-1].lost_s == pytest.approx(15.5)


def test_standard_input_is_waited_for():
    play = Play(FakeSource(regained=False))
    play.wait(0.25)
    play.air(30)
    play.wait(100)
    play.air(5)
    assert play.kinds == ["connected", "stall", "resumed"]
    assert len(play.source.connections) == 1
    assert play.events[-1].lost_s == pytest.approx(100)
    play.connection.end(None)
    play.wait(0.25)
    assert play.feed.status == 0
    assert play.events[-1].message == "end of the input; 35.0 s of audio came, and 100.000 s were lost"


def test_late_audio_of_standard_input_is_not_lost():
    play = Play(FakeSource(regained=False))
    play.wait(0.25)
    play.air(30)
    play.wait(20)
    play.give(20)  # the writer had waited
    play.air(5)
    assert play.kinds == ["connected", "stall", "resumed"]
    assert play.events[-1].lost_s == 0
    assert play.session.received_s == 55


def test_segments_of_ten_seconds_are_no_stall():
    play = Play(stall_s=10.0)
    play.wait(0.25)
    play.give(30)
    for _ in range(10):
        play.wait(12)
        play.give(10)
        play.wait(8)
        play.give(10)
    assert play.kinds == ["connected"]


def test_audio_slower_than_its_time_is_a_stall():
    play = connected(stall_s=10.0)
    for _ in range(4 * 160):
        play.wait(0.25)
        if play.events[-1].kind == "stall":
            break
        play.give(0.125)
    assert "the audio comes too slowly: it is 70 s late" in play.events[-1].message


@pytest.mark.parametrize(("failure", "status"), [("no answer", 4), ("Connection refused", 5)])
def test_status_says_why_a_source_was_given_up(failure, status):
    play = connected(give_up_s=120.0)
    play.source.up = failure == "no answer"
    play.connection.end("the connection was closed")
    play.wait(119)
    assert play.feed.status is None
    play.wait(2)
    assert play.feed.status == status
    assert play.kinds == ["connected", "lost", "end"]
    assert play.connection.closed


def test_unknown_protocols_are_not_tried_again():
    play = Play()
    play.wait(0.25)
    play.connection.end("Protocol not found")
    play.wait(0.25)
    assert play.feed.status == 1
    assert play.events[-1].message.startswith("PyAV cannot read such addresses; pipe it: ffmpeg -i URL")


def test_sources_are_not_given_up_unless_asked():
    play = connected()
    play.source.up = False
    play.connection.end("the connection was closed")
    play.wait(3600, step_s=1)
    assert play.feed.status is None
    assert len(play.source.connections) > 50


def test_recording_that_breaks_off_is_not_repeated():
    play = Play()
    play.source.finite = True
    play.wait(0.25)
    play.give(5)
    play.connection.end("the recording is incomplete")
    play.wait(0.25)
    assert play.feed.status == 5
    assert play.kinds == ["connected", "end"]


def test_playlist_that_has_got_an_end_is_not_repeated():
    play = Play(FakeSource(address="http://tv/live.m3u8"))
    play.wait(0.25)
    play.air(10)
    play.connection.end("the connection was closed")
    play.source.finite = True
    play.wait(1.5)
    play.give(30)
    play.wait(2)
    assert play.feed.status == 0
    assert play.session.received_s == 10
    assert "the broadcast has ended" in play.events[-1].message


@pytest.mark.parametrize("deviation", [-80e-6, 50e-6])
def test_time_of_events_does_not_drift(deviation):
    play = Play()
    play.wait(0.25)
    for _ in range(50_000):  # almost six days, of a transmitter whose clock is wrong
        play.clock.now += 10
        play.feed.check()
        play.give(10 * (1 + deviation))
    assert abs(500_000 * deviation) > 20
    assert abs(play.late_s()) < 0.2
    assert play.kinds == ["connected"]


def test_clock_that_is_set_moves_events_only():
    play = connected()
    play.clock.set_s = 7200.0
    play.air(5)
    assert play.session.received_s == 35
    assert play.late_s() == pytest.approx(0, abs=1e-3)
    assert "the clock of this machine was set by +7200.0 s" in play.lines[-1]
    play.connection.end("the connection was closed")
    play.wait(3)
    play.air(5)
    assert play.events[-1].lost_s == pytest.approx(3)  # the outage, and not the two hours


def test_channel_that_is_missing_is_waited_for():
    play = Play(channels=2)
    play.wait(0.25)
    play.give(1)
    assert play.feed.status is None
    assert "it has no channel 2, but 1" in play.lines[0]
    play.wait_for_connection()
    play.connection.items = [np.zeros((3 * RATE, 2), np.float32)]
    play.feed.ready()
    play.wait(2)
    assert play.kinds == ["connected"]


def test_lost_and_received_audio_add_up():
    random = np.random.default_rng(5)
    play = connected()
    given = 30.0
    for _ in range(200):
        play.connection.end("the connection was closed")
        play.wait(float(random.integers(5, 25)))
        play.wait_for_connection()
        seconds = float(random.integers(2, 20))
        play.air(seconds)
        given += seconds
    lost = sum(event.lost_s for event in play.events if event.lost_s)
    assert play.kinds.count("reconnected") == 200
    assert play.session.received_s == pytest.approx(given + lost, abs=0.2)
    assert play.late_s() == pytest.approx(0, abs=1e-2)
    play.feed.stop()
    assert play.events[-1].lost_s == pytest.approx(lost)
    assert math.isclose(play.feed._clock.now - 5000.25, play.session.received_s, abs_tol=0.01)


@pytest.mark.parametrize(("wanted_s", "rest_s"), [(0.0, 0.1), (0.6, 0.65), (30.0, 2.0)])
def test_live_source_rests_until_more_is_decided(wanted_s, rest_s):
    play = connected()
    play.session.wanted_s = wanted_s
    play.air(0.25)
    assert play.feed.read_at - play.clock.now == pytest.approx(rest_s)


def test_new_connection_is_read_often():
    play = Play()
    play.wait(0.25)
    play.connection.items = []
    play.feed.ready()  # bytes without audio, such as a header
    for _ in range(4):
        assert play.feed.read_at - play.clock.now == pytest.approx(0.1)
        play.air(0.1, step_s=0.1)
    assert play.kinds == []


def test_rest_never_fills_the_pipe():
    play = connected()
    play.session.wanted_s, play.connection.pipe_s = 30.0, 0.2
    play.air(0.25)
    assert play.feed.read_at - play.clock.now == pytest.approx(0.05)


@pytest.mark.parametrize("finite", [True, False])
def test_source_faster_than_real_time_never_rests(finite):
    play = Play(FakeSource(regained=False))
    play.source.finite = finite
    play.wait(0.25)
    for _ in range(100):
        play.clock.now += 0.01
        play.give(2)
        if play.session:
            play.session.wanted_s = 0.6
        if not play.session or (finite and play.session.received_s > 60):
            assert play.feed.read_at == play.clock.now
    assert play.session.received_s == 200


def test_stored_audio_is_read_without_rests():
    play = connected()
    play.session.wanted_s = 0.6
    play.connection.end("the connection was closed")
    play.wait(2)
    play.give(6)  # the server sends what it has stored, then goes on in real time
    assert play.feed.read_at == play.clock.now
    play.air(10)
    assert play.kinds == ["connected", "lost", "reconnected"]
    assert play.feed.read_at - play.clock.now == pytest.approx(0.65)


def test_monitor_reads_no_source_that_rests():
    clock, reads = Clock(), []

    class Resting:
        """Has bytes to read at once, and rests."""

        name, status, progress = "radio", None, Position(0, 0)
        connect_at, read_at = math.inf, clock.elapsed() + 0.3

        def __init__(self, descriptor):
            self.descriptor = descriptor

        def check(self):
            pass

        def ready(self):
            reads.append(clock.elapsed())
            self.status = 0

        def stop(self):
            pass

    read_end, write_end = os.pipe()
    try:
        os.write(write_end, b"audio")
        feed = Resting(read_end)
        assert monitor([feed], [], clock) == 0
    finally:
        os.close(read_end)
        os.close(write_end)
    assert len(reads) == 1
    assert reads[0] >= feed.read_at


def test_audio_that_is_not_decided_is_input():
    """While a connection settles, and with a long delay, audio arrives and no label is decided."""
    play, reported = Play(), []
    rules = Rules([parse_rule("no input 5s", ("speech", "music"))], reported.append)

    def follow(seconds, audio):
        for _ in range(4 * seconds):
            play.air(0.25) if audio else play.wait(0.25)
            rules.tick(play.clock.utc(), {"radio": play.feed.progress})

    follow(1, audio=False)
    follow(20, audio=True)
    assert play.feed.progress == (0, 20)
    assert reported == []
    follow(6, audio=False)
    assert [(event.kind, event.for_s) for event in reported] == [("alert", 5)]


def test_other_sources_do_not_delay_a_connection(monkeypatch):
    """One source always has bytes to read; the other one is to be connected again, between two ticks."""
    clock, connected_at = FakeClock(), []

    class Talking:
        name, status, read_at, progress, connect_at, descriptor = "a", None, 0.0, Position(0, 0), math.inf, 7

        def check(self):
            pass

        def ready(self):
            clock.now += 0.02

        def stop(self):
            pass

    class Waiting(Talking):
        descriptor, connect_at = None, 5000.55

        def check(self):
            if clock.now >= self.connect_at:
                connected_at.append(clock.now)
                self.connect_at = math.inf

    class Poll:
        def register(self, descriptor, events):
            assert descriptor == 7

        def poll(self, wait_ms):
            return [(7, module.select.POLLIN)]

    monkeypatch.setattr(module.select, "poll", Poll)
    monitor([Talking(), Waiting()], [], clock, lambda: clock.now > 5003)
    assert connected_at == [pytest.approx(5000.55, abs=0.03)]
