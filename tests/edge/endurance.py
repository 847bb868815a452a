"""Stream hours of audio through a session, with records and rules, and print what became of it as JSON.

    python tests/edge/endurance.py HOURS DIR

A programme of four minutes is repeated, at 44.1 kHz and as fast as possible. Its events must repeat too,
at the same times of every four minutes. An edge is placed in steps of 20 ms; how much later audio is known
then depends on where a batch of windows ends, so it may be a step away. Records are written into DIR.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import soundfile
import soxr

from ms_edge import Classifier
from ms_edge.live.events import Event, Position
from ms_edge.live.records import Records
from ms_edge.live.rules import Rules, parse_rule

RATE, CYCLE_S = 44_100, 240
BLOCK = 44_100  # a second
DELAY_S = 10.0  # more windows are scored together than with the default, in less time
STEP_MS = 20  # of an edge
WARM_UP_CYCLES = 30  # two hours: by then, memory is allocated
STARTED = datetime(2026, 1, 1, 0, 0, 0, 1000, tzinfo=UTC)
SAMPLES = Path(__file__).parent.parent / "data"
ORDER = ("speech_french_woman", "music_zaz", None, "speech_italian_man", "music_palace", "speech_french_woman", None)


def programme() -> np.ndarray:
    """Return four minutes of speech, music and silence, 16 bits."""
    pieces, place = [], 0
    names = {path.stem: path for path in SAMPLES.glob("*.wav")}
    while sum(map(len, pieces)) < CYCLE_S * RATE:
        name = ORDER[place % len(ORDER)]
        if name is None:
            pieces.append(np.zeros(RATE * 4 + 123, np.int16))
        else:
            samples, rate = soundfile.read(names.get(name) or sorted(names.values())[place % 8], always_2d=True)
            pieces.append(
                (32_000 * soxr.resample(samples.mean(axis=1), rate, RATE)).clip(-32_000, 32_000).astype(np.int16)
            )
        place += 1
    return np.concatenate(pieces)[: CYCLE_S * RATE]


def main(hours: float, folder: str) -> None:
    """Stream, and print the result."""
    cycles = round(hours * 3600 / CYCLE_S)
    classifier = Classifier(device="cpu")
    session = classifier.session(RATE, started_at=STARTED, source="radio", delay_s=DELAY_S)
    alerts: list[str] = []
    records = Records(folder, {"model": "x"}, print)
    consumers = [
        records,
        Rules([parse_rule("no music 10s", ("speech", "music"))], lambda event: alerts.append(event.kind)),
    ]
    once = programme()
    cycle_of: dict[int, list[tuple[str, int, str | None]]] = {}
    labels: Counter[str] = Counter()
    different, before, memory, descriptors_then, last = 0, None, 0, 0, None
    events = 0

    def take(found: list[Event]) -> None:
        nonlocal events, last
        for event in found:
            events += 1
            for consumer in consumers:
                consumer.take(event)
            assert event.utc == STARTED + timedelta(milliseconds=round(1000 * event.time_s))
            cycle, within = divmod(round(1000 * event.time_s), 1000 * CYCLE_S)
            cycle_of.setdefault(cycle, []).append((event.kind, within, event.label))
            if event.kind == "segment_end":
                labels[str(event.label)] += round(1000 * event.time_s) - round(1000 * event.start_s)
                last = event

    for cycle in range(cycles):
        for start in range(0, len(once), BLOCK):
            take(session.push(once[start : start + BLOCK]))
        now = STARTED + timedelta(seconds=session.received_s)
        for consumer in consumers:
            consumer.tick(now, {"radio": Position(session.decided_s, session.received_s)})
        alerts.clear()
        decided = cycle_of.pop(cycle - 1, None)
        if cycle > 2:
            different += not same(decided, before)
        before = decided
        if cycle == WARM_UP_CYCLES:
            memory, descriptors_then = resident(), len(os.listdir("/proc/self/fd"))
    grown, descriptors = resident() - memory, len(os.listdir("/proc/self/fd"))
    take(session.close())
    records.close()
    print(
        json.dumps(
            {
                "cycles": cycles,
                "different": different,
                "grown_mb": grown / 1e6,
                "descriptors": descriptors,
                "descriptors_then": descriptors_then,
                "received_s": session.received_s,
                "end_s": last.end_s,
                "labels_ms": labels,
                "kinds": sorted({kind for kind, _, _ in before}),
                "events": events,
            }
        )
    )


def same(events: list[tuple[str, int, str | None]], others: list[tuple[str, int, str | None]]) -> bool:
    """Return whether (kind, time in ms, label) are the same, but for a step of an edge."""
    return len(events) == len(others) and all(
        (one[0], one[2]) == (other[0], other[2]) and abs(one[1] - other[1]) <= STEP_MS
        for one, other in zip(events, others, strict=True)
    )


def resident() -> int:
    """Return the resident memory of this process, in bytes."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2])
