"""`ms-edge monitor` with real sources: servers on this machine that send real audio and fail in every way.

Debian's Icecast is in tests/live.
"""

from __future__ import annotations

import http.server
import json
import math
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from ms_edge.audio.raw import RAW_FORMATS, RawFormat
from ms_edge.audio.source import as_float32
from ms_edge.errors import DeviceError, MsEdgeError
from ms_edge.live import sources
from ms_edge.live.sources import Connection, _Messages, decoder_of, hidden, parsed

pytestmark = pytest.mark.skipif(os.name != "posix", reason="ms-edge monitor needs pipes that poll() knows")
PROGRAM = [sys.executable, "-m", "ms_edge.cli"]
DATA = Path(__file__).parent.parent / "data"
RATE = 16_000


def programme(seconds: float) -> np.ndarray:
    """Return real speech and music in turn, six seconds each."""
    names = ("speech_italian_man", "music_zaz", "speech_ukrainian_words", "music_palace")
    parts = [soundfile.read(DATA / f"{name}.wav", dtype="float32")[0][: 6 * RATE] for name in names]
    assert all(len(part) == 6 * RATE for part in parts)
    return np.resize(np.concatenate(parts), round(seconds * RATE))


@pytest.fixture(scope="module")
def mp3(tmp_path_factory) -> bytes:
    """A minute of it as MP3 with a constant bit rate, so that bytes tell the time."""
    path = tmp_path_factory.mktemp("mp3") / "minute.mp3"
    with av.open(str(path), "w", options={"write_xing": "0", "id3v2_version": "0"}) as container:
        stream = container.add_stream("libmp3lame", rate=RATE, layout="mono")
        stream.bit_rate = 64_000
        frame = av.AudioFrame.from_ndarray(programme(60)[np.newaxis], format="fltp", layout="mono")
        frame.sample_rate = RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return path.read_bytes()


BYTES_S = 8000  # of that MP3


