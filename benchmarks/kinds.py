"""The kinds of audio that the lines of the validation report belong to."""

from __future__ import annotations

# By what is true: kinds, and beginnings of sources' names; a source that is in no list is of the last kind.
SOURCES: dict[str, dict[str, tuple[str, ...]]] = {
    "speech": {
        "speech, read, any microphone": ("rsample-100-cv-corpus", "whisper", "audio-for-Twi-TTS", "speechdataset"),
        "speech, read, good microphone": ("Voice-Age", "asp-audio", "dataset-voice-kerstin", "festvox"),
        "speech, far field": ("Precise-Community-Data", "speech-to-intent"),
        "speech, prompts and telephone": ("asterisk", "codec2"),
        "speech, words": ("GCompris", "tuxpaint", "qabcs", "kajongg", "gcin", "wake-word", "free-spoken-digit"),
        "speech, acted, synthetic and other": (),
    },
    "music": {
        "music, sung": ("everythingisfree", "songs"),
        "music, acoustic": ("sms-tools-materials", "widelands", "heroes", "map-tiles", "unknown-horizons"),
        "music, games and other": (),
    },
    "neither": {
        "noise, recorded ambience": ("ESC-10", "berlin_noise", "blanket", "sounds"),
        "noise, effects and other": (),
    },
}
CONDITIONS = {
    "telephone": "telephone",
    "room": "in rooms",
    "white": "in added noise",
    "pink": "in added noise",
    "gaps": "gaps and rests",
    "rests": "gaps and rests",
    "old": "old recordings",
    "music": "speech over music",
    "small": "small sources",
}


def kind_of(line: str) -> str:
    """The kind of a line of `benchmarks.selection`, as in `room hall, far, speech` or `whisper, speech`."""
    name, _, truth = line.rpartition(", ")
    if truth not in SOURCES or name.split(" ")[0] in CONDITIONS:
        return CONDITIONS[name.split(" ")[0]]
    *_, other = kinds = SOURCES[truth]
    return next((kind for kind, names in kinds.items() if name.startswith(names)), other)
