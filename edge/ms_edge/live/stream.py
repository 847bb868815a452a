"""`ms-edge stream`: print what is on one stream while it arrives."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import replace

from ms_edge.audio.file import open_file
from ms_edge.audio.raw import RawFormat
from ms_edge.audio.source import AudioSource, Channels
from ms_edge.classifier import Classifier, too_short
from ms_edge.errors import AudioError
from ms_edge.jobs.classify import DONE, FAILED
from ms_edge.jobs.interrupts import Interrupts
from ms_edge.jobs.progress import Progress
from ms_edge.live.events import Event
from ms_edge.live.printing import line
from ms_edge.output.writers import live_header, live_line
from ms_edge.results import SCHEMA, Segment

BLOCK_S = 0.05  # audio read at a time for events
PER_HOP = 10  # blocks per hop for windows, each of which is printed at once


def stream(
    source: str,
    classifier: Classifier,
    progress: Progress,
    *,
    raw: RawFormat | None = None,
    channels: Channels = None,
    json_lines: bool = False,
    delay_s: float | None = None,
) -> int:
    """Print a line for each event of a live source, or for each window if `delay_s` is None.

    Events are decided `delay_s` seconds of audio later, windows are printed without delay. Return the
    exit status.
    """
    try:
        with (
            Interrupts(at_once=True),
            open_file(
                source,
                raw=raw,
                wav_only=classifier.wav_only,
                block_s=classifier.spec.hop_s / PER_HOP if delay_s is None else BLOCK_S,
                decoder=classifier.decoder,
                track=classifier.track,
            ) as audio,
        ):
            if delay_s is None:
                printed = _print_windows(audio, classifier, channels, json_lines)
            else:
                printed = _print_events(audio, classifier, channels, json_lines, delay_s)
            if not audio.frames:
                raise AudioError("no-samples", f"{source}: the stream ended before its first sample.")
            if not printed:
                raise too_short(audio)
            for number in audio.selected(channels):
                where = source if number is None else f"{source}, channel {number}"
                for warning in audio.warnings_of(number):
                    progress.complain(f"{where}: warning: {warning}.")
    except AudioError as error:
        progress.complain(error.message)
        return FAILED
    return DONE


def _print_events(
    audio: AudioSource, classifier: Classifier, channels: Channels, json_lines: bool, delay_s: float
) -> bool:
    """Print a line for each event, and return whether there was one."""
    rate, numbers = classifier.spec.sample_rate_hz, audio.selected(channels)
    chosen: Channels = None if channels is None else "each"
    session = classifier.session(rate, channels=chosen, source=audio.name, delay_s=delay_s)
    printed = False

    def show(events: Iterable[Event]) -> None:
        nonlocal printed
        for event in events:
            if event.channel is not None:
                event = replace(event, channel=numbers[event.channel - 1])
            _print(line(event, json_lines=json_lines, several=False))
            printed = True

    for block in audio.blocks(rate, channels):
        show(session.push(block.T))
    show(session.close())
    return printed


def _print_windows(audio: AudioSource, classifier: Classifier, channels: Channels, json_lines: bool) -> bool:
    """Print a line for each window and channel, in a table after its header, and return whether there was one."""
    numbers = audio.selected(channels)
    printed = False
    for window in classifier.live(audio, channels):
        if not (printed or json_lines):
            sys.stdout.write(live_header(channels is not None))
        for number, part in zip(numbers, window, strict=True):
            _print(_record(audio, number, part) if json_lines else live_line(part, number))
        printed = True
    return printed


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _record(audio: AudioSource, channel: int | None, part: Segment) -> str:
    """Return one window of a live source, or of one of its channels, as a line of JSON."""
    facts = {"schema": SCHEMA, "path": audio.name, **({} if channel is None else {"channel": channel})}
    return json.dumps({**facts, **part.record(), "warnings": audio.warnings_of(channel)}) + "\n"
