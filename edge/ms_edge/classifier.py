"""Audio in, `Classification` out: decode, window, front end, model, vote."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from numbers import Real
from typing import IO, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ms_edge._version import __version__
from ms_edge.arrays import Float32
from ms_edge.audio.file import open_audio
from ms_edge.audio.raw import RawFormat
from ms_edge.audio.source import AudioArrays, AudioSource
from ms_edge.errors import AudioError, UsageError
from ms_edge.features.frontend import model_input, model_inputs
from ms_edge.features.spec import BATCH_S, MIN_HOP_S
from ms_edge.features.windows import Batch, batches, owned_samples, silent_windows
from ms_edge.model.metadata import Decision
from ms_edge.model.session import Model
from ms_edge.results import Classification, Segment
from ms_edge.timeline import SILENCE, UNCERTAIN, doubted, probability_of, segments, window_label

Source = str | os.PathLike[str] | IO[bytes] | ArrayLike

MIN_DURATION_S = 0.25  # of audio, to be classified at all
MIN_SEGMENT_S = 1.0  # the default
MAX_MIN_SEGMENT_S = 1e6  # the largest value accepted for it: eleven days, longer than a recording


@dataclass(frozen=True)
class WindowScores:
    """What the model said of each window of a stream: start in samples, scores (windows, labels), and whether silent."""

    starts: NDArray[np.int64]
    scores: Float32
    silent: NDArray[np.bool_]


class Classifier:
    """Classifies recordings, arrays and live streams with one model.

    `model` is the path of a model file (default: the bundled one) or a loaded `Model`; `device` is `auto`, `cpu`, `cuda`,
    `cuda:N` or the name of an execution provider. `hop_s` says how often a window starts (default: what the model says),
    `min_segment_s` how short a segment may be (0: every window keeps its own label), `min_confidence` under which
    probability a label is `uncertain`.
    `binary` answers with the likeliest of the model's labels alone, never two or none of them, whatever the model's own rule.
    `thresholds` replaces, by label, the probability from which a model of independent labels gives that label.
    `wav_only` refuses other formats. Threads may share a classifier; a copy in another process loads the model again.

    Raises ModelError, DeviceError, or UsageError for settings that cannot be.

    >>> classifier = Classifier()
    >>> found = classifier.classify("tests/data/speech_french_woman.wav")
    >>> found.label, found.seconds
    ('speech', {'speech': 6.0})
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Model | None = None,
        device: str = "auto",
        *,
        hop_s: float | None = None,
        min_segment_s: float = MIN_SEGMENT_S,
        min_confidence: float = 0.0,
        binary: bool = False,
        thresholds: Mapping[str, float] | None = None,
        wav_only: bool = False,
    ) -> None:
        self.model = model if isinstance(model, Model) else Model.load(model, device)
        spec = self.model.metadata.spec
        hop_s = None if hop_s is None else _number("hop_s", hop_s)
        min_segment_s = _number("min_segment_s", min_segment_s)
        min_confidence = _number("min_confidence", min_confidence)
        if hop_s is not None and not MIN_HOP_S <= hop_s <= spec.clip_s:
            raise UsageError(
                f"The hop must be {MIN_HOP_S} s to the model's window of {spec.clip_s:g} s, not {hop_s:g} s."
            )
        if not 0 <= min_segment_s <= MAX_MIN_SEGMENT_S:
            raise UsageError(f"The minimum duration must be 0 to {MAX_MIN_SEGMENT_S:,.0f} s, not {min_segment_s:g} s.")
        if not 0 <= min_confidence <= 1:
            raise UsageError(f"The minimum confidence must be 0 to 1, not {min_confidence:g}.")
        self.spec = spec if hop_s is None else replace(spec, hop_s=hop_s)
        self.min_segment_s = min_segment_s
        self.min_confidence = min_confidence
        self.binary = bool(binary)
        self.decision = Decision("exclusive", ()) if binary else self.model.metadata.decision
        if thresholds:
            self.decision = _with_thresholds(self.decision, self.model.metadata.labels, thresholds, self.binary)
        self.wav_only = wav_only
        self._inputs = model_inputs(self.spec, self.model.input)
        # Samples between two windows of which the model computes what they share once; 0 where the hop is no multiple of it.
        step = (self.model.metadata.step_frames or 0) * self.spec.frame_step
        self._step = step if step and self.spec.hop_samples % step == 0 else 0
        self._features = model_input(self.spec, self.model.input) if self._step else None
        options = {
            "hop_s": hop_s,
            "min_segment_s": min_segment_s,
            "min_confidence": min_confidence,
            "binary": binary,
            "thresholds": thresholds and dict(thresholds),
            "wav_only": wav_only,
        }
        self._again = partial(Classifier, self.model.path, self.model.device, **options)  # type: ignore[arg-type]

    def __reduce__(self) -> tuple[Any, ...]:
        return self._again, ()

    def __repr__(self) -> str:
        return f"<ms_edge.Classifier of {self.model!r}>"

    def settings(self, raw: RawFormat | str | None = None) -> dict[str, Any]:
        """What an answer depends on beside the audio and the model."""
        return {
            "version": __version__,
            "hop_s": self.spec.hop_s,
            "min_segment_s": self.min_segment_s,
            "min_confidence": self.min_confidence,
            "binary": self.binary,
            "thresholds": dict(zip(self.model.metadata.labels, self.decision.thresholds, strict=False)) or None,
            "wav_only": self.wav_only,
            "raw": None if raw is None else str(raw),
        }

    def classify(
        self,
        source: Source,
        sample_rate_hz: int | None = None,
        *,
        raw: RawFormat | str | None = None,
        on_audio: Callable[[float], None] | None = None,
    ) -> Classification:
        """Classify a path, `-` (standard input), a binary file object, or an array of samples at `sample_rate_hz`.

        An array is (n,) or (n, channels), floats in [-1, 1] or integers of 16 or 32 bits. A file object that can seek is read
        from its beginning, another one as it comes. `raw` says what headerless PCM is: a `RawFormat`, or text as in
        `16000:1:s16le`. `on_audio` is called with the seconds of audio read since its last call. Memory does not grow with
        duration. Raises AudioError where the audio cannot be decoded or is too short, UsageError where arguments do not fit.

        >>> tone = 0.1 * np.sin(np.arange(32_000) / 10)
        >>> Classifier().classify(tone, sample_rate_hz=16_000).duration_s
        2.0
        """
        with open_audio(source, sample_rate_hz, raw=raw, wav_only=self.wav_only) as audio:
            found = self.window_scores(_counted(audio, self.spec.sample_rate_hz, on_audio))
            return self._judge(audio, found, self.settings(raw))

    def timeline(self, source: Source, sample_rate_hz: int | None = None) -> tuple[Segment, ...]:
        """The segments of `classify`: what is where in a recording, from its start to its end without gaps.

        >>> [(s.start_s, s.end_s, s.label) for s in Classifier().timeline("tests/data/music_zaz.wav")]
        [(0.0, 6.0, 'music')]
        """
        return self.classify(source, sample_rate_hz).segments

    def stream(self, blocks: Iterable[ArrayLike], sample_rate_hz: int) -> Iterator[Segment]:
        """Yield each window as a Segment as soon as its last sample has come; blocks are arrays as `classify` takes.

        Windows overlap where the hop is shorter than the clip, and are not smoothed: their labels are what is known now.
        Raises AudioError where the blocks end before there is enough to classify.

        >>> silence = [np.zeros(4_000, np.float32)] * 6
        >>> [(s.start_s, s.end_s, s.label) for s in Classifier(hop_s=0.5).stream(silence, 16_000)]
        [(0.0, 1.0, 'silence'), (0.5, 1.5, 'silence')]
        """
        yield from self.live(AudioArrays(blocks, sample_rate_hz))

    def live(self, audio: AudioSource) -> Iterator[Segment]:
        """`stream` for an open source of audio; nothing is read before the window before it has been yielded."""
        rate, labels = self.spec.sample_rate_hz, self.model.metadata.labels
        for batch in batches(audio.blocks(rate), self.spec, 1):
            # A window of less than itself is tiled, and comes only at the end.
            if audio.frames < min(MIN_DURATION_S, self.spec.clip_s) * audio.sample_rate_hz:
                raise _too_short(audio)
            found = self._scored(batch)
            start, row = int(found.starts[0]), found.scores[0]
            scores = dict(zip(labels, row.tolist(), strict=True))
            label = SILENCE if found.silent[0] else window_label(row, labels, self.decision)
            end_s = min(start / rate + self.spec.clip_s, audio.frames / audio.sample_rate_hz)
            probability = probability_of(label, scores)
            label = label if probability >= self.min_confidence else UNCERTAIN
            yield Segment(start / rate, end_s, label, probability, scores)

    def window_scores(self, blocks: Iterable[Float32]) -> WindowScores:
        """Score every window of a stream of mono blocks at the model's sample rate, in bounded memory."""
        none = WindowScores(
            np.empty(0, np.int64), np.empty((0, len(self.model.metadata.labels)), np.float32), np.empty(0, bool)
        )
        found = [none, *map(self._scored, batches(blocks, self.spec, self.windows_at_a_time))]
        return WindowScores(
            np.concatenate([part.starts for part in found]),
            np.concatenate([part.scores for part in found]),
            np.concatenate([part.silent for part in found]),
        )

    @property
    def windows_at_a_time(self) -> int:
        """How many windows of a recording are scored together."""
        spec = self.spec
        if self._step:  # as many as start and end within a run of so much audio
            return 1 + max(0, int(BATCH_S * spec.sample_rate_hz) - spec.clip_samples) // spec.hop_samples
        return max(1, min(int(BATCH_S / spec.clip_s), self.model.max_batch))

    def _scored(self, batch: Batch) -> WindowScores:
        return WindowScores(batch.starts, self._scores(batch), silent_windows(batch))

    def _scores(self, batch: Batch) -> Float32:
        """The scores of a batch's windows, (windows, labels)."""
        offsets = batch.offsets
        if self._features is None or len(offsets) == 1:
            return self.model.scores(self._inputs(batch.samples, offsets))
        # Only the last window of a stream, which ends where it does, may lie between two steps.
        shared = offsets if offsets[-1] % self._step == 0 else offsets[:-1]
        run = batch.samples[: int(shared[-1]) + self.spec.clip_samples]
        scores = self.model.run_scores(self._features(run))[shared // self._step]
        if len(shared) == len(offsets):
            return scores
        return np.concatenate([scores, self.model.scores(self._inputs(batch.samples, offsets[-1:]))])

    def _judge(self, audio: AudioSource, found: WindowScores, settings: dict[str, Any]) -> Classification:
        duration_s = audio.frames / audio.sample_rate_hz
        if duration_s < MIN_DURATION_S:
            raise _too_short(audio)
        labels, decision, rate = self.model.metadata.labels, self.decision, self.spec.sample_rate_hz
        owned = owned_samples(found.starts, self.spec.clip_samples, audio.frames * rate // audio.sample_rate_hz)
        # In milliseconds, as they are printed: so that printed segments leave no gap, and sum to what is printed of them.
        borders_s = np.concatenate(([0.0], np.round(owned.cumsum() / rate, 3)))
        borders_s[-1] = round(duration_s, 3)
        parts = segments(found.scores, found.silent, borders_s, labels, decision, self.min_segment_s)
        voting = ~found.silent if not found.silent.all() else slice(None)
        mean = found.scores[voting].mean(axis=0, dtype=np.float64)
        scores = dict(zip(labels, mean.tolist(), strict=True))
        likeliest = vote(parts, scores, decision)
        parts = doubted(parts, self.min_confidence)
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
            warnings=tuple(audio.warnings),
            file=audio.file,
            settings=settings,
            model=self.model.sha256,
            provider=self.model.provider,
        )


def _too_short(audio: AudioSource) -> AudioError:
    duration_s = audio.frames / audio.sample_rate_hz
    return AudioError(
        "too-short", f"{audio.name}: {duration_s:.3f} s of audio; at least {MIN_DURATION_S} s are needed."
    )


def vote(parts: Iterable[Segment], scores: dict[str, float], decision: Decision) -> str:
    """The label of a recording: of those its segments carry, silence aside, `exclusive`: the one with the largest mean score;
    `independent`: the one with most seconds, ties to the larger probability. Where all is silent, `silence`; where more is
    uncertain than is of any other label, `uncertain`.
    """
    seconds = seconds_by_label(parts)
    seconds.pop(SILENCE, None)
    uncertain_s = seconds.pop(UNCERTAIN, 0.0)
    if uncertain_s > max(seconds.values(), default=0.0):
        return UNCERTAIN
    if not seconds:
        return SILENCE
    if decision.kind == "exclusive":
        return max(seconds, key=lambda label: scores[label])
    return max(seconds, key=lambda label: (seconds[label], probability_of(label, scores)))


def seconds_by_label(parts: Iterable[Segment]) -> dict[str, float]:
    """How many seconds the segments give to each label, to the millisecond."""
    seconds: dict[str, float] = {}
    for part in parts:
        seconds[part.label] = seconds.get(part.label, 0.0) + part.end_s - part.start_s
    return {label: round(value, 3) for label, value in seconds.items()}


def _with_thresholds(
    decision: Decision, labels: tuple[str, ...], thresholds: Mapping[str, float], binary: bool
) -> Decision:
    """The decision with other thresholds for some labels. Raises UsageError if the model has none, or for a wrong label or value."""
    if binary:
        raise UsageError("Binary answers take the larger score and have no thresholds; give one of the two.")
    if decision.kind == "exclusive":
        raise UsageError(
            "This model's answer is the label with the largest score; only independent labels have thresholds."
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
    except OverflowError:  # an int too large for a float
        return float("inf")


def _counted(audio: AudioSource, sample_rate_hz: int, on_audio: Callable[[float], None] | None) -> Iterator[Float32]:
    before = 0
    for block in audio.blocks(sample_rate_hz):
        if on_audio:
            on_audio((audio.frames - before) / audio.sample_rate_hz)
            before = audio.frames
        yield block
