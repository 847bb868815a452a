"""Streams that run for long: nothing grows, time stays exact, and a killed program has said what it knew."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import endurance
import pytest

from ms_edge import Classifier

HOURS, NIGHTLY_HOURS = 8, 500
KILLS = 20

pytestmark = [
    pytest.mark.slow,
    pytest.mark.native,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc"),
]


def test_stream_of_many_hours_stays_small_and_exact(tmp_path, everything):
    """With --everything (`make nightly`) it is three weeks of audio."""
    hours = NIGHTLY_HOURS if everything else HOURS
    command = [sys.executable, endurance.__file__, str(hours), str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60 * hours + 600)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert found["received_s"] == found["end_s"] == hours * 3600
    assert sum(found["labels_ms"].values()) == hours * 3_600_000
    assert found["different"] == 0  # no cycle has another event, or one at another time
    assert {"speech", "music", "silence"} <= set(found["labels_ms"])
    assert found["kinds"] == ["label", "segment_end", "segment_start"]
    assert found["grown_mb"] < 2
    assert found["descriptors"] == found["descriptors_then"]
    assert recorded_ms(tmp_path) == found["labels_ms"]


def recorded_ms(folder: Path) -> dict[str, int]:
    """Return the milliseconds of each label in the records of all days."""
    seconds: dict[str, int] = {}
    for path in folder.iterdir():
        for line in path.read_text(encoding="ascii").splitlines():
            for label, value in json.loads(line)["seconds"].items():
                seconds[label] = seconds.get(label, 0) + round(1000 * value)
    return seconds


def test_killed_stream_loses_only_what_was_undecided(tmp_path):
    """Kill it at twenty points of the programme, when it has read all that was written until then."""
    samples = endurance.programme()
    session = Classifier(device="cpu").session(endurance.RATE)
    expected = [without_clock(event.record()) for event in session.push(samples)]
    path = tmp_path / "events.jsonl"
    raw = f"{endurance.RATE}:1:s16le"
    for kill in range(1, KILLS + 1):
        heard_s = endurance.CYCLE_S * kill / KILLS - 3.7
        decided = [event for event in expected if event["time_s"] < heard_s - 3]
        with (
            path.open("wb") as file,
            subprocess.Popen(
                [sys.executable, "-m", "ms_edge.cli", "stream", "--raw", raw, "--format", "jsonl", "-"],
                stdin=subprocess.PIPE,
                stdout=file,
            ) as process,
        ):
            process.stdin.write(samples[: round(heard_s * endurance.RATE)].tobytes())
            process.stdin.flush()
            patience = time.monotonic() + 60
            while path.read_bytes().count(b"\n") < len(decided) and time.monotonic() < patience:
                time.sleep(0.02)
            process.kill()
        content = path.read_bytes()
        assert content.endswith(b"\n")
        found = [without_clock(json.loads(line)) for line in content.splitlines()]
        assert len(found) >= len(decided) > 0
        assert found == expected[: len(found)]


def without_clock(record):
    return {name: value for name, value in record.items() if name != "utc"}
