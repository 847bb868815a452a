"""Records and metrics of live sources: the seconds are exact, whatever happens to the source or the process."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import soundfile
from prometheus_client.parser import text_string_to_metric_families
from test_interrupts import started

from ms_edge.classifier import Classifier
from ms_edge.cli import main as cli
from ms_edge.errors import DeviceError, UsageError
from ms_edge.live import records as live_records
from ms_edge.live.events import Event, Position
from ms_edge.live.prometheus import Metrics
from ms_edge.live.records import Records
from ms_edge.live.session import Session
from ms_edge.output import growing
from ms_edge.output.records import read_records

SOURCE = "http://radio.example/live"
EVENING = datetime(2026, 11, 28, 23, 58, 30, tzinfo=UTC)
RATE = 16_000


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier()


@pytest.fixture(scope="module")
def programme(samples) -> np.ndarray:
    """Five minutes of music and speech in turns."""
    names = ("music_zaz", "speech_italian_man", "music_zaz", "speech_dutch_game_1")
    folder = samples[0].parent
    return np.tile(np.concatenate([soundfile.read(folder / f"{name}.wav", dtype="float32")[0] for name in names]), 12)


@pytest.fixture
def facts(classifier) -> dict:
    """What is the same in all records of a run."""
    settings = {**classifier.settings(), "delay_s": 2.0}
    return {"settings": settings, "model": classifier.model.sha256, "provider": classifier.model.provider}


def happened(session: Session, kind: str, **fields) -> Event:
    """Return an event of the connection, at the end of what has come."""
    assert session.started_at
    utc = session.started_at + timedelta(seconds=session.received_s)
    return Event(kind=kind, source=session.source, time_s=session.received_s, utc=utc, **fields)


def lost(session: Session, seconds: float) -> list[Event]:
    """Lose audio as the monitor does."""
    events = [*session.lose(0.0), happened(session, "lost", message="the connection was closed")]
    return [*events, *session.lose(seconds), happened(session, "reconnected", lost_s=seconds)]


def push(session: Session, samples: np.ndarray) -> Iterable[Event]:
    for start in range(0, len(samples), RATE // 2):
        yield from session.push(samples[start : start + RATE // 2])


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def summary(capsys, *arguments: object) -> dict:
    """Return what `ms-edge summary` says in JSON."""
    assert cli.main(["summary", *map(str, arguments), "--format", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_records_hold_every_second_of_two_days(classifier, programme, facts, tmp_path, capsys):
    session = classifier.session(RATE, source=SOURCE, started_at=EVENING)
    records = Records(str(tmp_path), facts, pytest.fail)
    for event in [*push(session, programme), *lost(session, 100.25), *push(session, programme[: RATE * 10])]:
        records.take(event)
        records.tick(EVENING, {})
    for event in [*lost(session, 1.0), *push(session, programme[: RATE // 8]), *lost(session, 0.5), *session.close()]:
        records.take(event)
    records.close()
    first, second = tmp_path / "2026-11-28.jsonl", tmp_path / "2026-11-29.jsonl"
    # Each file begins and ends at midnight, and its records have no gaps between them.
    for path, begins, duration_s in ((first, EVENING, 90.0), (second, EVENING + timedelta(seconds=90), None)):
        found, until = lines(path), begins
        for record in found:
            assert abs(datetime.fromisoformat(record["recorded_at"]) - until) <= timedelta(milliseconds=2)
            assert record["seconds"] == {record["label"]: record["duration_s"]}
            until += timedelta(seconds=record["duration_s"])
        assert duration_s in (None, round(sum(record["duration_s"] for record in found), 3))
    whole_s = len(programme) / RATE + 100.25 + 10 + 1 + 0.125 + 0.5
    total = summary(capsys, first, second)["total"]
    assert total["duration_s"] == pytest.approx(whole_s, abs=0.002)
    assert total["seconds"].pop("lost") == 101.75
    assert total["seconds"].pop("uncertain") == 0.125  # too short for a label
    assert total["recordings"] == 2
    offline = classifier.classify(programme, RATE).seconds
    for label, seconds in offline.items():
        assert total["seconds"][label] == pytest.approx(seconds, rel=0.15, abs=6)
    hours = summary(capsys, first, second, "--by", "hour")["groups"]
    assert [(group["hour"], group["duration_s"]) for group in hours] == [
        ("2026-11-28 23:00", 90.0),
        ("2026-11-29 00:00", pytest.approx(whole_s - 90, abs=0.002)),
    ]


def test_joined_segments_are_those_of_the_events(classifier, programme, facts, tmp_path):
    session = classifier.session(RATE, source=SOURCE, started_at=datetime(2026, 11, 28, tzinfo=UTC))
    records = Records(str(tmp_path), facts, pytest.fail)
    quiet = np.zeros(RATE * 150, np.float32)  # one segment of more than two minutes
    events = [*push(session, programme[: RATE * 40]), *push(session, quiet), *session.close()]
    for event in events:
        records.take(event)
    records.close()
    (found,) = read_records(str(tmp_path / "2026-11-28.jsonl"))
    ends = [event for event in events if event.kind == "segment_end"]
    assert [(part.label, part.start_s, part.end_s) for part in found.segments] == [
        (event.label, event.start_s, event.end_s) for event in ends
    ]
    assert [part.probability for part in found.segments] == pytest.approx(
        [event.probability or 1.0 for event in ends], abs=1e-6
    )
    assert found.label == "silence"
    assert found.recorded_at == "2026-11-28T00:00:00.000Z"
    assert len(lines(tmp_path / "2026-11-28.jsonl")) == len(ends) + 3  # a record for each full minute


def test_report_has_a_page_per_source_and_day(classifier, programme, facts, tmp_path, capsys):
    records = Records(str(tmp_path), facts, pytest.fail)
    for source in (SOURCE, "-"):
        session = classifier.session(RATE, source=source, started_at=EVENING)
        for event in [*push(session, programme[: RATE * 100]), *session.close()]:
            records.take(event)
    records.close()
    days = sorted(map(str, tmp_path.glob("*.jsonl")))
    assert cli.main(["report", *days, "-o", f"{tmp_path}/report/", "-q"]) == 0
    pages = sorted(str(path.relative_to(tmp_path / "report")) for path in tmp_path.glob("report/pages/**/*.html"))
    times = ("2026-11-28T235830Z", "2026-11-29T000000Z")
    assert pages == sorted(f"pages/{name} {time}.html" for name in ("-", "http:/radio.example/live") for time in times)
    assert "The source was live" in (tmp_path / "report" / pages[0]).read_text()
    assert f"{SOURCE} {times[1]}" in (tmp_path / "report" / "index.html").read_text()


def test_channels_have_records_of_their_own(classifier, programme, facts, tmp_path):
    session = classifier.session(RATE, source=SOURCE, started_at=EVENING, channels="each")
    records = Records(str(tmp_path), facts, pytest.fail)
    stereo = np.stack([programme[: RATE * 20], np.zeros(RATE * 20, np.float32)], axis=1)
    for event in [*session.push(stereo), *lost(session, 2.0), *session.push(stereo), *session.close()]:
        records.take(event)
    records.close()
    one, two = read_records(str(tmp_path / "2026-11-28.jsonl"))
    assert (one.channel, two.channel) == (1, 2)
    assert one.duration_s == two.duration_s == 42.0
    assert two.seconds == {"silence": 40.0, "lost": 2.0}
    assert one.seconds["lost"] == 2.0


def test_killed_process_loses_a_minute_at_most(classifier, programme, facts, tmp_path):
    """Whatever is in the file when it is cut, the next run of the same day goes on."""
    began = datetime(2026, 11, 28, 12, tzinfo=UTC)
    session = classifier.session(RATE, source=SOURCE, started_at=began)
    records, path = Records(str(tmp_path), facts, pytest.fail), tmp_path / "2026-11-28.jsonl"
    sizes = [0]
    for event in push(session, np.concatenate([programme[: RATE * 30], np.zeros(RATE * 200, np.float32)])):
        records.take(event)
        records.tick(began, {})
        written_s = sum(record["duration_s"] for record in lines(path)) if path.exists() else 0.0
        assert event.time_s - written_s <= 60
        sizes.append(path.stat().st_size if path.exists() else 0)
    records.close()
    whole = path.read_bytes()
    for size in range(0, len(whole), len(whole) // 20):
        path.write_bytes(whole[:size])
        again = Records(str(tmp_path), facts, pytest.fail)
        later = classifier.session(RATE, source=SOURCE, started_at=began + timedelta(hours=1))
        for event in [*later.push(np.zeros(RATE, np.float32)), *later.close()]:
            again.take(event)
        again.close()
        found = lines(path)
        assert (
            b"".join(whole.splitlines(keepends=True)[: len(found) - 1]) == whole[: max(s for s in sizes if s <= size)]
        )
        assert [record.duration_s for record in read_records(str(path))][-1] == 1.0


def test_incomplete_last_line_is_left_out_with_a_word(classifier, programme, facts, tmp_path, capsys):
    session = classifier.session(RATE, source=SOURCE, started_at=EVENING)
    records = Records(str(tmp_path), facts, pytest.fail)
    for event in push(session, programme[: RATE * 40]):
        records.take(event)
    records.close()
    path = tmp_path / "2026-11-28.jsonl"
    whole = path.read_bytes().splitlines(keepends=True)
    with path.open("wb") as file:
        file.write(b"".join(whole[:-1]) + whole[-1][:-5])
    assert cli.main(["summary", str(path), "--by", "hour"]) == 0
    assert "2026-11-28 23:00" in (said := capsys.readouterr()).out
    assert (
        said.err
        == f"ms-edge: {path}: the last line is incomplete and left out; it is being written, or its run was killed.\n"
    )


@pytest.mark.parametrize(
    "changes",
    [{"segments": []}, {"recorded_at": None}, {"recorded_at": "9999"}, {"duration_s": 1e299}, {"segments": None}],
)
def test_live_records_from_elsewhere_may_be_odd(classifier, facts, tmp_path, changes):
    session = classifier.session(RATE, source=SOURCE, started_at=EVENING)
    records, path = Records(str(tmp_path), facts, pytest.fail), tmp_path / "2026-11-28.jsonl"
    for event in [*session.push(np.zeros(RATE * 10, np.float32)), *session.close()]:
        records.take(event)
    records.close()
    (record,) = lines(path)
    odd = {**record, **changes}
    empty = {**record, "segments": [{**record["segments"][0], "end_s": 0.0}]}
    path.write_text("".join(f"{json.dumps(each)}\n" for each in (record, odd, empty, odd, record)))
    assert len(list(read_records(str(path)))) >= 4
    for by in ("file", "hour"):
        assert cli.main(["summary", str(path), "--by", by]) == 0


def test_full_disk_delays_records(classifier, programme, facts, tmp_path, monkeypatch):
    session, said = classifier.session(RATE, source=SOURCE, started_at=EVENING), []
    records = Records(str(tmp_path), facts, said.append)
    events = list(push(session, programme[: RATE * 40]))
    write = os.write

    def full(descriptor, content):
        write(descriptor, content[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(growing.os, "write", full)
        for event in events:
            records.take(event)
            records.tick(EVENING, {})
    records.tick(EVENING, {})
    records.close()
    assert said == [
        f"{tmp_path}: records cannot be written and wait in memory (no space left on device).",
        f"{tmp_path}: records are written again.",
    ]
    (found,) = read_records(str(tmp_path / "2026-11-28.jsonl"))
    assert found.duration_s == max(event.end_s or 0 for event in events)


@pytest.mark.parametrize("recovers", [True, False])
def test_records_lost_to_full_disk_are_counted(classifier, programme, facts, tmp_path, monkeypatch, recovers):
    session, said = classifier.session(RATE, source=SOURCE, started_at=EVENING), []
    monkeypatch.setattr(live_records, "MOST_WAITING", 2)
    records = Records(str(tmp_path), facts, said.append)
    ends = [event for event in push(session, programme[: RATE * 40]) if event.kind == "segment_end"]
    assert len(ends) > 3

    def full(descriptor, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(growing.os, "write", full)
        for event in ends:
            records.take(event)
        if not recovers:
            records.close()
    if recovers:
        records.close()
    why = f"{tmp_path}: records cannot be written and wait in memory (no space left on device)."
    again = f"{tmp_path}: records are written again; the {len(ends) - 2} oldest were dropped."
    never = f"{tmp_path}: {len(ends)} records are lost, because the monitor ends."
    assert said == [why, again if recovers else never]
    assert len((tmp_path / "2026-11-28.jsonl").read_text().splitlines()) == (2 if recovers else 0)
    assert records.lost == (len(ends) - 2 if recovers else len(ends))


def test_removed_file_is_begun_again(classifier, programme, facts, tmp_path):
    session, said = classifier.session(RATE, source=SOURCE, started_at=EVENING), []
    records, path = Records(str(tmp_path), facts, said.append), tmp_path / "2026-11-28.jsonl"
    for number, event in enumerate(push(session, programme[: RATE * 40])):
        records.take(event)
        records.tick(EVENING, {})
        if number == 4:
            assert path.exists()
            path.unlink()
    records.close()
    assert path.exists()
    assert len(said) == 2


def test_two_processes_do_not_share_a_file(facts, tmp_path):
    (tmp_path / f"{datetime.now(UTC).date()}.jsonl").write_text("else\n")
    with pytest.raises(UsageError, match="is no file of records"):
        Records(str(tmp_path), facts, pytest.fail)
    with pytest.raises(UsageError, match="cannot be written"):
        Records(str(tmp_path / f"{datetime.now(UTC).date()}.jsonl" / "below"), facts, pytest.fail)


RAW = ["monitor", "-", "--raw", "16000:1:s16le", "--records", "days"]


@pytest.mark.skipif(os.name != "posix", reason="monitor needs Linux or macOS")
def test_monitor_keeps_records_and_metrics(programme, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sound = (programme[: RATE * 100] * 32767).astype("<i2").tobytes()
    options = ["--format", "jsonl", "--metrics", "m.prom"]
    with started(*RAW, *options, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        out, said = process.communicate(sound, timeout=120)
        assert process.returncode == 0, said
    heard: dict[str, float] = {}
    for event in map(json.loads, out.splitlines()):
        if event["event"] == "segment_end":
            heard[event["label"]] = heard.get(event["label"], 0.0) + event["end_s"] - event["start_s"]
    assert sum(heard.values()) == pytest.approx(100.0)
    total = summary(capsys, *Path("days").iterdir())["total"]
    assert total["seconds"] == pytest.approx(heard)
    counted = parsed(Path("m.prom").read_text())["ms_edge_audio_seconds_total"]
    assert {label: seconds for (_, label), seconds in counted.items()} == pytest.approx(heard)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="monitor needs Linux or macOS")
def test_kills_lose_a_minute_each_at_most(programme, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sound = (programme[: RATE * 150] * 32767).astype("<i2").tobytes()
    least_s = 0.0
    for number in range(0, 20, 3):
        with started(*RAW, "--format", "jsonl", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin
            assert process.stdout
            process.stdin.write(sound[: RATE * 2 * (40 + 5 * number)])
            process.stdin.flush()
            printed = [json.loads(process.stdout.readline()) for _ in range(4 + number)]
            process.kill()
            process.wait()
        # Each line is printed before its record is written, so the last one may lack its record.
        least_s += max(event.get("end_s", 0.0) for event in printed[:-1])
        assert summary(capsys, *Path("days").iterdir())["total"]["duration_s"] >= round(least_s, 3)
    for path in Path("days").iterdir():
        assert {line[-2:] for line in path.read_bytes().splitlines(keepends=True)[:-1]} == {b"}\n"}


# Metrics


@pytest.mark.skipif(os.name != "posix", reason="monitor needs Linux or macOS")
@pytest.mark.parametrize("how", ["file", "link"])
def test_metrics_replace_only_metrics(tmp_path, how):
    recording, path = tmp_path / "a.wav", tmp_path / "m.prom"
    recording.write_bytes(b"RIFF")
    if how == "link":
        path.symlink_to(recording)
    else:
        path = recording
    with pytest.raises(UsageError, match="holds no metrics of ms-edge and is not replaced"):
        Metrics(str(path), None, pytest.fail)
    assert recording.read_bytes() == b"RIFF"


def test_an_alert_is_active_until_it_ends_on_each_channel(tmp_path):
    path = tmp_path / "m.prom"
    metrics = Metrics(str(path), None, pytest.fail)
    for kind, channel, active in (("alert", 1, 1.0), ("alert", 2, 1.0), ("alert_end", 2, 1.0), ("alert_end", 1, 0.0)):
        metrics.take(Event(kind=kind, source=SOURCE, time_s=1.0, utc=EVENING, channel=channel, rule="speech 3s"))
        metrics._write()
        assert parsed(path.read_text())["ms_edge_alert_active"] == {(SOURCE, "speech 3s"): active}


@pytest.mark.skipif(sys.platform != "linux", reason="only here is there a device that is always full")
def test_records_and_alerts_need_no_standard_output(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recording = Path(__file__).parents[1] / "data" / "speech_italian_man.wav"
    alert = ["--alert", "speech 2s", "--exec", "cat > alert.json"]
    command = [sys.executable, "-m", "ms_edge.cli", "monitor", str(recording), "--records", "days", *alert]
    with Path("/dev/full").open("w") as full:
        run = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert run.returncode == 0
    assert run.stderr.count("standard output cannot be written") == 1
    assert json.loads(Path("alert.json").read_text())["rule"] == "speech 2s"
    (days,) = Path("days").iterdir()
    assert sum(json.loads(line)["duration_s"] for line in days.read_text().splitlines()) == pytest.approx(6.0)


@pytest.mark.skipif(os.name != "posix", reason="monitor needs Linux or macOS")
def test_lost_records_are_whole_lines_and_an_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recordings = [
        str(Path(__file__).parents[1] / "data" / f"{name}.wav") for name in ("speech_italian_man", "music_zaz")
    ]
    command = [sys.executable, "-m", "ms_edge.cli", "monitor", *recordings, "--records", "days"]
    little = "ulimit -f 1; exec"  # a file of 1 or 0.5 KiB, by the shell
    run = subprocess.run(["sh", "-c", f'{little} "$@"', "sh", *command], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1].endswith("records are lost, because the monitor ends.")
    (days,) = Path("days").iterdir()
    assert all(line.endswith("}\n") for line in days.read_text().splitlines(keepends=True))


@pytest.mark.skipif(os.name != "posix", reason="monitor needs Linux or macOS")
def test_metrics_can_go_to_a_device(tmp_path):
    path = tmp_path / "link"
    path.symlink_to("/dev/null")
    Metrics(str(path), None, pytest.fail).close()
    assert path.is_symlink()
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def parsed(text: str) -> dict[str, dict[tuple[str, ...], float]]:
    """Return the values of each metric, by the values of its labels."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        for sample in family.samples:
            labels = [sample.labels.get(name) for name in ("source", "channel", "label", "rule")]
            found.setdefault(sample.name, {})[tuple(filter(None, labels))] = sample.value
    return found


