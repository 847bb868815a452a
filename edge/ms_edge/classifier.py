"""Audio in, `Classification` out: decode, cut windows, compute features, score, decide."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from numbers import Real
from typing import IO, TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ms_edge._version import __version__
from ms_edge.arrays import Float32
from ms_edge.audio.file import open_audio, usable_decoder, valid_track
from ms_edge.audio.raw import RawFormat
from ms_edge.audio.source import AudioArrays, AudioSource, Channels, channel_number
from ms_edge.errors import AudioError, UsageError
from ms_edge.features.frontend import Runs, model_input, model_inputs
from ms_edge.features.spec import BATCH_S, FEATURES, MIN_DURATION_S, MIN_HOP_S
from ms_edge.features.windows import Batch, batches, owned_samples, silent_windows
from ms_edge.model.metadata import Decision, Metadata
from ms_edge.model.session import Answers, Model
from ms_edge.results import Classification, Segment
from ms_edge.timeline import (
    UNCERTAIN,
    doubted,
    probability_of,
    seconds_by_label,
    segments,
    vote,
    window_labels,
)

if TYPE_CHECKING:
    from datetime import datetime

    from ms_edge.live.events import Event
    from ms_edge.live.session import Session

Source = str | os.PathLike[str] | IO[bytes] | ArrayLike

SPEECH_AND_MUSIC = {"speech", "music"}  # the labels of segments with a level of the music
MIN_SEGMENT_S = 1.0  # default of `min_segment_s`
MAX_MIN_SEGMENT_S = 1e6  # largest accepted `min_segment_s`: eleven days, longer than any recording


@dataclass(frozen=True)
class WindowScores:
    """What the model computed for each window of a recording, in order of time.

    `starts` (windows,) int64 are the windows' first samples, at the model's sample rate;
    `scores` (windows, labels) float32 are probabilities, with the labels in the model's order;
    `silent` (windows,) bool is true for a window whose level is below -70 dBFS. `levels` (windows, 2)
    float32 are the level of the music relative to the speech and its standard deviation, in dB,
    whether or not both are there; None if the model does not measure it.
    """

    starts: NDArray[np.int64]
    scores: Float32
    silent: NDArray[np.bool_]
    levels: Float32 | None = None


@runtime_checkable
class Scorer(Protocol):
    """What a `Classifier` needs of a model. `Model` provides it; so can a network in training.

    `input` is "features" or "waveform". `max_batch` is the largest number of windows that `scores`
    gets at a time. `run_scores` is called only if `metadata.step_frames` is set. See `Model`.
    """

    path: str
    metadata: Metadata
    input: str
    max_batch: int
    sha256: str
    provider: str

    def scores(self, inputs: Float32) -> Float32:
        """Return the probabilities (windows, labels) of one input per window."""

    def run_scores(self, features: Float32) -> Float32:
        """Return the probabilities (windows, labels) of overlapping windows (frames, bins)."""


class Classifier:
    """Classify recordings, arrays and live streams with one model.

    `model` is the path of a model file (default: the bundled model) or a loaded `Model`.
    `device` is `auto`, `cpu`, `cuda`, `cuda:N` or the name of an onnxruntime execution provider.
    `hop_s` is the time between window starts, in seconds (default: the model's own).
    `min_segment_s` is the shortest segment, in seconds; with 0 every window keeps its own label.
    `min_confidence` is a probability: a less probable label becomes `uncertain`.
    `binary` always answers with the single most probable label, whatever the model's decision rule.
    `thresholds` maps labels to the probability from which a model of independent labels gives them.
    `wav_only` refuses formats other than WAV.
    `decoder` is `libsndfile`, `ffmpeg`, or `auto`: libsndfile, and FFmpeg for what it does not read.
    `track` is the audio track of a file that has several, from 1.

    Threads can share a classifier. A pickled classifier loads its model again in the other process.
    Raises ModelError, DeviceError, or UsageError for invalid settings.

    >>> classifier = Classifier()
    >>> found = classifier.classify("tests/data/speech_french_woman.wav")
    >>> found.label, found.seconds
    ('speech', {'speech': 6.0})
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Scorer | None = None,
        device: str = "auto",
        *,
        hop_s: float | None = None,
        min_segment_s: float = MIN_SEGMENT_S,
        min_confidence: float = 0.0,
        binary: bool = False,
        thresholds: Mapping[str, float] | None = None,
        wav_only: bool = False,
        decoder: str = "auto",
        track: int = 1,
    ) -> None:
        self.model: Scorer = model if isinstance(model, Scorer) else Model.load(model, device)
        self._leveled = self.model if isinstance(self.model, Model) and self.model.metadata.level else None
        self.spec = self.model.metadata.spec
        if hop_s is not None:
            self.spec = replace(self.spec, hop_s=_valid_hop(hop_s, self.spec.clip_s))
        self.min_segment_s = _number("min_segment_s", min_segment_s)
        if not 0 <= self.min_segment_s <= MAX_MIN_SEGMENT_S:
            raise UsageError(
                f"The minimum duration must be 0 to {MAX_MIN_SEGMENT_S:,.0f} s, not {self.min_segment_s:g} s.",
            )
        self.min_confidence = _number("min_confidence", min_confidence)
        if not 0 <= self.min_confidence <= 1:
            raise UsageError(f"The minimum confidence must be 0 to 1, not {self.min_confidence:g}.")
        self.binary = bool(binary)
        self.decision = Decision("exclusive", ()) if binary else self.model.metadata.decision
        if thresholds:
            self.decision = _with_thresholds(self.decision, self.model.metadata.labels, thresholds, self.binary)
        self.wav_only = bool(wav_only)
        self.decoder, self.track = usable_decoder(decoder), valid_track(track)
        self._inputs = model_inputs(self.spec, self.model.input)
        # Windows that start a multiple of `_step` samples apart share frames, which the model computes
        # once. 0: the model cannot do that, or the hop is no multiple of its step.
        step = (self.model.metadata.step_frames or 0) * self.spec.frame_step
        self._step = step if step and self.spec.hop_samples % step == 0 else 0
        self._features = model_input(self.spec, self.model.input) if self._step else None

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(Classifier, self.model, **self._options()), ()

    def __repr__(self) -> str:
        return f"<ms_edge.Classifier of {self.model!r}>"

    def _options(self) -> dict[str, Any]:
        return {
            "hop_s": self.spec.hop_s,
            "min_segment_s": self.min_segment_s,
            "min_confidence": self.min_confidence,
            "binary": self.binary,
            "thresholds": dict(zip(self.model.metadata.labels, self.decision.thresholds, strict=False)) or None,
            "wav_only": self.wav_only,
            "decoder": self.decoder,
            "track": self.track,
        }

    def settings(self, raw: RawFormat | str | None = None, channels: Channels = None) -> dict[str, Any]:
        """Return everything except the audio and the model that a result depends on, ready for JSON.

        `channels` is the number of a channel, `each`, or None for the mean of all channels.
        """
        return {
            "version": __version__,
            **self._options(),
            "raw": None if raw is None else str(raw),
            "channels": "mix" if channels is None else str(channels),
        }

    def classify(
        self,
        source: Source,
        sample_rate_hz: int | None = None,
        *,
        channel: int | None = None,
        raw: RawFormat | str | None = None,
        on_audio: Callable[[float], None] | None = None,
    ) -> Classification:
        """Classify a path, `-` (standard input), a binary file object, or an array of samples.

        An array is (samples,) or (samples, channels) at `sample_rate_hz`: floats in [-1, 1] or
        integers of 16 or 32 bits. A seekable file object is read from its beginning, any other file
        object from where it is. `channel`, from 1 on, is the only one to classify (default: the mean
        of all channels). `raw` describes headerless PCM: a `RawFormat`, or text such as
        `16000:1:s16le`. `on_audio` is called with the seconds of audio read since its last call.
        Memory does not grow with duration.

        Raises AudioError if the audio cannot be decoded, is too short or lacks the channel, and
        UsageError for invalid arguments.

        >>> tone = 0.1 * np.sin(np.arange(32_000) / 10)
        >>> Classifier().classify(tone, sample_rate_hz=16_000).duration_s
        2.0
        """
        return self.analyse(source, sample_rate_hz, channel=channel, raw=raw, on_audio=on_audio)[0]

    def classify_channels(
        self,
        source: Source,
        sample_rate_hz: int | None = None,
        *,
        raw: RawFormat | str | None = None,
        on_audio: Callable[[float], None] | None = None,
    ) -> tuple[Classification, ...]:
        """Classify each channel of a recording on its own, and return the results in their order.

        Arguments and errors are those of `classify`. The source is decoded once.

        >>> tone, silence = np.sin(np.arange(32_000) / 10), np.zeros(32_000)
        >>> both = np.stack([tone, silence], axis=1)
        >>> [found.channel for found in Classifier().classify_channels(both, sample_rate_hz=16_000)]
        [1, 2]
        """
        found = self._analyses(source, sample_rate_hz, "each", raw, on_audio)
        return tuple(classification for classification, _ in found)

    def analyse(
        self,
        source: Source,
        sample_rate_hz: int | None = None,
        *,
        channel: int | None = None,
        raw: RawFormat | str | None = None,
        on_audio: Callable[[float], None] | None = None,
        on_samples: Callable[[Float32], None] | None = None,
    ) -> tuple[Classification, WindowScores]:
        """Classify, and return the scores of every window beside the classification.

        Arguments and errors are those of `classify`. The scores take 4 bytes per window and label.
        `on_samples` is called with each block of samples (n,) float32 at the model's sample rate,
        in order; n varies. It must neither change nor keep the block.

        >>> found, windows = Classifier().analyse("tests/data/music_zaz.wav")
        >>> found.label, windows.scores.shape
        ('music', (33, 2))
        """
        chosen = None if channel is None else channel_number(channel)
        return self._analyses(source, sample_rate_hz, chosen, raw, on_audio, on_samples)[0]

    def _analyses(
        self,
        source: Source,
        sample_rate_hz: int | None,
        channels: Channels,
        raw: RawFormat | str | None,
        on_audio: Callable[[float], None] | None,
        on_samples: Callable[[Float32], None] | None = None,
    ) -> list[tuple[Classification, WindowScores]]:
        """Do what `analyse` does for each of the channels, or for the mean of all."""
        opened = open_audio(
            source, sample_rate_hz, raw=raw, wav_only=self.wav_only, decoder=self.decoder, track=self.track
        )
        with opened as audio:
            blocks = _counted(audio, self.spec.sample_rate_hz, channels, on_audio, on_samples)
            numbers, settings = audio.selected(channels), self.settings(raw, channels)
            return [
                (self._classification(audio, number, found, settings), found)
                for number, found in zip(numbers, self._window_scores(blocks, len(numbers)), strict=True)
            ]

    def timeline(
        self, source: Source, sample_rate_hz: int | None = None, *, channel: int | None = None
    ) -> tuple[Segment, ...]:
        """Return the segments that `classify` finds. They cover the recording without gaps.

        >>> [(s.start_s, s.end_s, s.label) for s in Classifier().timeline("tests/data/music_zaz.wav")]
        [(0.0, 6.0, 'music')]
        """
        return self.classify(source, sample_rate_hz, channel=channel).segments

    def stream(
        self, blocks: Iterable[ArrayLike], sample_rate_hz: int, *, channel: int | None = None
    ) -> Iterator[Segment]:
        """Yield each window as a Segment as soon as its last sample arrives.

        `blocks` are arrays of any length, of the shapes and types that `classify` accepts. Windows
        overlap if the hop is shorter than the window. They are not smoothed: a label depends on its
        own window only. `channel` is that of `classify`. Raises AudioError if the blocks end before
        there is enough audio, or lack the channel.

        >>> silence = [np.zeros(4_000, np.float32)] * 6
        >>> [(s.start_s, s.end_s, s.label) for s in Classifier(hop_s=0.5).stream(silence, 16_000)]
        [(0.0, 1.0, 'silence'), (0.5, 1.5, 'silence')]
        """
        chosen = None if channel is None else channel_number(channel)
        for (window,) in self.live(AudioArrays(blocks, sample_rate_hz), chosen):
            yield window

    def stream_channels(self, blocks: Iterable[ArrayLike], sample_rate_hz: int) -> Iterator[tuple[Segment, ...]]:
        """Do what `stream` does for each channel: yield one Segment per channel for each window.

        >>> silence = [np.zeros((4_000, 2), np.float32)] * 4
        >>> [[s.label for s in channels] for channels in Classifier().stream_channels(silence, 16_000)]
        [['silence', 'silence']]
        """
        yield from self.live(AudioArrays(blocks, sample_rate_hz), "each")

    def live(self, audio: AudioSource, channels: Channels = None) -> Iterator[tuple[Segment, ...]]:
        """Do what `stream` does for an open audio source, with one Segment per channel.

        There is one for the mean of all channels if `channels` is None. A window is yielded before
        any audio after it is read.
        """
        rate = self.spec.sample_rate_hz
        for batch in batches(audio.blocks(rate, channels), self.spec, 1):
            # A stream shorter than a window has one window, which repeats the samples.
            if audio.frames < min(MIN_DURATION_S, self.spec.clip_s) * audio.sample_rate_hz:
                raise too_short(audio)
            start_s = int(batch.starts[0]) / rate
            end_s = min(start_s + self.spec.clip_s, audio.frames / audio.sample_rate_hz)
            yield tuple(self._window(self.scored(each), start_s, end_s) for each in batch.channels())

    def session(
        self,
        sample_rate_hz: int,
        *,
        channels: Channels = None,
        source: str = "-",
        started_at: datetime | None = None,
        delay_s: float = 2.0,
    ) -> Session:
        """Return a session: push the blocks of a live stream, and get its segments as events.

        `channels` is the number of the only channel to label, `each`, or None for the mean of all.
        `source` names the stream in its events. `started_at`, with a time zone, is when its first
        sample was recorded (default: when the first block is pushed, minus its duration). A moment of
        the audio is decided `delay_s` seconds of audio later at the latest. Raises UsageError for
        invalid arguments, and AudioError for a rate that no audio has.

        >>> session = Classifier().session(16_000)
        >>> tone = 0.1 * np.sin(np.arange(64_000) / 10)
        >>> [event.kind for event in session.push(tone) + session.close()]
        ['segment_start', 'segment_end']
        """
        from ms_edge.live.session import Session  # `classify` does without it

        return Session(self, sample_rate_hz, channels=channels, source=source, started_at=started_at, delay_s=delay_s)

    async def events(
        self, blocks: AsyncIterable[ArrayLike], sample_rate_hz: int, **options: Any
    ) -> AsyncIterator[Event]:
        """Yield the events of a live stream that arrives in an asynchronous iterator.

        Arguments and errors are those of `session`, whose `push` accepts the blocks.

            async for event in classifier.events(blocks, 48_000):
                print(event.record())
        """
        session = self.session(sample_rate_hz, **options)
        async for block in blocks:
            for event in session.push(block):
                yield event
        for event in session.close():
            yield event

    def _window(self, found: WindowScores, start_s: float, end_s: float) -> Segment:
        """Return a single window as a Segment."""
        row, labels = found.scores[0], self.model.metadata.labels
        scores = dict(zip(labels, row.tolist(), strict=True))
        (label,) = window_labels(found.scores, labels, self.decision, found.silent)
        probability = probability_of(label, scores)
        label = label if probability >= self.min_confidence else UNCERTAIN
        part = Segment(start_s, end_s, label, probability, scores)
        (part,) = self._with_levels((part,), found, np.array([(start_s + end_s) / 2]))
        return part

    def window_scores(self, blocks: Iterable[Float32]) -> WindowScores:
        """Score every window of a stream, in bounded memory.

        `blocks` are mono samples (n,) at the model's sample rate; n can vary.
        """
        return self._window_scores(blocks, 1)[0]

    def _window_scores(self, blocks: Iterable[Float32], channels: int) -> list[WindowScores]:
        """Score every window of each channel. `blocks` are (channels, n), or (n,) for one channel."""
        none = WindowScores(
            np.empty(0, np.int64), np.empty((0, len(self.model.metadata.labels)), np.float32), np.empty(0, bool)
        )
        found = [[none] for _ in range(channels)]
        for batch in batches(blocks, self.spec, self.windows_at_a_time):
            for parts, each in zip(found, batch.channels(), strict=True):
                parts.append(self.scored(each))
        return [
            WindowScores(
                np.concatenate([part.starts for part in parts]),
                np.concatenate([part.scores for part in parts]),
                np.concatenate([part.silent for part in parts]),
                _joined([part.levels for part in parts[1:]]),
            )
            for parts in found
        ]

    @property
    def windows_at_a_time(self) -> int:
        """The number of windows of a recording that are scored together."""
        spec = self.spec
        if self._step:  # the windows that lie inside BATCH_S seconds of audio
            return 1 + max(0, int(BATCH_S * spec.sample_rate_hz) - spec.clip_samples) // spec.hop_samples
        return max(1, min(int(BATCH_S / spec.clip_s), self.model.max_batch))

    def runs(self) -> Runs | None:
        """Return what `scored` needs to compute once what batches of one stream share; None if it cannot."""
        if self._features is None or self.model.input != FEATURES or self.spec.layout != "frames_bins":
            return None
        return Runs(self.spec, self._features)

    def scored(self, batch: Batch, runs: Runs | None = None) -> WindowScores:
        """Score the windows of a batch of one channel. `features.windows` makes batches."""
        scores, levels = self._answers(batch, runs)
        return WindowScores(batch.starts, scores, silent_windows(batch), levels)

    def _answers(self, batch: Batch, runs: Runs | None) -> Answers:
        """Return what the model gives for a batch's windows."""
        offsets = batch.offsets
        if self._features is None or len(offsets) == 1:
            return self._single(batch, offsets)
        # The last window of a stream is aligned to its end, which may lie between two steps. It is
        # then scored on its own.
        shared = offsets if offsets[-1] % self._step == 0 else offsets[:-1]
        run = batch.samples[: int(shared[-1]) + self.spec.clip_samples]
        features = runs.features(int(batch.starts[0]), run) if runs else self._features(run)
        places = shared // self._step
        scores, levels = (
            self._leveled.run_answers(features) if self._leveled else Answers(self.model.run_scores(features), None)
        )
        found = Answers(scores[places], None if levels is None else levels[places])
        if len(shared) == len(offsets):
            return found
        last = self._single(batch, offsets[-1:])
        return Answers(np.concatenate([found.scores, last.scores]), _joined([found.levels, last.levels]))

    def _single(self, batch: Batch, offsets: NDArray[np.int64]) -> Answers:
        """Return what the model gives for windows that share nothing."""
        inputs = self._inputs(batch.samples, offsets)
        return self._leveled.answers(inputs) if self._leveled else Answers(self.model.scores(inputs), None)

    def _with_levels(
        self, parts: tuple[Segment, ...], found: WindowScores, centres_s: NDArray[np.float64]
    ) -> tuple[Segment, ...]:
        """Return the segments, those with speech and music with the level of the music.

        `centres_s` (windows,) are the middles of the stretches that the windows stand for. Silent
        windows say nothing about a segment.
        """
        scale = self.model.metadata.level
        if scale is None or found.levels is None:
            return parts
        leveled = []
        for part in parts:
            inside = ~found.silent & (centres_s >= part.start_s) & (centres_s < part.end_s)
            if SPEECH_AND_MUSIC.issubset(part.label.split("+")) and inside.any():
                level = scale.combined(found.levels[inside], (part.end_s - part.start_s) / self.spec.clip_s)
                part = replace(part, music_to_speech_db=level.db, music_to_speech_db_interval=level.interval_db)
            leveled.append(part)
        return tuple(leveled)

    def _classification(
        self, audio: AudioSource, channel: int | None, found: WindowScores, settings: dict[str, Any]
    ) -> Classification:
        """Turn the scores of the windows of a channel, or of all together, into segments and one label."""
        duration_s = audio.frames / audio.sample_rate_hz
        if duration_s < MIN_DURATION_S:
            raise too_short(audio)
        labels, decision, rate = self.model.metadata.labels, self.decision, self.spec.sample_rate_hz
        owned = owned_samples(found.starts, self.spec.clip_samples, audio.frames * rate // audio.sample_rate_hz)
        # Rounded to milliseconds, as they are printed. Then printed segments have no gaps, and their
        # durations add up to the printed seconds of each label.
        borders_s = np.concatenate(([0.0], np.round(owned.cumsum() / rate, 3)))
        borders_s[-1] = round(duration_s, 3)
        parts = segments(found.scores, found.silent, borders_s, labels, decision, self.min_segment_s)
        voting = ~found.silent if not found.silent.all() else slice(None)
        mean = found.scores[voting].mean(axis=0, dtype=np.float64)
        scores = dict(zip(labels, mean.tolist(), strict=True))
        likeliest = vote(parts, scores, decision)
        parts = doubted(parts, self.min_confidence)
        parts = self._with_levels(parts, found, (borders_s[:-1] + borders_s[1:]) / 2)
        label = vote(parts, scores, decision)
        return Classification(
            path=audio.name,
            label=label,
            probability=probability_of(likeliest if label == UNCERTAIN else label, scores),
            scores=scores,
            seconds=seconds_by_label(parts),
            duration_s=round(duration_s, 3),
            sample_rate_hz=audio.sample_rate_hz,
            channels=audio.channels,
            segments=parts,
            warnings=tuple(audio.warnings_of(channel)),
            file=audio.file,
            recorded_at=audio.recorded_at,
            settings=settings,
            model=self.model.sha256,
            provider=self.model.provider,
            decoder=audio.decoder,
            container=audio.container,
            codec=audio.codec,
            channel=channel,
        )


def _joined(parts: list[Float32 | None]) -> Float32 | None:
    """Return the levels of several batches; None if the model gives none."""
    there = [part for part in parts if part is not None]
    return np.concatenate(there) if there else None


def too_short(audio: AudioSource) -> AudioError:
    """Return the error about a source that is too short to be classified."""
    duration_s = audio.frames / audio.sample_rate_hz
    return AudioError(
        "too-short", f"{audio.name}: {duration_s:.3f} s of audio; at least {MIN_DURATION_S} s are needed."
    )


def _valid_hop(hop_s: float, clip_s: float) -> float:
    """Return the hop as a float. Raises UsageError if it is too short, or longer than a window."""
    hop_s = _number("hop_s", hop_s)
    if not MIN_HOP_S <= hop_s <= clip_s:
        raise UsageError(
            f"The hop must be at least {MIN_HOP_S} s and at most the model's window of {clip_s:g} s, not {hop_s:g} s.",
        )
    return hop_s


def _with_thresholds(
    decision: Decision, labels: tuple[str, ...], thresholds: Mapping[str, float], binary: bool
) -> Decision:
    """Return the decision rule with other thresholds for some labels.

    Raises UsageError if the model has no thresholds, or if a label or a value is invalid.
    """
    if binary:
        raise UsageError(
            "A binary answer is the most probable label, which needs no threshold; give one of the two.",
        )
    if decision.kind == "exclusive":
        raise UsageError(
            "This model answers with its most probable label; only models of independent labels have thresholds.",
        )
    if not isinstance(thresholds, Mapping):
        raise UsageError(f"thresholds must be a mapping of labels to probabilities, not {thresholds!r}.")
    if unknown := [label for label in thresholds if label not in labels]:
        names = ", ".join(map(repr, unknown))
        raise UsageError(f"The model has no label {names} to set a threshold for; it has {', '.join(labels)}.")
    chosen = {label: _number(f"The threshold of {label}", value) for label, value in thresholds.items()}
    for label, value in chosen.items():
        if not 0 < value < 1:
            raise UsageError(f"The threshold of {label} must be more than 0 and less than 1, not {value:g}.")
    current = zip(labels, decision.thresholds, strict=True)
    return Decision(decision.kind, tuple(chosen.get(label, value) for label, value in current))


def _number(name: str, value: object) -> float:
    if not isinstance(value, Real):
        raise UsageError(f"{name} must be a number, not {value!r}.")
    try:
        return float(value)
    except OverflowError:  # an int that is too large for a float
        return float("inf")


def _counted(
    audio: AudioSource,
    sample_rate_hz: int,
    channels: Channels,
    on_audio: Callable[[float], None] | None,
    on_samples: Callable[[Float32], None] | None,
) -> Iterator[Float32]:
    """Yield the blocks of a source, and tell `on_audio` how many seconds each block holds."""
    before = 0
    for block in audio.blocks(sample_rate_hz, channels):
        if on_samples:
            on_samples(block.reshape(-1))
        if on_audio:
            on_audio((audio.frames - before) / audio.sample_rate_hz)
            before = audio.frames
        yield block
