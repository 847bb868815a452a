"""Formats that FFmpeg reads: by PyAV and by the program, whole, bounded and shielded."""

from __future__ import annotations

import contextlib
import errno
import gc
import importlib.machinery
import importlib.util
import io
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pytest
import soundfile
import soxr

from ms_edge.audio import media
from ms_edge.audio.containers import CONTAINERS
from ms_edge.audio.facts.reader import Facts
from ms_edge.audio.file import open_audio, read_mono
from ms_edge.audio.source import AudioSource
from ms_edge.classifier import Classifier
from ms_edge.cli import main as cli
from ms_edge.errors import AudioError, DeviceError, UsageError
from ms_edge.selftest import doctor

COMMAND = [sys.executable, "-m", "ms_edge.cli"]
DATA = Path(__file__).parents[1] / "data"
SPEECH, MUSIC = DATA / "speech_french_woman.wav", DATA / "music_crossroads_stereo.wav"
VARIANTS = ("pyav", "program")


@pytest.fixture(scope="module")
def classifier():
    return Classifier()


@pytest.fixture(params=VARIANTS)
def variant(request, monkeypatch, tmp_path_factory):
    """Decode with PyAV, or with the program `ffmpeg`: the one that imageio-ffmpeg brings, alone on PATH."""
    if request.param == "program":
        only(monkeypatch, tmp_path_factory.mktemp("bin"), Path(imageio_ffmpeg.get_ffmpeg_exe()))
    return request.param


def only(monkeypatch, folder: Path, program: Path | None) -> None:
    """Let this process find no PyAV, and no `ffmpeg` but this one."""
    monkeypatch.setattr(media, "pyav", lambda: None)
    if program:
        (folder / "ffmpeg").symlink_to(program)
    monkeypatch.setenv("PATH", str(folder))


def encode(
    path: Path,
    encoder: str,
    *sources: Path,
    rate_hz: int | None = None,
    form: str | None = None,
    video: bool = False,
    **options: str,
) -> Path:
    """Write a file with one audio track per source, after a second of video if asked for."""
    with av.open(str(path), "w", format=form) as out:
        pictures = out.add_stream("mpeg4", rate=10) if video else None
        tracks = []
        for source in sources:
            samples, rate = soundfile.read(source, dtype="float32", always_2d=True)
            layout = "stereo" if samples.shape[1] == 2 else "mono"
            track = out.add_stream(encoder, rate=rate_hz or rate, layout=layout, options=options)
            track.bit_rate = 64_000 * samples.shape[1]
            tracks.append((track, samples, rate, layout))
        if pictures:
            pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
            for _ in range(10):
                out.mux(pictures.encode(av.VideoFrame(64, 48, "yuv420p")))
            out.mux(pictures.encode(None))
        for track, samples, rate, layout in tracks:
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), format="fltp", layout=layout)
            frame.sample_rate, frame.pts = rate, 0
            form_of_samples = track.codec_context.codec.audio_formats[0]
            resampler = av.AudioResampler(
                format=form_of_samples, layout=layout, rate=rate_hz or rate, frame_size=track.codec_context.frame_size
            )
            for part in [*resampler.resample(frame), *resampler.resample(None)]:
                out.mux(track.encode(part))
            out.mux(track.encode(None))
    return path


def test_m4a_gets_the_label_of_its_wav(classifier, tmp_path, variant):
    for source in (SPEECH, MUSIC):
        expected = classifier.classify(source)
        found = classifier.classify(encode(tmp_path / f"{source.stem}.m4a", "aac", source))
        assert found.label == expected.label
        assert (found.decoder, found.container, found.codec) == ("ffmpeg", "mp4", "aac")
        assert (found.sample_rate_hz, found.channels) == (expected.sample_rate_hz, expected.channels)
        assert found.duration_s == pytest.approx(expected.duration_s, abs=0.1)
        assert found.warnings == ()


