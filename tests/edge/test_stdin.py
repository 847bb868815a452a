"""Audio from pipes: WAV with the sizes that writers to pipes put in, headerless PCM, endless streams."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import struct
import subprocess
import sys
import threading
import time

import hostile
import numpy as np
import pytest
import soundfile

from ms_edge.audio.file import AudioFile, read_mono
from ms_edge.classifier import Classifier
from ms_edge.errors import AudioError

COMMAND = [sys.executable, "-m", "ms_edge.cli"]


def piped(content: bytes, *arguments: str, slowly: bool = False) -> tuple[int, list[dict], str]:
    """Pipe content into `ms-edge ... -`; return its exit status, records and stderr."""
    with subprocess.Popen(
        [*COMMAND, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:

        def feed() -> None:
            step = 777 if slowly else 1 << 20
            try:
                for start in range(0, len(content), step):
                    process.stdin.write(content[start : start + step])
                    process.stdin.flush()
            except BrokenPipeError:
                pass
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()

        feeder = threading.Thread(target=feed)
        feeder.start()
        out, err = process.stdout.read(), process.stderr.read()
        feeder.join()
    return process.wait(), [json.loads(line) for line in out.splitlines()], err.decode()


@pytest.fixture(scope="module")
def recording(samples):
    return next(path for path in samples if path.name.startswith("speech_italian"))


@pytest.mark.parametrize(
    ("riff", "data", "warnings"),
    [
        (None, None, []),
        (0xFFFFFFFF, 0xFFFFFFFF, ["stream-header"]),  # ffmpeg
        (0x7FFFFFFF, 0x7FFFFFDB, ["stream-header"]),  # sox
        (0x80000024, 0x80000000, ["stream-header"]),  # arecord
        (0, 0, ["stream-header"]),  # gstreamer
        (36, 0, ["stream-header"]),  # Python's wave module, before it seeks back to write the sizes
    ],
)
@pytest.mark.parametrize("slowly", [False, True])
def test_wav_stream_gives_the_answer_of_its_file(recording, riff, data, warnings, slowly):
    content = bytearray(recording.read_bytes())
    assert content[36:40] == b"data"
    if riff is not None:
        content[4:8], content[40:44] = struct.pack("<I", riff), struct.pack("<I", data)
    status, (record,), complaints = piped(bytes(content), "classify", "--format", "jsonl", "-", slowly=slowly)
    expected = Classifier().classify(recording)
    assert (status, complaints, record["path"], record["file"]) == (0, "", "-", None)
    assert record["warnings"] == warnings
    assert (record["scores"], record["duration_s"]) == (expected.record()["scores"], expected.duration_s)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "FLOAT", "ULAW", "IMA_ADPCM", "MS_ADPCM", "GSM610"])
@pytest.mark.parametrize("endless", [False, True])
def test_every_coding_can_be_streamed(recording, subtype, endless, tmp_path):
    audio, _ = soundfile.read(recording)
    path = tmp_path / "a.wav"
    soundfile.write(path, audio, 8_000, subtype)
    content = bytearray(path.read_bytes())
    if endless:
        at = content.index(b"data") + 4
        content[4:8] = content[at : at + 4] = b"\xff" * 4
    status, (record,), _ = piped(bytes(content), "classify", "--format", "jsonl", "-", slowly=True)
    assert status == 0
    assert record["duration_s"] == pytest.approx(len(audio) / 8_000, abs=0.1)
    assert record["warnings"] == (["stream-header"] if endless else [])
    assert record["label"] == Classifier().classify(path).label


def test_truncated_stream_is_marked(recording):
    content = recording.read_bytes()
    status, (record,), _ = piped(content[: len(content) // 2], "classify", "--format", "jsonl", "-")
    assert status == 0
    assert record["warnings"] == ["truncated"]
    assert record["duration_s"] == pytest.approx(3.0, abs=0.01)


@pytest.mark.parametrize("subtype", ["PCM_16", "ULAW", "IMA_ADPCM", "MS_ADPCM", "GSM610"])
@pytest.mark.parametrize("block_s", [None, 0.001, 0.05])
def test_a_stream_has_the_samples_of_the_file(recording, subtype, block_s, tmp_path, monkeypatch):
    audio, rate = soundfile.read(recording)
    path = tmp_path / "a.wav"
    soundfile.write(path, np.tile(audio, 5), rate, subtype)  # longer than a few blocks
    expected = read_mono(path, rate)
    # As if the file could not seek.
    monkeypatch.setattr(
        "ms_edge.audio.file.open_descriptor",
        lambda name: (os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0)), None),
    )
    with AudioFile("-", block_s=block_s) as stream:
        found = np.concatenate(list(stream.blocks(rate)))
        assert stream.warnings == []
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("subtype", ["PCM_16", "IMA_ADPCM", "MS_ADPCM", "GSM610"])
def test_truncated_stream_gets_no_invented_samples(recording, subtype, tmp_path):
    audio, _ = soundfile.read(recording)
    path = tmp_path / "a.wav"
    soundfile.write(path, audio, 8_000, subtype)
    content = path.read_bytes()
    _, (record,), _ = piped(content[: len(content) // 2], "classify", "--format", "jsonl", "-")
    assert record["warnings"] == ["truncated"]
    assert record["duration_s"] == pytest.approx(6.0, abs=0.1)


def test_chunks_after_the_samples_are_ignored(recording):
    content = recording.read_bytes() + hostile.chunk(b"LIST", np.random.default_rng(0).bytes(64_000))
    _, (record,), _ = piped(content, "classify", "--format", "jsonl", "-")
    assert (record["duration_s"], record["warnings"]) == (6.0, [])


def test_headerless_pcm_is_read(recording):
    audio, rate = soundfile.read(recording, dtype="int16")
    status, (record,), _ = piped(audio.tobytes(), "classify", "--raw", f"{rate}:1:s16le", "--format", "jsonl", "-")
    assert status == 0
    assert (record["duration_s"], record["warnings"]) == (6.0, [])
    assert record["scores"] == Classifier().classify(recording).record()["scores"]


@pytest.mark.parametrize(
    ("content", "code", "says"),
    [
        (b"", "empty-file", "the stream is empty"),
        (b"RIFF", "not-audio", "not WAV"),
        (b"I am not audio.\n" * 1000, "not-audio", "--raw"),
        (hostile.encoded(form="FLAC"), "not-audio", "ffmpeg"),
        (hostile.plain(channels=65), "bad-channels", "65 channels"),
        (hostile.plain(rate=1), "bad-rate", "1 Hz"),
        (hostile.wav(hostile.FMT, *[hostile.chunk(b"junk", bytes(60_000))] * 40, hostile.DATA), "not-audio", "not WAV"),
        (hostile.wav(hostile.FMT, hostile.chunk(b"junk", b"", 0xFFFFFF00)), "not-audio", "not WAV"),
        (hostile.plain()[:44], "too-short", "0.000 s"),
    ],
)
def test_unreadable_stream_is_one_sentence(content, code, says):
    status, (record,), complaints = piped(content, "classify", "--format", "jsonl", "-")
    assert status == 1
    assert record["error"]["code"] == code
    assert says in complaints
    assert len(complaints.splitlines()) == 1


def test_a_redirected_file_of_any_format_is_read(recording, tmp_path):
    audio, rate = soundfile.read(recording)
    soundfile.write(tmp_path / "a.flac", audio, rate)
    with (tmp_path / "a.flac").open("rb") as file:
        run = subprocess.run(
            [*COMMAND, "classify", "--format", "jsonl", "-"], stdin=file, capture_output=True, check=True
        )
    assert json.loads(run.stdout)["scores"] == Classifier().classify(recording).record()["scores"]


def test_non_blocking_pipe_is_read_to_its_end(recording):
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    content = recording.read_bytes()
    with subprocess.Popen(
        [*COMMAND, "classify", "--format", "jsonl", "-"], stdin=read_end, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        os.close(read_end)
        with open(write_end, "wb") as pipe:
            for start in range(0, len(content), 50_000):
                time.sleep(0.2)
                pipe.write(content[start : start + 50_000])
                pipe.flush()
        record, complaints = json.loads(process.stdout.read()), process.stderr.read()
    assert (process.returncode, complaints, record["warnings"], record["duration_s"]) == (0, b"", [], 6.0)


def test_a_closed_standard_input_is_a_sentence():
    run = subprocess.run(
        ["sh", "-c", '"$@" classify - <&-', "sh", *COMMAND], capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert run.stderr == "ms-edge: -: the stream is empty.\n"


def start_stream(*arguments: str) -> subprocess.Popen[bytes]:
    command = [*COMMAND, "stream", *arguments]
    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # tests in the background ignore it, and a child process would too
    try:
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    finally:
        signal.signal(signal.SIGINT, before)


def test_live_stream_prints_each_window_at_once(recording):
    audio, rate = soundfile.read(recording, dtype="int16")
    with start_stream("--windows", "--raw", f"{rate}:1:s16le", "--hop", "0.5", "--format", "jsonl", "-") as process:
        process.stdin.write(audio[: rate + 1600].tobytes())  # one second and a tenth; the stream goes on
        process.stdin.flush()
        first = json.loads(process.stdout.readline())
        process.stdin.write(audio[rate + 1600 : 2 * rate].tobytes())
        process.stdin.flush()
        second, third = json.loads(process.stdout.readline()), json.loads(process.stdout.readline())
        assert process.poll() is None
        process.stdin.write(audio[2 * rate : 2 * rate + 4000].tobytes())
        process.stdin.close()
        (last,) = [json.loads(line) for line in process.stdout.read().splitlines()]
        assert process.stderr.read() == b""
    assert process.returncode == 0
    assert [(part["start_s"], part["end_s"]) for part in (first, second, third, last)] == [
        (0.0, 1.0),
        (0.5, 1.5),
        (1.0, 2.0),
        (1.25, 2.25),  # aligned to the end
    ]
    assert {part["label"] for part in (first, second, third, last)} == {"speech"}
    assert set(first) == {"schema", "path", "start_s", "end_s", "label", "probability", "scores", "warnings"}
    assert first["schema"] == "ms-edge-window/1"


def test_live_stream_prints_each_event_at_once(recording):
    audio, rate = soundfile.read(recording, dtype="int16")
    with start_stream("--raw", f"{rate}:1:s16le", "--format", "jsonl", "-") as process:
        process.stdin.write(audio[: 3 * rate].tobytes())  # more than the delay; the stream goes on
        process.stdin.flush()
        begun = json.loads(process.stdout.readline())
        assert process.poll() is None
        process.stdin.write(audio[3 * rate : 4 * rate + 8].tobytes())
        process.stdin.close()
        (ended,) = [json.loads(line) for line in process.stdout.read().splitlines()]
        assert process.stderr.read() == b""
    assert process.returncode == 0
    assert list(begun) == ["schema", "event", "source", "time_s", "utc", "label", "start_s"]
    assert list(ended) == [*begun, "end_s", "probability", "scores"]
    assert (begun["schema"], begun["event"], begun["label"]) == ("ms-edge-event/1", "segment_start", "speech")
    assert (ended["event"], ended["label"], ended["end_s"]) == (
        "segment_end",
        "speech",
        round((4 * rate + 8) / rate, 3),
    )


def test_events_as_text_name_time_and_label(samples, tmp_path, capsys):
    from ms_edge.cli import main as cli

    speech = read_mono(next(path for path in samples if path.name.startswith("speech_french")), 16_000)
    soundfile.write(tmp_path / "a.wav", np.concatenate([speech, np.zeros(80_000)]), 16_000)
    assert cli.main(["stream", str(tmp_path / "a.wav")]) == 0
    lines = [line.split("  ", 1)[1] for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "00:00:00.000  speech begins"
    assert re.fullmatch(r"00:00:0[56]\.\d{3}  silence begins", lines[2])
    assert re.fullmatch(r"00:00:11\.\d{3}  silence ends after [45]\.\d{3} s", lines[3])


def test_endless_stream_runs_until_interrupted(recording):
    header = hostile.wav(hostile.FMT, hostile.chunk(b"data", b"", 0xFFFFFFFF), size=0xFFFFFFFF)
    with start_stream("--windows", "--hop", "0.5", "-") as process:
        process.stdin.write(header + bytes(32_000 * 30))
        process.stdin.flush()
        lines = [process.stdout.readline() for _ in range(59)]  # the header, and windows up to 29.5 s
        assert b"silence" in lines[-1]
        assert process.poll() is None
        if os.name == "posix":
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130
            assert b"Traceback" not in process.stderr.read()
        process.stdin.close()


@pytest.mark.skipif(os.name != "posix", reason="Windows sends no signal to one process")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_in_a_callback_is_not_lost(name):
    """A callback of libsndfile cannot raise. A signal there once ended a stream with exit status 0."""
    script = f"""
