"""Formats that FFmpeg reads: by PyAV and by the program, whole, bounded and shielded."""

from __future__ import annotations

from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pytest
import soundfile

from ms_edge.audio import media
from ms_edge.classifier import Classifier

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


def encode(path: Path, codec: str, *sources: Path, rate_hz: int | None = None, form: str | None = None, **options: str):
    """Write a file with one audio track per source."""
    with av.open(str(path), "w", format=form) as out:
        tracks = []
        for source in sources:
            samples, rate = soundfile.read(source, dtype="float32", always_2d=True)
            layout = "stereo" if samples.shape[1] == 2 else "mono"
            track = out.add_stream(codec, rate=rate_hz or rate, layout=layout)
            track.options = options
            tracks.append((track, samples, rate, layout))
        for track, samples, rate, layout in tracks:
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), format="fltp", layout=layout)
            frame.sample_rate, frame.pts = rate, 0
            resampler = av.AudioResampler(
                format=track.codec_context.codec.audio_formats[0], layout=layout, rate=rate_hz or rate
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