# Container and codec of a file that PyAV writes, the encoder, and its options.
WRITTEN = {
    "a.aac": ("aac", "aac", "aac", {}),
    "a.mp4": ("mp4", "alac", "alac", {}),
    "a.mov": ("mp4", "pcm_s16le", "pcm_s16le", {}),
    "a.mka": ("matroska", "opus", "libopus", {"rate_hz": 48_000}),
    "a.webm": ("matroska", "vorbis", "vorbis", {"form": "webm", "strict": "-2"}),
    "a.mkv": ("matroska", "flac", "flac", {}),
    "a.wma": ("asf", "wmav2", "wmav2", {}),
    "a.ac3": ("ac3", "ac3", "ac3", {"rate_hz": 48_000}),
    "a.eac3": ("eac3", "eac3", "eac3", {"rate_hz": 48_000}),
    "a.wv": ("wavpack", "wavpack", "wavpack", {}),
    "a.tta": ("tta", "tta", "tta", {}),
    "a.avi": ("avi", "mp3", "libmp3lame", {}),
    "a.flv": ("flv", "aac", "aac", {"rate_hz": 44_100}),
    "a.ts": ("mpegts", "aac", "aac", {"rate_hz": 48_000}),
    "a.mpg": ("mpeg", "mp2", "mp2", {"rate_hz": 48_000}),
    "a.3gp": ("mp4", "aac", "aac", {}),
    "a.caf": ("caf", "alac", "alac", {}),
    "a.oga": ("ogg", "flac", "flac", {"form": "ogg"}),
    "a.voc": ("voc", "pcm_s16le", "pcm_s16le", {}),
    "a.rm": ("rm", "ac3", "ac3", {"rate_hz": 48_000}),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_formats_get_the_label_of_their_wav(classifier, tmp_path, variant, name):
    container, codec, encoder, options = WRITTEN[name]
    found = classifier.classify(encode(tmp_path / name, encoder, MUSIC, **options))
    assert found.label == "music"
    assert (found.decoder, found.container, found.codec) == ("ffmpeg", container, codec)
    assert found.warnings == ()
    assert found.duration_s == pytest.approx(soundfile.info(MUSIC).duration, abs=0.1)


@pytest.mark.parametrize("encoder", ["flac", "pcm_s24le"])
def test_lossless_samples_are_those_of_the_wav(tmp_path, variant, encoder):
    expected, rate_hz = soundfile.read(MUSIC, dtype="float32", always_2d=True)
    with media.MediaFile(encode(tmp_path / "a.mkv", encoder, MUSIC)) as file:
        found = np.concatenate([block.copy() for block in file._decoded()])
        assert file.sample_rate_hz == rate_hz
    assert np.abs(found - expected).max() < 1 / 32_000
    assert found.shape == expected.shape


def test_a_change_of_channels_within_a_file_is_followed(classifier, tmp_path, variant):
    stereo = encode(tmp_path / "stereo.aac", "aac", MUSIC).read_bytes()
    mono = encode(tmp_path / "mono.aac", "aac", DATA / "music_zaz.wav", rate_hz=44_100).read_bytes()
    for first, then, channels in ((stereo, mono, 2), (mono, stereo, 1)):
        (tmp_path / "both.aac").write_bytes(first + then + first)
        found = classifier.classify(tmp_path / "both.aac")
        parts = [MUSIC if part is stereo else DATA / "music_zaz.wav" for part in (first, then, first)]
        assert found.duration_s == pytest.approx(sum(soundfile.info(part).duration for part in parts), abs=0.3)
        assert (found.channels, found.label, found.warnings) == (channels, "music", ())


@pytest.mark.parametrize("channels", [1, 3, 8, 13])
def test_any_number_of_channels_is_read(tmp_path, variant, channels):
    samples = np.random.default_rng(0).integers(-9_000, 9_000, (20_000, channels), np.int16)
    path = tmp_path / "a.mov"
    path.write_bytes(quicktime(samples))
    with media.MediaFile(path) as file:
        found = np.concatenate([block.copy() for block in file._decoded()])
    np.testing.assert_array_equal(found, samples / np.float32(32768))


def quicktime(samples: np.ndarray, reference: Path | None = None) -> bytes:
    """Return a MOV file of 16-bit PCM at 16 kHz whose channels have no names.

    It states that the samples are in the file `reference`, if there is one (an `alis` atom).
    """

    def box(name: bytes, *parts: bytes) -> bytes:
        body = b"".join(parts)
        return struct.pack(">I", 8 + len(body)) + name + body

    frames, channels = samples.shape
    data = samples.astype("<i2").tobytes()
    kind = box(b"ftyp", b"qt  \0\0\0\0qt  ")
    entry = box(b"sowt", bytes(6), struct.pack(">HHHIHHHHI", 1, 0, 0, 0, channels, 16, 0, 0, 16_000 << 16))
    table = box(
        b"stbl",
        box(b"stsd", bytes(4), struct.pack(">I", 1), entry),
        box(b"stts", bytes(4), struct.pack(">III", 1, frames, 1)),
        box(b"stsc", bytes(4), struct.pack(">IIII", 1, 1, frames, 1)),
        box(b"stsz", bytes(4), struct.pack(">II", 2 * channels, frames)),
        box(b"stco", bytes(4), struct.pack(">II", 1, len(kind) + 8)),
    )
    where = b""
    if reference:
        path = bytes(reference) + bytes(len(bytes(reference)) % 2)  # of an even length
        alias = bytes(154) + struct.pack(">HH", 2, len(path)) + path + b"\xff\xff\0\0"
        where = box(b"dinf", box(b"dref", bytes(4), struct.pack(">I", 1), box(b"alis", alias)))
    media_header = box(b"mdhd", bytes(12), struct.pack(">IIHH", 16_000, frames, 0, 0))
    handler = box(b"hdlr", bytes(4), b"mhlrsoun", bytes(13))
    track = box(b"trak", box(b"tkhd", bytes(84)), box(b"mdia", media_header, handler, box(b"minf", where, table)))
    movie = box(b"moov", box(b"mvhd", bytes(12), struct.pack(">II", 16_000, frames), bytes(80)), track)
    return kind + box(b"mdat", data) + movie


@pytest.mark.parametrize(("duration", "warnings"), [(1, ()), (2, ("truncated",))])
def test_quicktime_of_more_packets_than_bytes_is_read(tmp_path, variant, duration, warnings):
    path = tmp_path / "a.mov"
    content = bytearray(quicktime(np.zeros((16_000, 1))))
    at = content.index(b"stts") + 16
    content[at : at + 4] = struct.pack(">I", duration)  # FFmpeg reads samples of 1 in pieces of 1,024
    at = content.index(b"stsz") + 12
    content[at : at + 4] = struct.pack(">I", 1_000_000_000)  # the memory for so many is not granted
    path.write_bytes(content)
    found = Classifier().classify(path)
    assert (found.duration_s, found.warnings) == (1.0, warnings)


def test_each_audio_track_of_a_video_can_be_chosen(tmp_path, variant):
    path = encode(tmp_path / "film.mkv", "libopus", MUSIC, SPEECH, video=True, rate_hz=48_000)
    for track, label in ((1, "music"), (2, "speech")):
        found = Classifier(track=track).classify(path)
        assert (found.label, found.settings["track"]) == (label, track)
    with pytest.raises(AudioError, match="has no audio track 3") as caught:
        Classifier(track=3).classify(path)
    assert caught.value.code == "no-track"


def test_a_video_without_sound_has_no_track(classifier, tmp_path, variant):
    with pytest.raises(AudioError, match=r"silent\.mkv: has no audio track\.") as caught:
        classifier.classify(encode(tmp_path / "silent.mkv", "libopus", video=True))
    assert caught.value.code == "no-track"


def test_libsndfile_has_one_track(tmp_path):
    with pytest.raises(AudioError, match="has one audio track") as caught:
        Classifier(track=2).classify(SPEECH)
    assert caught.value.code == "no-track"
    with pytest.raises(UsageError, match="from 1"):
        Classifier(track=0)


@pytest.mark.parametrize("other", [["--raw", "16000:1:s16le"], ["--wav-only"]])
def test_ffmpeg_reads_no_raw_and_no_wav_only(capsys, other):
    for command in ("classify", "stream"):
        assert cli.main([command, "--decoder", "ffmpeg", *other, str(SPEECH)]) == 2
        assert f"{other[0]} is for libsndfile" in capsys.readouterr().err
    with pytest.raises(UsageError, match="raw and wav_only are for libsndfile"):
        open_audio(SPEECH, raw="16000:1:s16le", decoder="ffmpeg")


@pytest.mark.parametrize("channels", [None, "each"])
def test_more_than_the_buffers_hold_is_read_in_order(tmp_path, variant, channels):
    noise = np.random.default_rng(0).integers(-(1 << 15), 1 << 15, (500_000, 2), np.int16)
    path = tmp_path / "a.wav"
    soundfile.write(path, noise, 16_000)
    with open_audio(encode(path.with_suffix(".mka"), "flac", path)) as audio:
        assert audio.decoder == "ffmpeg"
        found = np.concatenate(list(audio.blocks(16_000, channels)), axis=-1)
    expected = noise.T / np.float32(1 << 15)
    assert np.array_equal(found, expected if channels else expected.mean(axis=0))


def run_with_child(code):
    """Run code that can import `pyav_child`, and return its exit status and what it wrote."""
    done = subprocess.run(
        [sys.executable, "-c", f"import os, pyav_child\n{code}"],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(media.__file__).parent)},
        timeout=60,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    "partial",
    [
        "os.writev = lambda descriptor, pieces: os.write(descriptor, b''.join(pieces)[:70_001])",
        "write = os.write; os.write = lambda descriptor, piece: write(descriptor, piece[:70_001]); del os.writev",
    ],
    ids=["writev", "write"],
)
def test_pieces_that_are_written_in_parts_arrive_in_order(partial):
    code = f"{partial}\npyav_child._write([b'a' * 300_000, b'', b'b' * 5, memoryview(b'c' * 400_001)])"
    assert run_with_child(code) == (0, b"a" * 300_000 + b"b" * 5 + b"c" * 400_001)


