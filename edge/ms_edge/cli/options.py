"""The options that commands which classify have in common."""

from __future__ import annotations

from dataclasses import dataclass

from ms_edge.audio.raw import RawFormat
from ms_edge.audio.source import MAX_CHANNELS, Channels
from ms_edge.classifier import MIN_SEGMENT_S, Classifier
from ms_edge.errors import UsageError
from ms_edge.model.session import Model


# Without the methods for freezing, comparing and printing: generating them takes a millisecond of
# every start.
@dataclass(kw_only=True, eq=False, repr=False)
class ClassifierOptions:
    """How to read and judge audio; the fields are the options' names."""

    model: str | None
    device: str
    hop: float | None
    min_confidence: float
    threshold: list[str]
    binary: bool
    raw: str | None
    wav_only: bool
    decoder: str
    track: int
    channels: str

    def raw_format(self) -> RawFormat | None:
        """Return the format that --raw states.

        Raises UsageError if it is invalid, and if --raw, --wav-only and --decoder exclude one another.
        """
        if self.decoder == "ffmpeg" and (self.raw or self.wav_only):
            option = "--raw" if self.raw else "--wav-only"
            raise UsageError(f"{option} is for libsndfile, so it cannot be used with --decoder ffmpeg; leave one out.")
        if self.raw and self.wav_only:
            raise UsageError("--raw is audio without a header, and --wav-only refuses everything except WAV; give one.")
        return RawFormat.parse(self.raw) if self.raw else None

    def chosen_channels(self) -> Channels:
        """Return what --channels chooses; None for `mix`. Raises UsageError if it is invalid."""
        if self.channels == "mix":
            return None
        if self.channels == "each":
            return "each"
        if self.channels not in map(str, range(1, MAX_CHANNELS + 1)):
            raise UsageError(
                f"--channels must be mix, each or the number of a channel from 1 to {MAX_CHANNELS}, not {self.channels!r}."
            )
        return int(self.channels)

    def classifier(self, model: Model, min_segment_s: float | None = None) -> Classifier:
        """Return a classifier with these options. Raises UsageError for invalid values.

        `min_segment_s` is the value of --min-duration, None if it is not given.
        """
        return Classifier(
            model,
            hop_s=self.hop,
            min_segment_s=MIN_SEGMENT_S if min_segment_s is None else min_segment_s,
            min_confidence=self.min_confidence,
            binary=self.binary,
            thresholds=self.thresholds(),
            wav_only=self.wav_only,
            decoder=self.decoder,
            track=self.track,
        )

    def thresholds(self) -> dict[str, float]:
        """Return the values of --threshold LABEL=P; the last one for a label counts.

        Raises UsageError if one is not of this form.
        """
        found = {}
        for text in self.threshold:
            label, _, value = text.rpartition("=")
            try:
                found[label] = float(value)
            except ValueError:
                label = ""
            if not label:
                raise UsageError(f"--threshold takes LABEL=P, as in speech=0.6, not {text!r}.")
        return found


@dataclass(kw_only=True, eq=False, repr=False)
class FileOptions(ClassifierOptions):
    """The options of the commands that work on many files: `classify`, `report` and `cut`."""

    paths: list[str]
    recursive: bool
    jobs: int | None
    min_duration: float | None
    quiet: bool
    verbose: bool

    def require_jobs(self) -> None:
        """Raise UsageError if --jobs is invalid."""
        if self.jobs is not None and self.jobs < 1:
            raise UsageError(f"--jobs must be 1 or more, not {self.jobs}.")
