"""The names in the tables and plots of benchmarks.speed."""

from __future__ import annotations

from typing import Any

FILES = {
    "10s": "10 s, 16 kHz mono WAV",
    "10min": "10 min, 16 kHz mono WAV",
    "1h": "1 h, 16 kHz mono WAV",
    "stereo": "10 min, 44.1 kHz stereo WAV",
    "flac": "10 min, 16 kHz mono FLAC",
    "mp3": "10 min, 16 kHz mono MP3",
}
SCHEMA = "ms-edge-speed/1"
OURS = "ms-edge"
STAGES = ("decode", "resample", "front_end", "network", "vote", "rest")

Found = dict[str, Any]


def label_of(found: Found, case: str) -> str:
    """Return a case in words; in a quick run, files are shorter than its name says."""
    seconds = next((each["audio_s"] for each in found["cases"][case].values() if "audio_s" in each), None)
    words = FILES[case]
    return words if seconds is None or not found["quick"] else f"{seconds:g} s,{words.partition(',')[2]}"


def enough(latency: Found, percentile: str) -> bool:
    """Return whether at least ten runs lie beyond a percentile; with fewer, single runs decide it."""
    return bool(latency["runs"] * (100 - float(percentile)) >= 1000)