def test_metrics_count_what_was_heard(classifier, programme, tmp_path, monkeypatch):
    path = tmp_path / "ms-edge.prom"
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    session = classifier.session(RATE, source=SOURCE, started_at=EVENING)
    metrics = Metrics(str(path), None, pytest.fail)
    metrics.take(happened(session, "connected"))
    for start in range(0, RATE * 130, RATE):
        for event in session.push(programme[start : start + RATE]):
            metrics.take(event)
        now[0] += 1
        metrics.tick(EVENING, {SOURCE: Position(session.decided_s, session.received_s)})
        if start == RATE * 99:  # also in the middle of a segment
            written = parsed(path.read_text())
            age_s = session.decided_s - sum(written["ms_edge_audio_seconds_total"].values())
            assert 0 <= age_s <= 10
            assert written["ms_edge_connected"] == {(SOURCE,): 1.0}
            assert written["ms_edge_last_audio_timestamp_seconds"][SOURCE,] == pytest.approx(
                EVENING.timestamp() + session.decided_s - age_s
            )
    events = [*lost(session, 7.5), *session.push(np.zeros(RATE * 3, np.float32))]
    alert = happened(session, "alert", rule="no music 60s", message="no music for 60 s")
    for event in [*events, alert, *session.close(), happened(session, "end", lost_s=7.5)]:
        metrics.take(event)
    metrics.close()
    found = parsed(path.read_text())
    assert set(found) == {
        "ms_edge_audio_seconds_total",
        "ms_edge_lost_seconds_total",
        "ms_edge_connection_losses_total",
        "ms_edge_stalls_total",
        "ms_edge_gaps_total",
        "ms_edge_connected",
        "ms_edge_last_audio_timestamp_seconds",
        "ms_edge_alerts_total",
        "ms_edge_alert_active",
    }
    assert sum(found["ms_edge_audio_seconds_total"].values()) == pytest.approx(133.0)
    assert found["ms_edge_audio_seconds_total"][SOURCE, "silence"] == pytest.approx(3.0, abs=0.2)
    assert found["ms_edge_lost_seconds_total"] == {(SOURCE,): 7.5}
    assert found["ms_edge_connection_losses_total"] == {(SOURCE,): 1.0}
    assert found["ms_edge_stalls_total"] == {(SOURCE,): 0.0}
    assert found["ms_edge_connected"] == {(SOURCE,): 0.0}
    assert found["ms_edge_alerts_total"] == found["ms_edge_alert_active"] == {(SOURCE, "no music 60s"): 1.0}
    assert os.listdir(tmp_path) == ["ms-edge.prom"]