@pytest.mark.parametrize(("frames", "least"), [(10, 40_000), (400, 1 << 20)])
def test_a_decoder_that_dies_has_written_what_it_decoded(frames, least):
    code = (
        "from types import SimpleNamespace as Of\n"
        "frame = Of(planes=[b'x' * 4000], samples=1000, layout=Of(nb_channels=1))\n"
        f"output = pyav_child._Output(None, 0)\nfor _ in range({frames}): output._write(frame)\nos._exit(9)"
    )
    status, written = run_with_child(code)
    assert (status, len(written) >= least) == (9, True)


def test_a_decoder_that_fails_has_written_what_it_decoded():
    code = (
        "output = pyav_child._Output(None, 0)\noutput._unwritten = [b'x' * 5]\n"
        "output._decode = lambda packets, decoder: 1 / 0\noutput.copy([], None)"
    )
    assert run_with_child(code) == (1, b"x" * 5)


@pytest.mark.parametrize("encoder", ["aac", "flac", "pcm_s24le"])
def test_stereo_is_mixed_the_same_everywhere(tmp_path, variant, encoder):
    path = encode(tmp_path / "a.mkv", encoder, MUSIC)
    with open_audio(path) as file:
        found = np.concatenate(list(file.blocks(file.sample_rate_hz)))
        assert (file.channels, file.frames) == (2, len(found))
    with open_audio(path) as file:
        left, right = np.concatenate(list(file.blocks(file.sample_rate_hz, "each")), axis=1)
    np.testing.assert_array_equal(found, (left + right) / np.float32(2))
    with open_audio(path) as file:
        resampled = np.concatenate(list(file.blocks(11_025)))
        np.testing.assert_array_equal(resampled, soxr.resample(found, file.sample_rate_hz, 11_025, quality="HQ"))


