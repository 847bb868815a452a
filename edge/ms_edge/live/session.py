"""Label a stream while it arrives: push blocks of samples, and get events."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from ms_edge.arrays import Float32
from ms_edge.audio.source import (
    BLOCK_SAMPLES,
    AudioSource,
    Channels,
    Samples,
    as_float32,
    channel_number,
    require_plausible,
    resampler,
    whole_number,
)
from ms_edge.errors import UsageError
from ms_edge.features.spec import MIN_DURATION_S
from ms_edge.features.windows import Batch, Cutter
from ms_edge.live.events import Event
from ms_edge.live.online import LATEST_MS, Change, Online, Window
from ms_edge.timeline import window_labels

if TYPE_CHECKING:
    from ms_edge.classifier import Classifier

DELAY_S, MAX_DELAY_S = 2.0, 600.0
MAX_LOST_S = 1e9  # thirty years


Decided = tuple[int | None, Change]  # with the number of the channel, None for the mean of all


class Session:
    """Labels one stream. `Classifier.session` makes one.

    A moment of the audio is decided once `delay_s` seconds of later audio have been pushed; the first
    moment waits up to half a window longer. The events of a channel are in order of time, and none is
    ever taken back. Memory does not grow. Use a session in one thread at a time.

    >>> import numpy as np
    >>> from ms_edge import Classifier
    >>> session = Classifier().session(16_000)
    >>> events = session.push(np.zeros(64_000, np.float32)) + session.close()
    >>> [(event.kind, event.time_s, event.label) for event in events]
    [('segment_start', 0.0, 'silence'), ('segment_end', 4.0, 'silence')]
    """

    def __init__(
        self,
        classifier: Classifier,
        sample_rate_hz: int,
        *,
        channels: Channels = None,
        source: str = "-",
        started_at: datetime | None = None,
        delay_s: float = DELAY_S,
    ) -> None:
        self.source = source
        self.sample_rate_hz = whole_number("sample_rate_hz", sample_rate_hz)
        require_plausible(source, self.sample_rate_hz, 1)
        self.started_at = started_at
        self.frames = 0  # of the stream so far, including those that were lost
        self.warnings: list[str] = []  # codes of what is odd about the samples, as in a Classification
        self.channels = channels if channels is None or channels == "each" else channel_number(channels)
        self.delay_s = delay_s
        plan(classifier, delay_s, self.sample_rate_hz)  # checks it
        if classifier.min_segment_s > MAX_DELAY_S:
            raise UsageError(
                f"The minimum duration must be at most {MAX_DELAY_S:g} s in a live stream, not "
                f"{classifier.min_segment_s:g} s."
            )
        self._classifier = classifier
        self._stretch: _Stretch | None = None
        self._closed = False

    @property
    def received_s(self) -> float:
        """Stream time up to which audio has been pushed or was lost, in seconds."""
        return self.frames / self.sample_rate_hz

    @property
    def decided_s(self) -> float:
        """Stream time up to which every label is final, in seconds."""
        return self._stretch.decided_ms / 1000 if self._stretch else self.received_s

    @property
    def wanted_s(self) -> float:
        """Seconds of audio that are still to be pushed before more can be decided."""
        return self._stretch.wanted_s if self._stretch else 0.0

    def push(self, block: ArrayLike) -> list[Event]:
        """Add samples (n,) or (n, channels), and return what is decided with them.

        Their types are those that `Classifier.classify` accepts. Raises UsageError for others, for
        another number of channels than before, and after `close`; AudioError if the stream lacks the
        channel that was chosen.
        """
        self._require_open()
        samples = _numbers(block)
        if not len(samples):
            return []
        if self._stretch is None:
            self._stretch = _Stretch(self._classifier, self, samples.shape[1])
        if self.started_at is None:
            self.started_at = datetime.now(UTC) - timedelta(seconds=len(samples) / self.sample_rate_hz)
        changes = list(self._stretch.push(samples))
        self.frames += len(samples)
        return self._events(changes)

    def lose(self, duration_s: float) -> list[Event]:
        """Count audio that never came, in seconds, and return the end of the segment that was on.

        Windows begin anew with the next block, which may have another number of channels. Raises
        UsageError for a duration that is no number from 0 to MAX_LOST_S, and after `close`.
        """
        self._require_open()
        if not 0 <= duration_s <= MAX_LOST_S:
            raise UsageError(f"The duration of lost audio must be from 0 to {MAX_LOST_S:g} s, not {duration_s:g} s.")
        changes = self._end_stretch()
        if self.started_at is None:
            self.started_at = datetime.now(UTC) - timedelta(seconds=duration_s)
        self.frames += round(duration_s * self.sample_rate_hz)
        return self._events(changes)

    def close(self) -> list[Event]:
        """End the stream, and return the last decisions. Closing again returns nothing."""
        self._closed = True
        return self._events(self._end_stretch())

    def _require_open(self) -> None:
        if self._closed:
            raise UsageError("The session is closed; start another one with Classifier.session.")

    def _end_stretch(self) -> list[Decided]:
        stretch, self._stretch = self._stretch, None
        return list(stretch.close()) if stretch else []

    def _events(self, changes: Iterable[Decided]) -> list[Event]:
        """Return changes of channels as events."""
        events = []
        for channel, change in changes:
            assert self.started_at is not None
            events.append(
                Event(
                    kind=change.kind,
                    source=self.source,
                    channel=channel,
                    time_s=change.at_ms / 1000,
                    utc=self.started_at + timedelta(milliseconds=change.at_ms),
                    label=change.label,
                    start_s=change.start_ms / 1000,
                    end_s=change.at_ms / 1000 if change.kind == "segment_end" else None,
                    probability=change.probability,
                    scores=change.scores,
                )
            )
        return events


class _Stretch:
    """Audio between two losses: mixed and resampled, cut into windows, scored and decided."""

    def __init__(self, classifier: Classifier, session: Session, channels: int) -> None:
        self._classifier = classifier
        self._origin = session.frames  # frames of the stream before the stretch
        self._pushed = _Pushed(session.source, session.sample_rate_hz, channels)
        self._pushed.warnings = session.warnings
        self._numbers = self._pushed.selected(session.channels)
        self._blocks = self._pushed.blocks(classifier.spec.sample_rate_hz, session.channels)
        self._plan = plan(classifier, session.delay_s, session.sample_rate_hz)
        self._cutter = Cutter(classifier.spec, self._plan.few)
        self._kept: list[Samples] = []  # blocks that are not converted yet
        self._kept_frames = 0
        self._runs = [classifier.runs() for _ in self._numbers]
        self._last_start: int | None = None  # first sample of the last window
        (self._border_ms,) = self._ms([0])  # where it ends
        self._online = [
            Online(
                classifier.model.metadata.labels,
                classifier.decision,
                round(1000 * classifier.min_segment_s),
                classifier.min_confidence,
                self._border_ms,
            )
            for _ in self._numbers
        ]

    @property
    def decided_ms(self) -> int:
        """Stream time up to which the labels of all channels are final, in ms."""
        return min(online.decided_ms for online in self._online)

    @property
    def wanted_s(self) -> float:
        """Seconds of audio that the next windows need."""
        have_s = (self._pushed.frames + self._kept_frames) / self._pushed.sample_rate_hz
        needed_s = self._cutter.needed / self._classifier.spec.sample_rate_hz + self._plan.resampler_s
        return max(0.0, needed_s - have_s)

    def push(self, samples: Samples) -> Iterator[Decided]:
        """Add samples (n, channels), and yield what is decided with them.

        Blocks are kept until there is enough audio for the next windows: nothing can be decided
        before, and a few large blocks take much less time than many small ones.
        """
        channels = self._pushed.channels
        if samples.shape[1] != channels:
            raise UsageError(
                f"{self._pushed.name}: a block has {samples.shape[1]} channels, but the first one had {channels}."
            )
        if self._kept and self._kept[0].dtype != samples.dtype:
            yield from self._release()
        self._kept.append(samples)
        self._kept_frames += len(samples)
        if self.wanted_s:
            self._kept[-1] = samples.copy()  # the caller may use the memory of a block again
        else:
            yield from self._release()

    def close(self) -> Iterator[Decided]:
        """Yield what is decided because no more samples follow."""
        yield from self._release()
        self._pushed.block = None
        for block in self._blocks:  # what the resampler still holds
            yield from self._decided(block)
        frames = self._pushed.frames
        if frames < MIN_DURATION_S * self._pushed.sample_rate_hz:
            return
        windows = [self._windows(batch) for batch in self._cutter.close()] or [[[] for _ in self._online]]
        (end_ms,) = self._ms([0], frames)
        for number, online, rest in zip(self._numbers, self._online, *windows, strict=True):
            yield from ((number, change) for change in online.close(rest, end_ms))

    def _release(self) -> Iterator[Decided]:
        """Convert the samples that are kept, and yield what is decided with them."""
        if not self._kept:
            return
        samples = self._kept[0] if len(self._kept) == 1 else np.concatenate(self._kept)
        self._kept, self._kept_frames = [], 0
        step = max(1, BLOCK_SAMPLES // samples.shape[1])
        for start in range(0, len(samples), step):
            self._pushed.block = samples[start : start + step]
            yield from self._decided(next(self._blocks))

    def _decided(self, block: Float32) -> Iterator[Decided]:
        """Add a block at the model's rate, and yield what is decided with it."""
        for batch in self._cutter.push(block):
            for online, windows in zip(self._online, self._windows(batch), strict=True):
                online.add(windows)
            self._cutter.size, lag_ms = self._plan.next_batch(all(online.settled for online in self._online))
            for number, online in zip(self._numbers, self._online, strict=True):
                yield from ((number, change) for change in online.decide(lag_ms))

    def _windows(self, batch: Batch) -> list[list[Window]]:
        """Score the windows of a batch, and return those of each channel.

        The border between two windows is half way between their centres, as in
        `ms_edge.features.windows.owned_samples`. The last one ends where it will end unless the
        stream ends before the next window.
        """
        hop, clip, starts = self._classifier.spec.hop_samples, self._classifier.spec.clip_samples, batch.starts.tolist()
        ends_ms = self._ms([(2 * start + hop + clip) // 2 for start in starts])
        begins_ms = [self._border_ms, *ends_ms[:-1]]
        before = starts[-2] if len(starts) > 1 else self._last_start
        if before is not None and starts[-1] != before + hop:  # the last window of a stream
            (begins_ms[-1],) = self._ms([(before + starts[-1] + clip) // 2])
        self._last_start, self._border_ms = starts[-1], ends_ms[-1]
        labels, decision = self._classifier.model.metadata.labels, self._classifier.decision
        return [
            list(
                map(
                    Window,
                    begins_ms,
                    ends_ms,
                    found.scores.tolist(),
                    found.silent.tolist(),
                    window_labels(found.scores, labels, decision, found.silent),
                )
            )
            for found in map(self._classifier.scored, batch.channels(), self._runs)
        ]

    def _ms(self, samples: Iterable[int], frames: int = 0) -> list[int]:
        """Return the stream times of samples at the model's rate, `frames` frames later, in whole ms.

        Computed with integers, so that they are exact in a stream of any length.
        """
        rate, model_rate = 1000 * self._pushed.sample_rate_hz, self._classifier.spec.sample_rate_hz
        whole, origin = self._pushed.sample_rate_hz * model_rate, 1000 * (self._origin + frames) * model_rate
        found = []
        for sample in samples:
            ms, rest = divmod(origin + sample * rate, whole)
            found.append(ms + (2 * rest + ms % 2 > whole))  # half a millisecond to even, as `round` does
        return found


class _Pushed(AudioSource):
    """The block that is to be converted next. It is None after the last one."""

    block: Samples | None = None

    def _decoded(self) -> Iterator[Samples]:
        while self.block is not None:
            yield self.block

    def _warn(self, code: str, channel: int | None = None) -> None:
        super()._warn(code)  # of whatever channel


def _numbers(block: ArrayLike) -> Samples:
    """Return samples (n,) or (n, channels) as (n, channels): integers of 16 bits as they are, others as float32."""
    if isinstance(block, np.ndarray) and block.dtype == np.int16 and block.ndim in (1, 2):
        return block if block.ndim == 2 else block[:, np.newaxis]
    return as_float32(block)


@dataclass(frozen=True)
class Plan:
    """How many windows are scored together, and how late each is decided.

    A window must be decided before `hops` hops of later audio are known; a hop takes `hop_ms`. Windows
    that are scored together take much less processor time than the same windows one after another, but
    those that would be too old when the next ones are known must be decided before. So `most` windows
    are scored together while the same segment goes on. When a change is in sight, they are `few`, and
    its time is decided with more later audio in view.
    """

    hops: int
    hop_ms: float
    few: int
    most: int
    resampler_s: float  # how much later a resampler returns each sample at most

    def next_batch(self, settled: bool) -> tuple[int, int]:
        """Return how many windows the next batch has, and the lag in ms with which to decide before it."""
        size = self.most if settled else self.few
        # A millisecond less, because the times of windows are rounded.
        return size, int(self.hop_ms * (self.hops - size)) - 1


def plan(classifier: Classifier, delay_s: float, sample_rate_hz: int | None = None) -> Plan:
    """Return how to decide each moment of a stream within a delay.

    `sample_rate_hz` is that of the stream, by default that of the model. A moment is decided when the
    rest of its window and some later windows are known. An edge can then be moved `LATEST_MS` back.
    Raises UsageError if the delay is too short for that, or too long.
    """
    hop_s, rate = classifier.spec.hop_s, classifier.spec.sample_rate_hz
    resampler_s = 0.0 if sample_rate_hz in (None, rate) else _resampler_s(sample_rate_hz, rate)
    fixed_s = (classifier.spec.clip_s - hop_s) / 2 + LATEST_MS / 1000 + resampler_s
    shortest_s = fixed_s + 2 * hop_s
    if not shortest_s - 1e-9 <= delay_s <= MAX_DELAY_S:
        raise UsageError(
            f"The delay must be at least {math.ceil(100 * shortest_s - 1e-6) / 100:g} s with this model, hop and "
            f"sample rate, and at most {MAX_DELAY_S:g} s, not {delay_s:g} s."
        )
    hops = int((delay_s - fixed_s) / hop_s + 1e-9)
    few, most = (min(size, classifier.windows_at_a_time) for size in (max(1, hops // 4), hops - 1))
    return Plan(hops, 1000 * hop_s, few, most, resampler_s)


@lru_cache
def _resampler_s(from_hz: int, to_hz: int) -> float:
    """Return how much later a resampler returns each sample at most, in seconds.

    It transforms blocks of samples whose length only soxr knows, so this tries it out.
    """
    stream, block, put, got, late_s = resampler(from_hz, to_hz), np.zeros(from_hz // 200, np.float32), 0, 0, 0.0
    while put < from_hz:
        put += len(block)
        got += len(stream.resample_chunk(block))
        late_s = max(late_s, put / from_hz - got / to_hz)
    return late_s + len(block) / from_hz