def test_metrics_page_answers_on_this_machine_only(classifier, programme):
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    metrics = Metrics(None, port, pytest.fail)
    session = classifier.session(RATE, source=SOURCE, started_at=EVENING)
    for event in [*push(session, programme[: RATE * 30]), *session.close()]:
        metrics.take(event)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        found = parsed(answer.read().decode())
    assert sum(found["ms_edge_audio_seconds_total"].values()) == pytest.approx(30.0)
    with pytest.raises(UsageError, match=rf"Port {port} of 127\.0\.0\.1 cannot be used \(address already in use\)"):
        Metrics(None, port, pytest.fail)
    metrics.close()
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20)


def test_file_that_cannot_be_replaced_is_said_once(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="cannot be written"):
        Metrics(str(tmp_path / "none" / "a.prom"), None, pytest.fail)
    folder, said, now = tmp_path / "folder", [], [0.0]
    folder.mkdir()
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    metrics = Metrics(str(folder / "a.prom"), None, said.append)
    folder.rename(tmp_path / "away")
    for now[0] in range(0, 60, 5):
        metrics.tick(EVENING, {SOURCE: Position(0, 0)})
    assert said == [f"{folder}/a.prom: the metrics cannot be written (no such file or directory); that is tried again."]
    (tmp_path / "away").rename(folder)
    metrics.close()
    assert parsed((folder / "a.prom").read_text())["ms_edge_connected"] == {(SOURCE,): 0.0}


def test_missing_package_is_one_sentence(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "prometheus_client", None)
    with pytest.raises(DeviceError, match=r"Metrics need prometheus-client, .* its extra live\)"):
        Metrics("a.prom", None, pytest.fail)