def test_the_decoder_can_be_chosen(tmp_path, variant):
    found = Classifier(decoder="ffmpeg").classify(SPEECH)
    assert (found.decoder, found.container, found.codec, found.label) == ("ffmpeg", "wav", "pcm_s16le", "speech")
    assert found.scores == pytest.approx(Classifier().classify(SPEECH).scores, abs=1e-6)
    with pytest.raises(AudioError, match=r"is MP4 .* libsndfile does not read") as caught:
        Classifier(decoder="libsndfile").classify(encode(tmp_path / "a.m4a", "aac", SPEECH))
    assert caught.value.code == "not-audio"
    with pytest.raises(UsageError, match="auto, libsndfile or ffmpeg"):
        Classifier(decoder="sox")


def test_without_ffmpeg_the_error_says_how(classifier, tmp_path, monkeypatch, capsys):
    path = encode(tmp_path / "a.m4a", "aac", SPEECH)
    only(monkeypatch, tmp_path, None)
    with pytest.raises(AudioError, match=r"is MP4 .*needs FFmpeg; .*\[media\].* ffmpeg\.$") as caught:
        classifier.classify(path)
    assert caught.value.code == "not-audio"
    with pytest.raises(DeviceError) as missing:
        Classifier(decoder="ffmpeg")
    assert missing.value.code == "no-ffmpeg"
    assert cli.main(["classify", "--decoder", "ffmpeg", str(SPEECH)]) == 3
    assert cli.main(["classify", str(tmp_path), str(SPEECH), "--format", "jsonl"]) == 1
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record.get("label") for record in found] == [None, "speech"]


def test_file_objects_and_standard_input_are_read(classifier, tmp_path):
    path = encode(tmp_path / "a.m4a", "aac", SPEECH)
    expected = classifier.classify(path).scores
    with path.open("rb") as file:
        assert classifier.classify(file).scores == expected
    assert classifier.classify(io.BytesIO(path.read_bytes())).scores == expected
    with path.open("rb") as file:
        run = subprocess.run([*COMMAND, "classify", "-", "--format", "jsonl"], stdin=file, capture_output=True)
    assert json.loads(run.stdout)["scores"] == pytest.approx(expected, abs=1e-6)


