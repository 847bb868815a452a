"""Rules of `ms-edge monitor`: when alerts are raised, when they end, and how many there can be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from alert_server import server
from hypothesis import given
from hypothesis import strategies as st

import ms_edge
from ms_edge.errors import UsageError
from ms_edge.live.events import KINDS, Event, Position
from ms_edge.live.rules import Rule, Rules, parse_rule

posix = pytest.mark.skipif(os.name != "posix", reason="ms-edge monitor runs on Linux and macOS")
LABELS = ("speech", "music")
BEGAN = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Programme:
    """Rules that follow made-up segments on one source, and what they report."""

    def __init__(self, *texts: str) -> None:
        self.reported: list[Event] = []
        self.rules_texts = texts
        self.rules = Rules([parse_rule(text, LABELS) for text in texts], self.reported.append)
        self.time_s = 0.0
        self.now = BEGAN

    def event(self, kind: str, label: str | None = None) -> None:
        utc = BEGAN + timedelta(seconds=self.time_s)
        self.rules.take(Event(kind=kind, source="-", time_s=self.time_s, utc=utc, label=label))

    def play(self, *parts: tuple[str | None, float], every_s: float = 1.0) -> None:
        """Follow segments of these labels and seconds; a label of None is lost audio."""
        for label, seconds in parts:
            end_s = self.time_s + seconds
            if label is not None:
                self.event("segment_start", label)
            while self.time_s < end_s:
                step = min(every_s, end_s - self.time_s)
                self.time_s = end_s if step < every_s else self.time_s + step
                self.now += timedelta(seconds=step)
                self.rules.tick(self.now, {"-": Position(self.time_s, self.time_s)})
            if label is not None:
                self.event("segment_end", label)

    def wait(self, seconds: int) -> None:
        """Let the clock go on without audio."""
        for _ in range(seconds):
            self.now += timedelta(seconds=1)
            self.rules.tick(self.now, {"-": Position(self.time_s, self.time_s)})

    def kinds(self) -> list[tuple[str, float]]:
        return [(event.kind, event.time_s) for event in self.reported]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("no music 60s", Rule("no music 60s", "music", True, 60)),
        (" speech  5m ", Rule("speech 5m", "speech", False, 300)),
        ("silence 1.5h", Rule("silence 1.5h", "silence", False, 5400)),
        ("no speech+music 10s", Rule("no speech+music 10s", "speech+music", True, 10)),
        ("no input 15s", Rule("no input 15s", "input", True, 15)),
    ],
)
def test_rules_are_read(text, rule):
    assert parse_rule(text, LABELS) == rule


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is no rule: a rule is"),
        ("music", "'no music 60s'"),
        ("no music 60", "is no rule"),
        ("no music 60 s", "is no rule"),
        (
            "not music 60s",
            "no segment has the label 'not music'; use speech, music, silence, other, uncertain or input",
        ),
        ("musik 60s", "'musik'"),
        ("speech+input 60s", "'input'"),
        ("input 60s", "only the lack of input"),
        ("no input 1s", "at least 5 s"),
        ("music 0s", "at least 1 s"),
        ("music -5s", "is no rule"),
    ],
)
def test_bad_rules_show_the_grammar(text, says):
    with pytest.raises(UsageError) as error:
        parse_rule(text, LABELS)
    assert says in str(error.value)
    assert str(error.value).startswith("--alert ")
    assert str(error.value).count("\n") == 0


def test_labels_of_two_parts_count_for_both():
    assert parse_rule("music 10s", LABELS).holds("speech+music")
    assert not parse_rule("no music 10s", LABELS).holds("speech+music")
    assert not parse_rule("speech+music 10s", LABELS).holds("speech")
    assert parse_rule("no speech+music 10s", LABELS).holds("speech")
    assert parse_rule("no music 10s", LABELS).holds("silence")


def test_dead_air_is_reported_once_with_its_times():
    programme = Programme("silence 10s")
    programme.play(("music", 30), ("silence", 40), ("speech", 30))
    raised, ended = programme.reported
    assert (raised.kind, raised.time_s, raised.start_s, raised.for_s) == ("alert", 40, 30, 10)
    assert raised.utc == BEGAN + timedelta(seconds=40)
    assert raised.since == BEGAN + timedelta(seconds=30)
    assert raised.message == "silence for 10.0 s since 2026-03-01T12:00:30.000Z"
    assert (ended.kind, ended.time_s, ended.start_s, ended.end_s, ended.for_s) == ("alert_end", 80, 30, 70, 40)
    assert ended.message == "silence for 40.0 s since 2026-03-01T12:00:30.000Z; it has ended"
    assert ended.record()["since"] == "2026-03-01T12:00:30.000Z"


def test_a_shorter_break_starts_the_duration_anew():
    programme = Programme("no music 60s")
    programme.play(("speech", 59), ("music", 1), ("speech", 59), ("speech+music", 1), ("speech", 30), ("silence", 31))
    assert programme.kinds() == [("alert", 180.0)]


def test_an_alert_outlives_a_shorter_break():
    programme = Programme("no music 60s")
    programme.play(("speech", 70), ("music", 14), ("speech", 10), ("music", 14), ("other", 10), ("music", 20))
    assert programme.kinds() == [("alert", 60.0), ("alert_end", 133.0)]
    assert programme.reported[1].for_s == 118


def test_lost_audio_counts_neither_way():
    programme = Programme("no music 60s")
    programme.play(("speech", 40), (None, 1000), ("speech", 30))
    assert programme.kinds() == [("alert", 1060.0)]
    programme.play(("music", 10), (None, 1000), ("music", 10))
    assert programme.kinds()[1:] == [("alert_end", 2085.0)]


def test_alerts_do_not_depend_on_the_pace():
    alerts = []
    for every_s in (0.01, 0.7, 1.0, 1000.0):
        programme = Programme("no music 20s", "speech 10s")
        programme.play(("speech", 33.3), ("music", 41.7), ("silence", 22.2), ("speech", 15), every_s=every_s)
        alerts.append([(event.rule, event.kind, event.time_s, event.for_s) for event in programme.reported])
    assert alerts[0] == alerts[1] == alerts[2] == alerts[3]
    assert len(alerts[0]) == 6


def test_sources_and_channels_have_their_own_alerts():
    reported: list[Event] = []
    rules = Rules([parse_rule("speech 5s", LABELS)], reported.append)
    for source, channel in (("a", None), ("b", 1), ("b", 2)):
        label = "music" if channel == 1 else "speech"
        rules.take(Event(kind="segment_start", source=source, channel=channel, time_s=0, utc=BEGAN, label=label))
    rules.tick(BEGAN, {"a": Position(5, 5), "b": Position(6, 6)})
    assert [(event.source, event.channel, event.time_s) for event in reported] == [("a", None, 5), ("b", 2, 5)]


def test_missing_input_is_noticed_without_events():
    programme = Programme("no input 15s")
    programme.wait(14)
    assert programme.reported == []
    programme.wait(100)
    (raised,) = programme.reported
    assert (raised.kind, raised.time_s, raised.for_s) == ("alert", 0, 15)
    assert raised.utc == BEGAN + timedelta(seconds=16)
    assert raised.since == BEGAN + timedelta(seconds=1)  # the first tick
    programme.play(("music", 30))
    assert [event.kind for event in programme.reported] == ["alert", "alert_end"]
    assert programme.reported[1].for_s == 114
    assert programme.reported[1].utc - programme.reported[1].since == timedelta(seconds=124)


def test_audio_in_blocks_is_no_missing_input():
    programme = Programme("no input 15s")
    for _ in range(100):  # as of HLS
        programme.wait(9)
        programme.time_s += 10
        programme.wait(1)
    assert programme.reported == []


def test_one_block_is_no_regained_input():
    programme = Programme("no input 15s")
    programme.play(("music", 5))
    for _ in range(4):
        programme.wait(40)
        programme.time_s += 3
    programme.wait(40)
    assert [event.kind for event in programme.reported] == ["alert"]


def test_an_ended_input_is_not_missing():
    programme = Programme("no input 15s")
    programme.event("end")
    programme.wait(60)
    assert programme.reported == []


@pytest.mark.parametrize("jump_s", [3600, -3600])
def test_a_clock_that_is_set_raises_nothing(jump_s):
    programme = Programme("no input 15s")
    programme.play(("music", 20))
    programme.now += timedelta(seconds=jump_s)
    programme.play(("music", 20))
    assert programme.reported == []


def test_alerts_end_with_their_input():
    programme = Programme("speech 5s", "no input 15s")
    programme.play(("speech", 8))
    programme.wait(30)
    programme.event("end")
    programme.wait(60)
    assert [(event.kind, event.rule) for event in programme.reported] == [
        ("alert", "speech 5s"),
        ("alert", "no input 15s"),
        ("alert_end", "speech 5s"),
        ("alert_end", "no input 15s"),
    ]
    assert programme.reported[2].message == (
        "speech for 8.0 s since 2026-03-01T12:00:00.000Z; no longer watched, because the input has ended"
    )
    assert programme.reported[3].for_s == 30


@pytest.mark.parametrize(
    "rule", ["silence 1s", *(pytest.param(rule, marks=pytest.mark.slow) for rule in ("no music 60s", "no input 5s"))]
)
def test_a_day_of_flapping_is_few_alerts(rule):
    """The worst input for each rule: it changes as soon as the alert is raised or ended."""
    programme = Programme(rule)
    day_s = 86400
    while programme.time_s < day_s and (programme.now - BEGAN).total_seconds() < day_s:
        raised = len(programme.reported) % 2
        if rule.startswith("no input") and not raised:
            programme.wait(1)
        else:
            programme.play(("music" if raised else "silence", 1.0))
    times = np.array([event.utc.timestamp() for event in programme.reported if event.kind == "alert"])
    in_an_hour = np.searchsorted(times, times + 3600) - np.arange(len(times))
    assert in_an_hour.max() <= 11
    assert len(times) <= 24 * 7


def test_alerts_of_a_real_programme(samples):
    """Speech, dead air and music, in blocks as they arrive: alerts come when they should, but for errors of borders."""
    rate = 16_000
    parts = {label: [sound(path, rate) for path in samples if path.name.startswith(label)] for label in LABELS}
    speech, music = (np.concatenate(parts[label]) for label in LABELS)
    silence = np.zeros(20 * rate, np.float32)
    speech_s, music_s = len(speech) / rate, len(music) / rate
    programme = np.concatenate((music, speech, silence, music))
    begins = set()
    reported: list[Event] = []
    rules = Rules([parse_rule(text, LABELS) for text in ("silence 10s", "no music 15s", "music 12s")], reported.append)
    session = ms_edge.Classifier().session(rate, source="radio", started_at=BEGAN)
    for start in range(0, len(programme), rate // 2):
        for event in session.push(programme[start : start + rate // 2]):
            begins |= {event.time_s} if event.kind == "segment_start" else set()
            rules.take(event)
        rules.tick(
            BEGAN + timedelta(seconds=session.received_s), {"radio": Position(session.decided_s, session.received_s)}
        )
    for event in session.close():
        rules.take(event)
    dead_s = music_s + speech_s
    expected = [
        ("music 12s", "alert", 12),
        ("music 12s", "alert_end", music_s + 10),
        ("no music 15s", "alert", music_s + 15),
        ("silence 10s", "alert", dead_s + 10),
        ("silence 10s", "alert_end", dead_s + 30),
        ("no music 15s", "alert_end", dead_s + 30),
        ("music 12s", "alert", dead_s + 32),
    ]
    assert [(event.rule, event.kind) for event in reported] == [(rule, kind) for rule, kind, _ in expected]
    times = [event.time_s for event in reported]
    np.testing.assert_allclose(
        times, [time_s for *_, time_s in expected], atol=3
    )  # how exact borders are is tested elsewhere
    assert all(event.utc == BEGAN + timedelta(seconds=event.time_s) for event in reported)
    assert {event.start_s for event in reported} <= begins


def monitor(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ms_edge.cli", "monitor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)


@posix
def test_monitor_acts_on_its_alerts(samples, tmp_path):
    """A programme with dead air: the events, the commands and the requests of a server tell the same alerts."""
    rate = 16_000
    music = np.concatenate([sound(path, rate) for path in samples if path.name.startswith("music")])
    soundfile.write(tmp_path / "a.wav", np.concatenate((music, np.zeros(15 * rate), music)), rate)
    with server() as (state, url):
        act = ["--exec", "cat >> commands; echo $MS_EDGE_EVENT >&2", "--webhook", f"{url}/alerts"]
        rules = ["--alert", "silence 10s", "--alert", "music  12s", "--alert", "no input 5m"]
        done = monitor("a.wav", *rules, *act, "--format", "jsonl", cwd=tmp_path)
    assert done.returncode == 0
    events = [json.loads(line) for line in done.stdout.splitlines()]
    alerts = [event for event in events if event["event"].startswith("alert")]
    assert [(event["event"], event["rule"]) for event in alerts] == [
        ("alert", "music 12s"),
        ("alert", "silence 10s"),
        ("alert_end", "music 12s"),
        ("alert_end", "silence 10s"),
        ("alert", "music 12s"),
        ("alert_end", "music 12s"),
    ]
    assert alerts[-1]["message"].endswith("no longer watched, because the input has ended")
    assert events.index(alerts[-1]) == len(events) - 1
    assert [json.loads(line) for line in (tmp_path / "commands").read_text().splitlines()] == alerts
    assert [json.loads(body) for _, _, body in state.requests] == alerts
    printed = [line for line in done.stderr.splitlines() if line.startswith("alert")]
    assert printed == [event["event"] for event in alerts]


@posix
@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--alert", "no music"], "--alert 'no music' is no rule: a rule is [no] LABEL DURATION"),
        (["--exec", "true"], "--exec and --webhook act on alerts; give at least one --alert"),
        (["--alert", "music 5s", "--webhook", "ftp://a/"], "--webhook 'ftp://a/' is no address of HTTP or HTTPS"),
    ],
)
def test_monitor_refuses_bad_options(options, says):
    done = monitor("-", *options, stdin=subprocess.DEVNULL)
    assert done.returncode == 2
    assert done.stderr.startswith(f"ms-edge: {says}")
    assert done.stderr.count("\n") == 1


def sound(path: Path, rate: int) -> np.ndarray:
    """Return a recording as mono float32 at a sample rate."""
    samples, own_rate = soundfile.read(path, dtype="float32", always_2d=True)
    return soxr.resample(samples.mean(axis=1), own_rate, rate)


LABEL = st.sampled_from(["speech", "music", "speech+music", "silence", "other", "uncertain", None])
PART = st.tuples(LABEL, st.floats(0.05, 400, allow_nan=False))


@given(st.lists(PART, max_size=20), st.floats(2, 90), st.lists(st.integers(0, 60), max_size=10))
def test_any_input_gives_pairs_of_alerts(parts, every_s, pauses):
    programme = Programme("no music 60s", "speech 1s", "silence 10s", "no input 5s")
    for place, part in enumerate(parts):
        programme.play(part, every_s=every_s)
        if place < len(pauses):
            programme.wait(pauses[place])
    programme.event("end")
    programme.event("end")
    by_rule: dict[str, list[Event]] = {}
    for event in programme.reported:
        by_rule.setdefault(event.rule, []).append(event)
    for rule, events in by_rule.items():
        assert [event.kind for event in events] == ["alert", "alert_end"] * (len(events) // 2)
        assert all(earlier.utc <= later.utc for earlier, later in pairwise(events))
        for raised, ended in zip(events[::2], events[1::2], strict=True):
            assert raised.since == ended.since
            assert parse_rule(rule, LABELS).duration_s <= raised.for_s <= ended.for_s  # with lost audio
            assert raised.start_s <= raised.time_s <= ended.time_s
        times = [event.utc for event in events[::2]]
        assert all(later - earlier > timedelta(hours=1) for earlier, later in zip(times, times[11:], strict=False))


ANY_EVENT = st.tuples(
    st.sampled_from([kind for kind in KINDS if kind not in ("alert", "alert_end")]), LABEL, st.floats(-50, 900)
)


@given(st.lists(st.one_of(ANY_EVENT, st.floats(-50, 900)), max_size=60))
def test_any_events_give_pairs_of_alerts(steps):
    """Events of any kind in any order, and ticks (numbers) between them; time may go back."""
    programme = Programme("no music 60s", "music 1s", "uncertain 10s", "no input 5s")
    for step in steps:
        if isinstance(step, tuple):
            kind, label, seconds = step
            programme.time_s += seconds
            programme.event(kind, label)
        else:
            programme.now += timedelta(seconds=step)
            programme.rules.tick(programme.now, {"-": Position(programme.time_s, programme.time_s)})
    programme.event("end")
    for rule in programme.rules_texts:
        events = [event for event in programme.reported if event.rule == rule]
        assert [event.kind for event in events] == ["alert", "alert_end"] * (len(events) // 2)
        if rule != "no input 5s":
            times = [event.time_s for event in events]
            assert times == sorted(times)
            raised = times[::2]
            assert all(later - earlier > 3600 for earlier, later in zip(raised, raised[11:], strict=False))
