"""`ms-edge stream`: print what is on one stream while it arrives."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable

from ms_edge.audio.file import open_file
from ms_edge.audio.raw import RawFormat
from ms_edge.audio.source import AudioSource, Channels
from ms_edge.classifier import Classifier, too_short
from ms_edge.errors import AudioError
from ms_edge.jobs.classify import DONE, FAILED
from ms_edge.jobs.interrupts import Interrupts
from ms_edge.jobs.progress import Progress
from ms_edge.live.events import Event
from ms_edge.live.pipes import PACKET_S, PIPE_SHARE, enlarge_pipe
from ms_edge.live.printing import line
from ms_edge.output.writers import json_text, live_header, live_line
from ms_edge.results import Segment

SCHEMA = "ms-edge-window/1"
STDIN = 0  # the descriptor
BLOCK_S = 0.32  # audio that is read at first, and now and then as it comes
ROUND_S = 0.001  # read beyond what is wanted, because times are rounded
FASTER_S = 0.16  # audio that comes so much earlier than before shows that its source has become faster
PROBE_S = 30.0  # after so much audio, a block is not waited for
EXAMINED_S = 3.0  # after so much audio, the source is found to be live or not
DRIFT = 1e-3  # by which a source may be slower than our clock
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
    session = classifier.session(audio.sample_rate_hz, channels=channels, source=audio.name, delay_s=delay_s)
    pipe_bytes, pace, printed = enlarge_pipe(STDIN), None, False

    def show(events: Iterable[Event]) -> None:
        nonlocal printed
        for event in events:
            _print(line(event, json_lines=json_lines, several=False))
            printed = True

    for block in audio.unmixed():
        if pace is None:
            # Samples come in as many bytes as in a block, or in fewer, except for floats of 64 bits.
            frame_bytes = block.nbytes / len(block) * (2 if (audio.codec or "").startswith("pcm_f64") else 1)
            pace = Pace(PIPE_SHARE * pipe_bytes / (frame_bytes * audio.sample_rate_hz))
        show(session.push(block))
        pace.read(session.received_s)
        audio.expect(pace.wait(session.wanted_s))
    show(session.close())
    audio.warnings += session.warnings
    return printed


class Pace:
    """Lets a live source fill its pipe until more can be decided.

    A program that waits in a read wakes up for each packet, 50 times a second, which costs more
    processor time than the labels do. A source is live if its audio comes at the pace of real time.
    Any other is never waited for. Now and then a block is read as it comes: it shows how far ahead the
    source is, and whether it has become faster. No more than `most_s` seconds wait in the pipe, so
    that it does not fill: a sound card would lose what it cannot write.
    """

    def __init__(
        self, most_s: float, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._most_s, self._clock, self._sleep = most_s, clock, sleep
        self._live = False
        self._audio_s = 0.0  # audio that was read
        self._probed_s = 0.0  # audio when a block was not waited for
        self._then = clock(), 0.0  # time and audio when it was last examined whether the source is live
        self._ahead = math.inf  # the least time that was seen minus audio; it rises with the drift of clocks

    def read(self, audio_s: float) -> None:
        """Note that so many seconds of audio have been read, all together."""
        now, read_s, self._audio_s = self._clock(), audio_s - self._audio_s, audio_s
        if self._live and now - audio_s < self._ahead - FASTER_S:
            self._live, self._then = False, (now, audio_s)
        self._ahead = min(self._ahead + DRIFT * read_s, now - audio_s)
        if not self._live and audio_s - self._then[1] >= EXAMINED_S:
            self._live = audio_s - self._then[1] < 1.05 * (now - self._then[0])
            self._then = now, audio_s

    def wait(self, wanted_s: float) -> float:
        """Wait until `wanted_s` more seconds have come, if the source is live. Return how many to read next."""
        if self._audio_s - self._probed_s >= PROBE_S:
            self._probed_s = self._audio_s
            return min(BLOCK_S, wanted_s + ROUND_S)
        if self._live:
            wait_s = self._ahead + self._audio_s + min(wanted_s + PACKET_S, self._most_s) - self._clock()
            if wait_s > 0:
                self._sleep(wait_s)
        return wanted_s + ROUND_S


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
    times = {"start_s": round(part.start_s, 6), "end_s": round(part.end_s, 6)}
    return json_text({**facts, **part.record(), **times, "warnings": audio.warnings_of(channel)}) + "\n"