def test_strange_names_are_read(classifier, tmp_path, variant):
    path = encode(tmp_path / "a.m4a", "aac", SPEECH)
    for name in (b"-i.m4a", b"http:x.m4a", b"100%d.m4a", b"\xff\xfe.m4a", b"no suffix", b"a.mp3"):
        other = os.path.join(os.fsencode(tmp_path), name)
        path.rename(os.fsdecode(other))
        path = Path(os.fsdecode(other))
        assert classifier.classify(path).label == "speech"


def test_playlists_open_no_other_file(classifier, tmp_path, variant):
    encode(tmp_path / "a.m4a", "aac", SPEECH)
    lists = {
        "hls.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\na.m4a\n#EXT-X-ENDLIST\n",
        "concat.txt": "ffconcat version 1.0\nfile a.m4a\n",
        "sdp.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n",
        "dash.mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"></MPD>',
    }
    for text in lists.values():
        for suffix in (".m4a", ".wav", ".ts", ".mkv", ".aac", ".txt"):
            path = tmp_path / f"list{suffix}"
            path.write_text(text)
            with pytest.raises(AudioError) as caught:
                classifier.classify(path)
            assert caught.value.code in ("not-audio", "no-track")


def test_references_of_quicktime_are_not_followed(tmp_path, variant):
    samples = np.random.default_rng(0).integers(-9_000, 9_000, (20_000, 1), np.int16)
    other, path = tmp_path / "other.mov", tmp_path / "a.mov"
    other.write_bytes(quicktime(samples))
    path.write_bytes(quicktime(np.zeros_like(samples), reference=other))
    with av.open(str(path), options={"enable_drefs": "1", "use_absolute_path": "1"}) as file:
        found = np.concatenate([frame.to_ndarray().ravel() for frame in file.decode(audio=0)])
    np.testing.assert_array_equal(found, samples.ravel())  # the reference is a correct one
    with pytest.raises(AudioError) as caught:
        read_mono(path, 16_000)
    assert caught.value.code in ("not-audio", "no-samples")  # PyAV; the program, after it has written a header


def test_channels_of_m4a_are_separate_records(classifier, tmp_path, variant):
    both = [read_mono(path, 16_000)[:48_000] for path in (SPEECH, MUSIC)]
    soundfile.write(tmp_path / "call.wav", np.stack(both, axis=1), 16_000)
    found = classifier.classify_channels(encode(tmp_path / "call.m4a", "aac", tmp_path / "call.wav"))
    assert [(record.channel, record.label, record.warnings) for record in found] == [
        (1, "speech", ()),
        (2, "music", ()),
    ]


@pytest.mark.parametrize("stereo_first", [False, True])
def test_a_change_of_rate_and_channels_is_read(tmp_path, variant, stereo_first):
    samples = np.random.default_rng(1).uniform(-0.1, 0.1, (48_000, 2))
    soundfile.write(tmp_path / "mono.wav", samples[:, :1], 16_000)
    soundfile.write(tmp_path / "stereo.wav", samples, 16_000)
    mono = encode(tmp_path / "mono.aac", "aac", tmp_path / "mono.wav", rate_hz=16_000)
    stereo = encode(tmp_path / "stereo.aac", "aac", tmp_path / "stereo.wav", rate_hz=48_000)
    both = [stereo, mono] if stereo_first else [mono, stereo]
    (tmp_path / "both.aac").write_bytes(b"".join(path.read_bytes() for path in both))
    with open_audio(tmp_path / "both.aac") as file:
        frames = sum(len(block) for block in file.blocks(16_000))
        assert (file.sample_rate_hz, file.channels) == ((48_000, 2) if stereo_first else (16_000, 1))
        assert file.warnings == []
    assert frames / 16_000 == pytest.approx(6, abs=0.4)


def test_another_thread_may_have_opened_the_file(tmp_path, variant):
    path = encode(tmp_path / "a.wv", "wavpack", MUSIC)
    opened: list[AudioSource] = []
    thread = threading.Thread(target=lambda: opened.append(open_audio(path)))
    thread.start()
    thread.join()
    with opened[0] as file:
        assert sum(len(block) for block in file.blocks(16_000)) >= 16_000
        assert file.warnings == []