class Server(http.server.ThreadingHTTPServer):
    """A server whose answer to each request is a function of the test."""

    daemon_threads = True

    def __init__(self, answer: Callable[[Handler], None]) -> None:
        self.answer, self.requests, self.open = answer, [], True
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address):
        """Clients that go away are part of the tests."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        self.server.requests.append((self.path, dict(self.headers)))
        self.server.answer(self)

    def log_message(self, *_):
        pass

    def begin(self, **headers):
        """Answer as radio does: without a length."""
        self.send_response(200)
        for name, value in {"content_type": "audio/mpeg", **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def play(self, data: bytes, start_s: float, seconds: float, speed: float = 1.0):
        """Send audio in real time."""
        began = time.monotonic()
        at = int(start_s * BYTES_S)
        while (gone := time.monotonic() - began) < seconds and self.server.open:
            to = int((start_s + gone * speed) * BYTES_S)
            self.wfile.write(data[at:to])
            at = to
            time.sleep(0.05)


@pytest.fixture
def serve():
    servers = []

    def start(answer) -> Server:
        servers.append(Server(answer))
        threading.Thread(target=servers[-1].serve_forever, args=(0.05,), daemon=True).start()
        return servers[-1]

    yield start
    for server in servers:
        server.open = False
        server.shutdown()
        server.server_close()


def monitored(*arguments: str, timeout: float = 300, **options) -> tuple[int, list[dict], str]:
    """Run `ms-edge monitor`, and return its exit status, events and log."""
    done = subprocess.run(
        [*PROGRAM, "monitor", "--format", "jsonl", *arguments],
        capture_output=True,
        timeout=timeout,
        check=False,
        **{"stdin": subprocess.DEVNULL, **options},
    )
    events = [json.loads(line) for line in done.stdout.splitlines()]
    return done.returncode, events, done.stderr.decode()


def kinds(events: list[dict]) -> list[str]:
    """Return what happened to the connection."""
    return [event["event"] for event in events if "label" not in event]


@pytest.mark.native
@pytest.mark.slow
def test_server_that_closes_is_asked_again(serve, mp3):
    began = time.monotonic()

    def answer(request):
        request.begin()
        if len(request.server.requests) == 1:
            request.play(mp3, 0, 3)
        else:  # some seconds later: the audio in between is lost
            time.sleep(2)
            request.play(mp3, time.monotonic() - began, 6)
            request.server.socket.close()  # from now on, connections are refused

    server = serve(answer)
    status, events, log = monitored(server.url + "/live", "--give-up", "14s")
    assert status == 5
    assert kinds(events)[:3] == ["connected", "lost", "reconnected"]
    lost_s = events[[event["event"] for event in events].index("reconnected")]["lost_s"]
    assert 2 < lost_s < 14
    assert kinds(events)[-1] == "end"
    assert re.search(r"lost: the connection was closed\.\n.*reconnected, \d+\.\d{3} s lost\.\n", log)
    assert server.requests[0][1]["User-Agent"].startswith("ms-edge/")


@pytest.mark.slow
@pytest.mark.native
def test_silent_server_is_left_after_a_stall(serve, mp3):
    def answer(request):
        request.begin()
        request.wfile.write(mp3[: 2 * BYTES_S])
        while request.server.open:  # the connection stays
            time.sleep(0.05)

    server = serve(answer)
    status, events, _ = monitored(server.url, "--stall", "2s", "--give-up", "7s")
    assert status == 4
    assert kinds(events)[:2] == ["connected", "stall"]
    assert kinds(events)[-1] == "end"
    assert len(server.requests) >= 2


@pytest.mark.native
def test_garbage_is_refused_and_asked_again(serve, mp3):
    def answer(request):
        if len(request.server.requests) < 3:
            request.begin()
            request.wfile.write(b"<html>" + os.urandom(1 << 16).replace(b"\xff", b" "))
        else:
            request.begin(content_length=6 * BYTES_S)
            request.wfile.write(mp3[: 6 * BYTES_S])

    status, events, log = monitored(serve(answer).url)
    assert status == 0
    assert kinds(events) == ["connected", "end"]
    assert log.count("not connected: ") == 2


@pytest.mark.native
def test_redirected_recording_is_read_to_its_end(serve, mp3):
    def answer(request):
        if request.path == "/old":
            request.send_response(302)
            request.send_header("Location", "/new")
            request.end_headers()
        else:
            request.begin(content_length=len(mp3))
            request.wfile.write(mp3)

    status, events, _ = monitored(serve(answer).url + "/old")
    assert status == 0
    assert kinds(events) == ["connected", "end"]
    assert events[-1]["time_s"] == pytest.approx(60, abs=0.2)
    assert {event["label"] for event in events if "label" in event} >= {"speech", "music"}


@pytest.mark.native
def test_recording_cut_by_the_network_is_an_error(serve, mp3):
    def answer(request):
        request.begin(content_length=len(mp3))
        request.wfile.write(mp3[: 20 * BYTES_S])

    status, events, _ = monitored(serve(answer).url + "/file.mp3")
    assert status == 5
    assert kinds(events) == ["connected", "end"]
    assert events[-1]["message"].startswith("the recording is incomplete")


@pytest.mark.native
@pytest.mark.slow
def test_passwords_are_never_printed(serve, mp3):
    def answer(request):
        if "Authorization" in request.headers and len(request.server.requests) > 4:
            request.begin(content_length=6 * BYTES_S)
            request.wfile.write(mp3[: 6 * BYTES_S])
            return
        request.send_response(401)
        request.send_header("WWW-Authenticate", 'Basic realm="radio"')
        request.end_headers()

    server = serve(answer)
    address = server.url.replace("//", "//me:gehe%2Fim@") + "/x?token=abcde&q=7"
    status, events, log = monitored("-v", address)
    assert status == 0
    assert events[0]["source"] == server.url.replace("//", "//me:***@") + "/x?token=***&q=7"
    printed = json.dumps(events) + log
    assert "401" in log
    assert not any(secret in printed for secret in ("gehe", "abcde"))
    assert server.requests[-1][1]["Authorization"].startswith("Basic ")


@pytest.mark.native
@pytest.mark.slow
def test_one_source_that_fails_ends_no_other(serve, mp3):
    def answer(request):
        if request.path == "/gone":
            request.send_error(404)
            return
        request.begin(content_length=len(mp3))
        request.play(mp3, 0, 8)
        request.wfile.write(mp3[8 * BYTES_S :])

    server = serve(answer)
    status, events, log = monitored(server.url + "/gone", server.url + "/live", "--give-up", "5s")
    by_source = {name: [e for e in events if e["source"].endswith(name)] for name in ("/gone", "/live")}
    assert kinds(by_source["/gone"]) == ["end"]
    assert kinds(by_source["/live"]) == ["connected", "end"]
    assert by_source["/live"][-1]["time_s"] > 50
    assert "Server returned 404 Not Found" in log
    assert status == 5


@pytest.mark.native
@pytest.mark.parametrize("name", [pytest.param("SIGINT", marks=pytest.mark.slow), "SIGTERM"])
def test_signal_ends_the_monitor_cleanly(serve, mp3, name):
    def answer(request):
        request.begin()
        request.play(mp3, 0, 60)

    command = [*PROGRAM, "monitor", "--format", "jsonl", serve(answer).url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        first = process.stdout.readline()
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        decoders = children.read_text().split() if children.exists() else []
        time.sleep(2)
        process.send_signal(getattr(signal, name))
        rest, _ = process.communicate(timeout=20)
    events = [json.loads(line) for line in (first + rest).splitlines()]
    assert process.returncode == 130
    assert kinds(events) == ["connected", "end"]
    assert events[-2]["event"] == "segment_end"
    assert events[-2]["end_s"] == pytest.approx(events[-1]["time_s"], abs=0.002)
    assert not any(Path(f"/proc/{decoder}").exists() for decoder in decoders)


def encoded(file: str, samples: np.ndarray, speed: float | None = None, **options) -> None:
    """Write samples as AAC with PyAV, in real time if `speed` is 1."""
    with av.open(file, "w", **options) as container:
        stream = container.add_stream("aac", rate=RATE, layout="mono")
        began = time.monotonic()
        for start in range(0, len(samples), 1024):
            frame = av.AudioFrame.from_ndarray(samples[np.newaxis, start : start + 1024], "fltp", "mono")
            frame.sample_rate, frame.pts = RATE, start
            container.mux(stream.encode(frame))
            if speed:
                time.sleep(max(0.0, began + start / RATE / speed - time.monotonic()))
        container.mux(stream.encode(None))


@pytest.mark.native
@pytest.mark.slow
def test_packets_lost_by_a_network_are_counted():
    with socket.socket(type=socket.SOCK_DGRAM) as network, socket.socket(type=socket.SOCK_DGRAM) as free:
        network.bind(("127.0.0.1", 0))
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        options = {"file": f"udp://127.0.0.1:{network.getsockname()[1]}?pkt_size=1316", "format": "mpegts"}
        threading.Thread(
            target=encoded, args=[options.pop("file"), programme(200), 1], kwargs=options, daemon=True
        ).start()
        works, ended = threading.Event(), threading.Event()
        works.set()

        def forward():
            while not ended.is_set():
                packet = network.recv(2048)
                if works.is_set():
                    network.sendto(packet, ("127.0.0.1", port))

        forwarder = threading.Thread(target=forward)
        forwarder.start()
        try:
            command = [*PROGRAM, "monitor", "--format", "jsonl", f"udp://127.0.0.1:{port}", "--stall", "5s"]
            with subprocess.Popen([*command, "--give-up", "12s"], stdout=subprocess.PIPE) as process:
                printed = [process.stdout.readline()]
                works.clear()
                time.sleep(2)
                works.set()
                while b'"gap"' not in printed[-1]:
                    printed.append(process.stdout.readline())
                works.clear()
                printed += process.communicate(timeout=60)[0].splitlines()
        finally:
            ended.set()
            forwarder.join()
    events = [json.loads(line) for line in printed]
    assert kinds(events) == ["connected", "gap", "stall", "end"]
    gap = next(event for event in events if event["event"] == "gap")
    assert gap["lost_s"] == pytest.approx(2, abs=0.5)
    assert process.returncode == 4


@pytest.mark.native
@pytest.mark.slow
def test_live_playlist_is_followed_to_its_end(serve, tmp_path):
    playlist = tmp_path / "all.m3u8"
    encoded(str(playlist), programme(20), format="hls", options={"hls_time": "2", "hls_list_size": "0"})
    head, *segments = re.split(r"(?=#EXTINF)", playlist.read_text().replace("#EXT-X-ENDLIST\n", ""))
    began: list[float] = []

    def answer(request):
        name = request.path.lstrip("/")
        if name != "live.m3u8":
            data = (tmp_path / name).read_bytes()
        else:  # three segments are on offer, a new one every two seconds
            began.append(time.monotonic())
            newest = 3 + int((time.monotonic() - began[0]) / 2)
            first = max(0, newest - 3)
            text = head.replace("SEQUENCE:0", f"SEQUENCE:{first}") + "".join(segments[first:newest])
            data = (text + ("#EXT-X-ENDLIST\n" if newest >= 7 else "")).encode()
        request.begin(content_length=len(data), content_type="application/vnd.apple.mpegurl")
        request.wfile.write(data)

    status, events, log = monitored(serve(answer).url + "/live.m3u8", "--stall", "5s", "--give-up", "20s")
    assert kinds(events) == ["connected", "lost", "end"]
    assert "the broadcast has ended" in events[-1]["message"]
    assert 12 < events[-1]["time_s"] < 16  # and nothing of it twice
    assert status == 0, log


def test_raw_samples_come_from_standard_input():
    samples = (programme(12) * 32767).astype("<i2")
    status, events, _ = monitored("-", "--raw", "16000:1:s16le", stdin=None, input=samples.tobytes())
    assert status == 0
    assert [(e["label"], round(e["end_s"])) for e in events if e["event"] == "segment_end"] == [
        ("speech", 6),
        ("music", 12),
    ]


@pytest.mark.parametrize(("subtype", "endless"), [("PCM_16", True), ("PCM_24", True), ("ULAW", True), ("FLOAT", False)])
def test_wav_comes_from_standard_input(tmp_path, subtype, endless):
    soundfile.write(tmp_path / "a.wav", programme(6), RATE, subtype=subtype)
    data = bytearray((tmp_path / "a.wav").read_bytes())
    if endless:
        at = data.index(b"data") + 4
        data[at : at + 4] = data[4:8] = b"\xff" * 4  # as programs write it to a pipe
    status, events, log = monitored("-", stdin=None, input=bytes(data))
    assert status == 0, log
    assert events[-1]["time_s"] == 6


@pytest.mark.parametrize(
    ("data", "status", "message"),
    [
        (b"", 1, "it ended before its first sample"),
        (b"OggS" + bytes(100), 1, "the stream is not WAV"),
        (b"RIFF", 1, "it ended before its first sample"),
    ],
)
def test_standard_input_that_is_no_audio_fails(data, status, message):
    found, events, _ = monitored("-", stdin=None, input=data)
    assert (found, kinds(events)) == (status, ["end"])
    assert events[0]["message"].startswith(message)


def test_sound_card_is_recorded_by_arecord(tmp_path, monkeypatch):
    (programme(6) * 32767).astype("<i2").tofile(tmp_path / "card.raw")
    program = tmp_path / "arecord"  # stands for the one of alsa-utils, which needs a sound card
    program.write_text(
        f'#!/bin/sh\necho "$@" > {tmp_path}/given\ncat {tmp_path}/card.raw\necho unplugged >&2\nexit 1\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    status, events, log = monitored("alsa:hw:1", "--raw", "16000:1:s16le", "--give-up", "2s")
    assert (tmp_path / "given").read_text().split() == [
        "-q",
        "-t",
        "raw",
        "-D",
        "hw:1",
        "-f",
        "S16_LE",
        "-r",
        "16000",
        "-c",
        "1",
    ]
    assert kinds(events)[:2] == ["connected", "lost"]
    assert events[-1]["source"] == "alsa:hw:1"
    assert "lost: unplugged" in log
    assert status == 5


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can enlarge pipes")
def test_pipes_hold_a_megabyte_of_audio():
    read_end, write_end = os.pipe()
    try:
        connection = Connection(parsed("-"), read_end, None, _Messages("-"))
        assert connection.pipe_s == math.inf
        os.write(write_end, struct.pack("<cQcQ", b"R", 48_000, b"C", 2))
        assert connection.read() == []
        assert connection.pipe_s == 2**20 / (48_000 * 2 * 4)
        os.set_blocking(write_end, False)
        assert os.write(write_end, bytes(1 << 20)) == 1 << 20
    finally:
        os.close(read_end)
        os.close(write_end)


@pytest.mark.parametrize("name", RAW_FORMATS)
def test_sample_formats_are_decoded_as_libsndfile_does(tmp_path, name):
    subtype, endian = RAW_FORMATS[name]
    path = tmp_path / "a.raw"
    samples = np.stack([programme(0.5), -programme(0.5)], axis=1)
    soundfile.write(path, samples, RATE, format="RAW", subtype=subtype, endian=endian)
    expected = soundfile.read(
        path, dtype="float32", format="RAW", samplerate=RATE, channels=2, subtype=subtype, endian=endian
    )[0]
    np.testing.assert_array_equal(as_float32(decoder_of(RawFormat(RATE, 2, name))(path.read_bytes())), expected)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://admin:a:b@cam/1", "rtsp://admin:***@cam/1"),
        ("http://radio/a@b:8000/x", "http://radio/a@b:8000/x"),
        (
            "https://h/x.m3u8?Policy=1&Signature=qrs&Key-Pair-Id=K",
            "https://h/x.m3u8?Policy=1&Signature=***&Key-Pair-Id=***",
        ),
        ("srt://h:9000?passphrase=hello123&latency=20", "srt://h:9000?passphrase=***&latency=20"),
    ],
)
def test_secrets_of_addresses_are_hidden(text, shown):
    assert hidden(text) == shown


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("alsa:", "lacks the name of a device"),
        ("no-such-file.mp3", "a source is -, alsa:DEVICE"),
        (".", "is a directory"),
        ("http://", "names no host"),
        ("http://me:secret@[::1/live", r"^http://me:\*\*\*@\[::1/live: is no valid URL"),
    ],
)
def test_sources_that_cannot_be_are_refused(text, message):
    with pytest.raises(MsEdgeError, match=message):
        parsed(text)


def test_missing_programs_are_named(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(DeviceError, match="arecord is not installed") as recorder:
        parsed("alsa:default")
    monkeypatch.setattr(sources, "pyav", lambda: None)
    with pytest.raises(DeviceError, match="needs PyAV") as library:
        parsed("http://me:secret@radio/live")
    assert (recorder.value.code, library.value.code) == ("no-recorder", "no-ffmpeg")
    assert "secret" not in library.value.message


def test_closed_standard_input_is_one_sentence():
    closed = ["sh", "-c", 'exec "$@" <&-', "sh", *PROGRAM, "monitor", "-"]
    done = subprocess.run(closed, capture_output=True, timeout=300, check=False)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"ms-edge: -: standard input is closed.\n"


@pytest.mark.native
@pytest.mark.skipif(sys.platform == "darwin", reason="its file names are UTF-8")
def test_file_name_need_not_be_utf_8(tmp_path):
    path, metrics = tmp_path / "a\udcff.wav", tmp_path / "m.prom"
    soundfile.write(os.fsencode(path), programme(2), RATE, format="WAV")
    status, events, log = monitored(str(path), "--metrics", str(metrics))
    assert status == 0, log
    assert {event["source"] for event in events} == {f"{tmp_path}/a\\udcff.wav"}
    assert r"a\\udcff.wav" in metrics.read_text(encoding="utf-8")