import signal, sys
from ms_edge.audio.streams import Stream
from ms_edge.cli import main as cli

read = Stream.readinto
def interrupted(self, buffer):
    if not self.opening:
        signal.raise_signal(signal.{name})
    return read(self, buffer)

signal.signal(signal.{name}, signal.SIG_DFL)  # a test under nohup ignores some signals
Stream.readinto = interrupted
sys.exit(cli.main(["stream", "-"]))
"""
    run = subprocess.run([sys.executable, "-c", script], input=hostile.plain(), capture_output=True, check=False)
    assert run.returncode == 130
    assert run.stderr == b"ms-edge: interrupted; what was printed so far is complete.\n"


def test_a_reader_of_a_live_stream_may_stop(recording):
    with start_stream(str(recording)) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.parametrize("content", [b"", b"RIFF", hostile.plain()[:44]])
def test_a_stream_without_a_sample_fails(content):
    with start_stream("-") as process:
        _, complaint = process.communicate(content)
    assert process.returncode == 1
    assert len(complaint.decode().splitlines()) == 1


@pytest.mark.parametrize("form", ["text", "jsonl"])
def test_stream_reports_warnings_about_its_input(recording, tmp_path, form):
    (tmp_path / "a.wav").write_bytes(recording.read_bytes()[:60_000])
    for source, content in ((str(tmp_path / "a.wav"), None), ("-", recording.read_bytes()[:60_000])):
        with start_stream("--windows", "--format", form, source) as process:
            out, complaint = process.communicate(content)
        assert process.returncode == 0
        assert complaint.decode() == f"ms-edge: {source}: warning: truncated.\n"
        if form == "jsonl":
            assert json.loads(out.splitlines()[-1])["warnings"] == ["truncated"]


def test_stream_refuses_input_that_is_too_short(recording):
    for content in (recording.read_bytes()[: 44 + 3_000], hostile.plain(hostile.PCM[:7_998])):
        with start_stream("-") as process:
            out, complaint = process.communicate(content)
        assert (process.returncode, out) == (1, b"")
        assert len(complaint.decode().splitlines()) == 1
        assert "at least 0.25 s are needed" in complaint.decode()
    short = [np.zeros(1_000, np.float32)] * 3
    with pytest.raises(AudioError, match="at least") as caught:
        list(Classifier().stream(short, 16_000))
    assert caught.value.code == "too-short"
    assert len(list(Classifier().stream([*short, short[0]], 16_000))) == 1


def test_stream_length_has_no_limit(monkeypatch):
    """libsndfile sees an unlimited stream: more frames than we could ever count."""
    read_end, write_end = os.pipe()
    header = hostile.wav(hostile.FMT, hostile.chunk(b"data", b"", 0xFFFFFFFF), size=0xFFFFFFFF)
    os.write(write_end, header + bytes(3200))
    os.close(write_end)
    monkeypatch.setattr(os, "dup", lambda descriptor: read_end)
    with AudioFile("-") as audio:
        assert audio._sound.frames > 1 << 58
        assert sum(map(len, audio.blocks(16_000))) == 1_600
        assert audio.warnings == ["stream-header"]


def test_first_answer_needs_no_large_block():
    with start_stream("--windows", "--raw", "8000:1:mulaw", "--hop", "0.25", "-") as process:
        process.stdin.write(b"\xff" * 10_000)
        process.stdin.flush()
        began = time.monotonic()
        assert process.stdout.readline().split()[:2] == [b"START", b"END"]
        assert b"silence" in process.stdout.readline()
        assert time.monotonic() - began < 30  # the defect would be a hang, not a delay
        process.stdin.close()
