"""The kinds of audio and of conditions in the validation set."""

from __future__ import annotations

# For each truth, kinds and prefixes of the names of sources. Sources without a prefix are of the
# last kind.
SOURCES: dict[str, dict[str, tuple[str, ...]]] = {
    "speech": {
        "speech, children": ("jimbozhang/speechocean762/children",),
        "speech, talk": ("TheGondos/", "aws-samples/", "Azure-Samples/", "Picovoice/falcon"),
        "speech, read, any microphone": ("omnilingo/", "korliu/", "pryyyynz/", "puri-gagan/", "jimbozhang/"),
        "speech, read, good microphone": (
            "zhangrui0712/",
            "global-asp/",
            "rhasspy/",
            "festvox",
            "BlueTaurus/",
            "PrernaSocity/",
        ),
        "speech, far field": ("MycroftAI/", "Picovoice/speech-to-intent"),
        "speech, prompts and telephone": ("asterisk", "codec2"),
        "speech, words": ("gcompris/", "tuxpaint", "qabcs", "kajongg", "gcin", "Picovoice/wake-word", "Jakobovski/"),
        "speech, acted, synthetic and other": (),
    },
    "music": {
        "music, sung": (
            *("ichbinsoftware/", "UltraStar-Deluxe/", "Tonejs/audio/sung", "vocobox/", "mir-dataset-loaders/"),
            *("spotify/", "deezer/"),
        ),
        "music, acoustic": (
            *("MTG/", "librosa/", "digabi/", "widelands", "heroes", "unknown-horizons"),
            *("Tonejs/audio/played", "gcompris/", "GitZilla8462/"),
        ),
        "music, games and other": (),
    },
    "neither": {
        "noise, recorded ambience": ("karolpiczak/", "redeclipse/", "thomasrosen/", "rafaelmardojai/"),
        "noise, recorded machines, water and blows": ("Tonejs/",),
        "noise, effects and other": (),
    },
}
# Kinds by the first word of a condition.
CONDITIONS = {
    "telephone": "telephone",
    "room": "in rooms",
    "white": "in added noise",
    "pink": "in added noise",
    "gaps": "with gaps",
    "rests": "with gaps",
    "old": "old recording",
    "louder": "over louder music",
    "equal": "over equally loud music",
    "quieter": "over quieter music",
}


def kind_of_source(source: str, truth: str) -> str:
    """Return the kind of clean clips of a source."""
    *_, other = kinds = SOURCES[truth]
    return next((kind for kind, names in kinds.items() if source.startswith(names)), other)


def kind_of_condition(condition: str) -> str:
    """Return the kind of clips in a condition, such as `in rooms` for `room hall, far`."""
    return CONDITIONS[condition.split(" ")[0]]
