"""Draw `docs/programme.svg`, the picture in the README: a programme and the timeline that ms-edge gives it.

The programme is spliced of the sample recordings in `tests/data` and of pink noise, so the true
labels are known. `docs/refresh.py` draws it; `tests/test_docs.py` checks that it is current.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import soundfile
import soxr

import ms_edge
from ms_edge import Segment
from ms_edge.arrays import Float32
from ms_train.signals import noise

RATE_HZ = 16_000
SAMPLES = Path(__file__).parent.parent / "tests" / "data"
PICTURE = Path(__file__).parent / "programme.svg"
MUSIC_UNDER_SPEECH_DB = -10
NOISE_RMS = 0.05
COLOURS = {
    "speech": "#2a78d6",
    "music": "#e08a1e",
    "speech+music": "#7b4fc9",
    "other": "#7a8288",
    "silence": "#c9ced2",
}
LEFT, WIDTH, RIGHT = 64, 820, 16  # px: labels of the rows, the time axis, the margin
ROWS = {"true": (16, 20), "ms-edge": (44, 20), "samples": (76, 60), "scores": (148, 60)}  # y, height in px
HEIGHT = 246


def programme() -> tuple[Float32, list[tuple[float, float, str]]]:
    """Return the samples of the programme, mono at RATE_HZ, and its true segments (start_s, end_s, label)."""
    parts = [
        ("speech", np.concatenate([_sample("speech_dutch_game_1"), _sample("speech_italian_man")])),
        ("music", _sample("music_zaz")),
        ("speech+music", _mixed("speech_french_woman", "music_palace")),
        ("other", _pink_noise(4.0)),
        ("silence", np.zeros(3 * RATE_HZ, np.float32)),
        ("music", _sample("music_lucky13")),
        ("speech", _sample("speech_russian_woman")),
    ]
    ends = np.cumsum([len(samples) for _, samples in parts]) / RATE_HZ
    starts = [0.0, *ends[:-1]]
    truth = [(float(start), float(end), part[0]) for start, end, part in zip(starts, ends, parts, strict=True)]
    return np.concatenate([samples for _, samples in parts]), truth


def labels(segments: Sequence[Segment]) -> str:
    """Return the timeline as text, which the picture carries for readers of the screen and for the test."""
    return "; ".join(f"{each.start_s:.1f} to {each.end_s:.1f} s {each.label}" for each in segments)


def drawn() -> str:
    """Return the picture as SVG."""
    samples, truth = programme()
    classifier = ms_edge.Classifier(device="cpu")
    segments = classifier.classify(samples, RATE_HZ).segments
    windows = list(classifier.stream(iter([samples]), RATE_HZ))
    scale = WIDTH / truth[-1][1]  # px a second
    found = [(each.start_s, each.end_s, each.label) for each in segments]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + RIGHT} {HEIGHT}" '
        'font-family="sans-serif" font-size="11" fill="#333">',
        f"<desc>{labels(segments)}</desc>",
        '<rect width="100%" height="100%" fill="#fff"/>',
        *(f'<text x="8" y="{y + height / 2 + 4:g}">{name}</text>' for name, (y, height) in ROWS.items()),
        *_bars(truth, scale, ROWS["true"]),
        *_bars(found, scale, ROWS["ms-edge"]),
        _waveform(samples, ROWS["samples"]),
        *_scores(windows, scale, ROWS["scores"]),
        *_axis(truth[-1][1], scale),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _sample(name: str) -> Float32:
    samples, rate_hz = soundfile.read(SAMPLES / f"{name}.wav", dtype="float32", always_2d=True)
    resampled: Float32 = soxr.resample(samples.mean(axis=1), rate_hz, RATE_HZ)
    return resampled


def _mixed(speech: str, music: str) -> Float32:
    voice, under = _sample(speech), _sample(music)
    under = under * (np.std(voice) / np.std(under)) * np.float32(10 ** (MUSIC_UNDER_SPEECH_DB / 20))
    mixed = voice + under[: len(voice)]
    scaled: Float32 = mixed / np.abs(mixed).max() * np.float32(0.9)
    return scaled


def _pink_noise(seconds: float) -> Float32:
    return noise("pink", round(seconds * RATE_HZ), np.random.default_rng(0)) * np.float32(NOISE_RMS)


def _bars(segments: Iterable[tuple[float, float, str]], scale: float, row: tuple[int, int]) -> list[str]:
    y, height = row
    parts = []
    for start, end, label in segments:
        x, width = LEFT + start * scale, (end - start) * scale
        parts.append(f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{height}" fill="{COLOURS[label]}"/>')
        if width > 6.4 * len(label):
            colour = "#333" if label == "silence" else "#fff"
            middle = f'x="{x + width / 2:.1f}" y="{y + height / 2 + 4:g}"'
            parts.append(f'<text {middle} fill="{colour}" text-anchor="middle">{label}</text>')
    return parts


def _waveform(samples: Float32, row: tuple[int, int]) -> str:
    """Draw the largest magnitude of each pixel, up and down from the middle of the row."""
    y, height = row
    edges = np.linspace(0, len(samples), WIDTH // 2 + 1).astype(int)
    peaks = [float(np.abs(samples[start:end]).max()) for start, end in pairwise(edges)]
    upper = [f"{LEFT + 2 * index},{y + height / 2 * (1 - peak):.1f}" for index, peak in enumerate(peaks)]
    lower = [f"{LEFT + 2 * index},{y + height / 2 * (1 + peak):.1f}" for index, peak in enumerate(peaks)]
    return f'<polygon points="{" ".join(upper + lower[::-1])}" fill="#9aa4ac"/>'


def _scores(windows: Sequence[Segment], scale: float, row: tuple[int, int]) -> list[str]:
    """Draw the probability of each label over the middles of the windows."""
    y, height = row
    parts = [f'<rect x="{LEFT}" y="{y}" width="{WIDTH}" height="{height}" fill="#f4f5f6"/>']
    for label in windows[0].scores:
        points = [
            f"{LEFT + (each.start_s + each.end_s) / 2 * scale:.1f},{y + height * (1 - each.scores[label]):.1f}"
            for each in windows
        ]
        parts.append(
            f'<polyline points="{" ".join(points)}" fill="none" stroke="{COLOURS[label]}" stroke-width="1.5"/>'
        )
    return parts


def _axis(seconds: float, scale: float) -> list[str]:
    y = HEIGHT - 22
    marks = [
        f'<text x="{LEFT + at * scale:.1f}" y="{y}" text-anchor="middle">{at} s</text>'
        for at in range(0, int(seconds) + 1, 5)
    ]
    keys = [f'<tspan fill="{COLOURS[label]}">&#9632;</tspan> probability of {label}' for label in ("speech", "music")]
    return [*marks, f'<text x="{LEFT}" y="{y + 16}">{" &#160; ".join(keys)}</text>']