def test_a_file_that_nobody_closes_ends_its_decoder(tmp_path, variant):
    before = children()
    file = open_audio(encode(tmp_path / "a.wv", "wavpack", MUSIC))
    next(blocks := file.blocks(16_000))
    assert children() - before
    del file, blocks
    gc.collect()
    assert children() <= before


def test_ffmpeg_reads_no_stream(variant):
    class Pipe(io.BytesIO):
        def seek(self, *_: int) -> int:
            raise OSError

    with pytest.raises(AudioError, match="save it as a file, or redirect the file"):
        open_audio(Pipe(SPEECH.read_bytes()), decoder="ffmpeg")


@pytest.mark.parametrize(
    ("code", "why"),
    [("import no_such_module", "No module named"), ("import os; os.kill(os.getpid(), 11)", "exit status -11")],
    ids=["fails", "crashes"],
)
def test_the_program_replaces_a_broken_pyav(classifier, tmp_path, monkeypatch, code, why):
    path, before = encode(tmp_path / "a.m4a", "aac", SPEECH), children()
    (tmp_path / "av").mkdir()
    (tmp_path / "av" / "__init__.py").write_text(code)
    found = importlib.machinery.ModuleSpec("av", None, origin=str(tmp_path / "av" / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)
    monkeypatch.setattr(media, "unusable", {})
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert why in doctor._decoders()[1]
    with pytest.raises(AudioError, match=rf"PyAV cannot be imported: .*{why}.*; install PyAV .* ffmpeg\.$") as caught:
        classifier.classify(path)
    assert caught.value.code == "not-audio"
    (tmp_path / "bin" / "ffmpeg").symlink_to(imageio_ffmpeg.get_ffmpeg_exe())
    assert classifier.classify(path).label == "speech"
    assert children() <= before


def test_a_decoder_that_is_killed_is_started_again(classifier, tmp_path, monkeypatch):
    """By whoever ends processes when memory is short. The next files are decoded by PyAV, too."""
    path, script, folders = encode(tmp_path / "a.m4a", "aac", SPEECH), media._script, []

    def killed_once(folder: str) -> list[str]:
        folders.append(folder)
        killed = [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]
        return script(folder) if len(folders) > 1 else killed

    monkeypatch.setattr(media, "_script", killed_once)
    assert [classifier.classify(path).label for _ in range(2)] == ["speech", "speech"]
    assert (len(folders), media.unusable) == (3, {})


def test_a_pyav_that_hangs_is_named(tmp_path, monkeypatch):
    (tmp_path / "av.py").write_text("import time; time.sleep(60)")
    monkeypatch.setattr(media, "START_S", 0.5)
    assert media.why_unusable(str(tmp_path)) == "its import takes more than 0.5 s"


@pytest.mark.parametrize("standard", [0, 1, 2])
@pytest.mark.skipif(os.name == "nt", reason="FFmpeg opens the file by its name")
def test_standard_streams_may_be_closed(tmp_path, standard):
    """The file then has the descriptor of one of them, and so has a pipe of the decoder."""
    path = encode(tmp_path / "a.m4a", "aac", SPEECH)
    code = (
        "import os, sys\nfrom ms_edge.classifier import Classifier\nclassifier = Classifier()\nclassifier.classify(sys.argv[1])\n"
        f"os.close({standard})\nos._exit(classifier.classify(sys.argv[2]).label != 'speech')"
    )
    subprocess.run([sys.executable, "-c", code, str(SPEECH), str(path)], check=True, timeout=50)


def test_a_disk_error_is_one_of_the_file(classifier, tmp_path, monkeypatch):
    def fails(*_: object) -> Facts:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(media, "facts_of", fails)
    with pytest.raises(AudioError) as caught:
        classifier.classify(encode(tmp_path / "a.m4a", "aac", SPEECH))
    assert caught.value.code == "cannot-read"


def test_no_temporary_folder_is_a_clear_error(classifier, tmp_path, monkeypatch):
    content = encode(tmp_path / "a.m4a", "aac", SPEECH).read_bytes()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(AudioError, match=r"temporary file .*TMPDIR"):
        classifier.classify(io.BytesIO(content))


@pytest.mark.parametrize("name", ["a.m4a", "a.mka", "a.wma", "a.ts", "a.aac", "a.ac3", "a.wv", "a.avi", "a.flv"])
def test_hostile_files_give_errors_or_warnings(classifier, tmp_path, name):
    encoder, options = {"a.m4a": ("mp4", "aac", "aac", {}), **WRITTEN}[name][2:]
    whole = encode(tmp_path / name, encoder, SPEECH, **options).read_bytes()
    random = np.random.default_rng(19)
    cases = {
        "cut": whole[: len(whole) * 2 // 3],
        "start": whole[:40],
        "garbage": whole[:12] + random.bytes(30_000),
        "zeros": whole[: len(whole) // 2] + bytes(len(whole) // 2),
    }
    for case, content in cases.items():
        (tmp_path / name).write_bytes(content)
        try:
            found = classifier.classify(tmp_path / name)
            # Between two packets, a transport stream does not show that it is cut.
            assert found.warnings or case in ("zeros", "garbage") or name == "a.ts", case
        except AudioError as error:
            code = error.code
            assert code in ("not-audio", "no-track", "too-short", "no-samples", "too-long"), case


def script(folder: Path, text: str) -> Path:
    """Return a program that stands for `ffmpeg`."""
    path = folder / "program"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


# For printf(1): the header of WAV with 32-bit floats at 16 kHz.
HEADER = (
    r"RIFF\377\377\377\377WAVEfmt \020\0\0\0\003\0\001\0\200\076\0\0\0\372\0\0\004\0\040\0"
    r"data\377\377\377\377"
)
SAMPLES = "/usr/bin/head -c 128000 /dev/zero"  # 2 s
FAKES = {
    "hangs": ("exec /bin/sleep 1000", "too-long"),
    "hangs in a process of its own": ("/bin/sleep 1000; /bin/true", "too-long"),
    "hangs after a while": (f"printf '{HEADER}'; {SAMPLES}; exec /bin/sleep 1000", "too-long"),
    "never ends": (f"printf '{HEADER}'; exec /bin/cat /dev/zero", "too-long"),
    "fails": ("echo '[error] it is broken' >&2; exit 1", "not-audio"),
    "writes no audio": ("exec /bin/head -c 100000 /dev/urandom", "not-audio"),
    "writes half a header": ("printf data1234", "not-audio"),
    "has a rate of 0": (f"printf '{HEADER.replace('200', '000').replace('076', '000')}'; {SAMPLES}", "bad-rate"),
    "dies": (f"printf '{HEADER}'; {SAMPLES}; kill -SEGV $$", ("truncated",)),
    "complains": (f"printf '{HEADER}'; {SAMPLES}; echo '[error] Error while decoding' >&2", ("damaged",)),
    "complains endlessly": (
        f"printf '{HEADER}'; {SAMPLES}; /usr/bin/yes '[info] nothing' | /usr/bin/head -n 20000 >&2",
        (),
    ),
}


@pytest.mark.parametrize("name", FAKES)
def test_a_broken_decoder_harms_one_record(classifier, tmp_path, monkeypatch, name):
    text, expected = FAKES[name]
    before = children()
    path = tmp_path / "a.m4a"
    path.write_bytes(b"\0\0\0\x20ftypM4A " + bytes(2000))
    (tmp_path / "bin").mkdir()
    only(monkeypatch, tmp_path / "bin", script(tmp_path, text))
    monkeypatch.setattr(media, "START_S", 1.0)
    monkeypatch.setattr(media, "WATCH_S", 0.1)
    monkeypatch.setattr(media, "facts_of", lambda *_: Facts())
    if isinstance(expected, tuple):
        assert classifier.classify(path).warnings == expected
    else:
        with pytest.raises(AudioError) as caught:
            classifier.classify(path)
        assert caught.value.code == expected
    assert children() <= before


def children() -> set[str]:
    """Return the process numbers of this process's children, of ended ones too."""
    # Other tests' children may live: multiprocessing keeps its resource tracker to the end.
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended since
            parents[stat.parent.name] = stat.read_text().rpartition(")")[2].split()[1]
    assert parents  # a system without /proc needs another way
    return {child for child, parent in parents.items() if parent == str(os.getpid())}


@pytest.mark.parametrize("more", [[], [SPEECH]], ids=["one file", "two files"])
def test_one_process_has_a_budget_for_each_file(tmp_path, monkeypatch, capsys, more):
    path = encode(tmp_path / "a.m4a", "aac", SPEECH)
    (tmp_path / "bin").mkdir()
    only(monkeypatch, tmp_path / "bin", script(tmp_path, FAKES["hangs after a while"][0]))
    monkeypatch.setattr(media, "START_S", 1.0)
    monkeypatch.setattr(media, "WATCH_S", 0.1)
    assert cli.main(["classify", "-j", "1", "--format", "jsonl", str(path), *map(str, more)]) == 1
    first, *others = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["error"]["code"] == "too-long"
    assert [record["label"] for record in others] == ["speech"] * len(more)


def test_parallel_runs_keep_the_order(tmp_path, capsys):
    paths = []
    for number in range(6):
        path = tmp_path / f"{number}.m4a"
        if number == 3:
            path.write_bytes(b"\0\0\0\x20ftypM4A " + bytes(500))
        else:
            encode(path, "aac", SPEECH if number % 2 else MUSIC)
        paths.append(str(path))
    run = subprocess.run([*COMMAND, "classify", "-j", "2", "--format", "jsonl", *paths], capture_output=True, text=True)
    found = [json.loads(line) for line in run.stdout.splitlines()]
    assert run.returncode == 1
    assert [record["path"] for record in found] == paths
    labels = [record.get("label") or record["error"]["code"] for record in found]
    assert labels == ["music", "speech", "music", "not-audio", "music", "speech"]


SLEEPER = "echo $$ > {pids}; printf '" + HEADER + "'; " + SAMPLES + "; exec /bin/sleep 1000"


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize("signals", [[signal.SIGINT] * 2, [signal.SIGKILL]], ids=["interrupted", "killed"])
def test_an_ended_run_leaves_nothing_running(tmp_path, jobs, signals):
    path = encode(tmp_path / "a.m4a", "aac", SPEECH)
    pids = tmp_path / "pid"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ffmpeg").symlink_to(script(tmp_path, SLEEPER.format(pids=pids)))
    code = "from ms_edge.audio import media; media.pyav = lambda: None; from ms_edge.cli.main import command; command()"
    run = subprocess.Popen(
        [sys.executable, "-c", code, "classify", "-j", jobs, str(path), str(path)],
        # `command()` sets the second variable itself, but here NumPy is imported before.
        env={**os.environ, "PATH": str(tmp_path / "bin"), "OPENBLAS_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_until(lambda: pids.exists() and pids.read_text().strip() != "")
    for number in signals:
        run.send_signal(number)
        time.sleep(0.3)
    assert run.wait(30) in (130, -signals[0])
    wait_until(lambda: not Path(f"/proc/{pids.read_text().strip()}").exists())


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(300):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("waited for 30 s")


def test_resume_depends_on_the_decoder(tmp_path, capsys):
    path, out = encode(tmp_path / "a.m4a", "aac", SPEECH), tmp_path / "out.jsonl"
    command = ["classify", str(path), "-o", str(out), "--resume"]
    assert cli.main(command) == 0
    first = out.read_bytes()
    assert cli.main(command) == 0
    assert out.read_bytes() == first
    assert cli.main([*command, "--decoder", "ffmpeg"]) == 0
    assert json.loads(out.read_text())["settings"]["decoder"] == "ffmpeg"


def test_doctor_names_the_decoders(tmp_path, monkeypatch):
    assert "FFmpeg (PyAV " in doctor.examine().text()
    program = script(tmp_path, "exit 1")
    (tmp_path / "with").mkdir()
    only(monkeypatch, tmp_path / "with", program)
    assert f"FFmpeg ({tmp_path / 'with' / 'ffmpeg'})" in doctor.examine().text()
    only(monkeypatch, tmp_path, None)
    assert doctor.examine().decoders[1].startswith("no FFmpeg: for M4A")


def test_stream_reads_media_files(tmp_path, variant, capsys):
    path = encode(tmp_path / "a.m4a", "aac", SPEECH)
    assert cli.main(["stream", "--windows", "--format", "jsonl", "--hop", "1", str(path)]) == 0
    labels = [json.loads(line)["label"] for line in capsys.readouterr().out.splitlines()]
    assert len(labels) in (6, 7)
    assert labels.count("speech") >= 4


def test_every_format_names_its_demuxer(tmp_path):
    """Each program knows the formats of the list, and none of them opens other files."""
    demuxers = {one.demuxer for one in CONTAINERS}
    assert demuxers <= {name for form in av.formats_available for name in form.split(",")}
    listed = subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "quiet", "-demuxers"], capture_output=True, text=True
    )
    assert demuxers <= {
        name for line in listed.stdout.splitlines() for name in line.split()[1:2] for name in name.split(",")
    }
    assert not demuxers & {"hls", "concat", "dash", "sdp", "rtsp", "image2", "applehttp", "lavfi", "mpegtsraw"}
