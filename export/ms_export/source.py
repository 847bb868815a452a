"""Read the network to export: from a run folder of `ms-train fit`, or from a Keras model file and a
front-end spec.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import keras
import numpy as np
from numpy.typing import NDArray

from ms_edge.errors import MsEdgeError, UsageError, first_line
from ms_edge.features.spec import FrontEndSpec
from ms_edge.features.windows import windows
from ms_edge.model.levels import LevelScale
from ms_export.cases import Real
from ms_export.errors import ExportError
from ms_train.datasets.by_name import dataset_by_name, dataset_of_run
from ms_train.datasets.clips import read_all
from ms_train.datasets.dataset import Recording
from ms_train.errors import DataError
from ms_train.scores.outputs import of_windows, with_logits
from ms_train.training import level
from ms_train.training.runs import TrainedRun, decision_of

Item = TypeVar("Item")

CLIPS_PER_LABEL = 100
MIN_CLIPS_PER_LABEL = 20
REAL_S = 60.0  # how much of a recording the grid uses


@dataclass(frozen=True)
class WithLevel:
    """The network of a run with its third output, the level of the music (batch, 2), and how the
    levels of windows are combined.
    """

    network: keras.Model
    scale: LevelScale


@dataclass(frozen=True)
class Run(TrainedRun):
    """One trained model, the record of its training, and the recordings to compare its export with.

    `level` is None if the model file is to have scores only.
    """

    level: WithLevel | None = None

    def with_level(self, folder: Path) -> Run:
        """Return the run with the second output that `ms-train level` left in its folder.

        Raises RunError(`bad-run`) if it left none.
        """
        branch, scale = level.read(folder)
        return replace(self, level=WithLevel(level.with_level(self.network, branch), scale))

    @classmethod
    def of_keras(cls, path: Path, spec_path: Path, labels: tuple[str, ...], kind: str) -> Run:
        """Read a Keras model that was trained elsewhere, on features of the front end that a spec
        file (JSON) describes.

        `kind` is `exclusive` or `independent`. Raises MsEdgeError if a file cannot be read or the
        files do not fit each other.
        """
        if len(labels) < 2:
            raise UsageError("Give --labels two names or more, in the order of the network's outputs: music,speech")
        try:
            spec = FrontEndSpec.from_json(spec_path.read_text("utf-8"))
        except (OSError, ValueError, MsEdgeError) as error:
            raise ExportError(
                "bad-spec", f"{spec_path}: cannot be read as a front-end spec ({first_line(error)})"
            ) from None
        try:
            path.stem.encode()
        except UnicodeEncodeError:
            raise ExportError(
                "bad-keras", f"{path!s:.100}: rename it; its name goes into the model and is not valid Unicode."
            ) from None
        try:
            content = path.read_bytes()
            network = keras.models.load_model(path, compile=False)
        except Exception as error:  # Keras raises many types
            raise ExportError("bad-keras", f"{path}: cannot be read as a Keras model ({first_line(error)}).") from None
        if recurrent := [
            layer.name for layer in network.layers if isinstance(layer, keras.layers.RNN | keras.layers.Bidirectional)
        ]:
            raise ExportError(
                "bad-network",
                f"{path}: its layer {recurrent[0]} is recurrent; ms-export converts no loops, because ms-edge runs none.",
            )
        facts: dict[str, Any] = {
            "dataset": "not recorded",
            "sources": [],
            "licences": [],
            "seed": None,
            "keras_sha256": hashlib.sha256(content).hexdigest(),
            "versions": {},
        }
        try:
            served = with_logits(network, labels, kind, spec.feature_shape)
        except MsEdgeError:
            raise
        except Exception as error:
            raise ExportError("bad-network", f"{path}: cannot be exported ({first_line(error)}).") from None
        return cls(
            served,
            spec,
            path.stem,
            labels,
            decision_of(kind, labels),
            facts,
            {},
            {"train": [], "val": [], "test": []},
            {},
            {},
        )

    @property
    def any_length(self) -> bool:
        """Whether the network takes windows of any length: any number of frames, and not as a mean
        over windows.
        """
        if of_windows(self.network):
            return False
        return bool(self.network.input_shape[1 if self.spec.layout == "frames_bins" else 2] is None)

    def in_windows_of(self, clip_s: float) -> Run:
        """Return the same run with windows of another length, in seconds.

        Raises UsageError if the network takes only one length, or not this one.
        """
        if clip_s == self.spec.clip_s:
            return self
        if not self.any_length:
            raise UsageError(f"{self.recipe}: its network takes windows of {self.spec.clip_s:g} s; leave out --window.")
        spec = replace(self.spec, clip_s=clip_s, hop_s=min(self.spec.hop_s, clip_s))
        try:
            _, scores = self.network(np.zeros((1, *spec.feature_shape), np.float32), training=False)
            answered = bool(np.isfinite(scores).all())
        except Exception:  # TensorFlow raises many types
            answered = False
        if not answered:
            raise UsageError(f"{self.recipe}: its network cannot answer windows as short as {clip_s:g} s.")
        return replace(self, spec=spec)

    def held_out(self, data: str | None, archive: Path | None) -> dict[str, list[Recording]]:
        """Return recordings of each label for the comparison: all of `data` if given, else those
        held out from training.

        Those are the recordings of the test part of the run's dataset, or of the validation part if
        a label has none there. A run that learnt corrections has only these, perhaps not of every
        label. For a Keras model without a run and without `data` there are none, nor for the bundled
        model where its dataset is not: a line on stderr says so.
        """
        if not data and "data" not in self.facts:
            return {}
        try:
            dataset = dataset_by_name(data, archive) if data else dataset_of_run(self.facts["data"], archive)
        except DataError:
            if data or not self.bundled:
                raise
            print(
                f"note: {self.facts['data']} is not here, so the comparison is of synthetic signals alone; "
                "name labelled recordings with --data to compare on them too.",
                file=sys.stderr,
            )
            return {}
        test, val = set(self.split["test"]), set(self.split["val"])
        found: dict[str, list[Recording]] = {}
        for label in self.labels:
            mine = [recording for recording in dataset.recordings if recording.label == label]
            held_out = [each for each in mine if each.name in test] or [each for each in mine if each.name in val]
            found[label] = mine if data or self.corrected else held_out
        return {label: mine for label, mine in found.items() if mine} if self.corrected else found

    def real_clips(self, recordings: dict[str, list[Recording]]) -> dict[str, NDArray[np.float32]]:
        """Return up to 100 clips (clip_samples,) of each label by name, evenly from all its
        recordings, and at least 20.

        Clips start at multiples of a sixteenth of their length. Where that gives a label too few,
        its recordings are repeated to twice a clip and cut at every 32nd: one recording then gives
        33. Raises ExportError(`too-few-clips`) if no recording of a label can be read.
        """
        clips: dict[str, NDArray[np.float32]] = {}
        for label, of_label in recordings.items():
            found = self._clips_of(of_label, f"{label} to compare", least=1, per_clip=16)
            if len(found) < MIN_CLIPS_PER_LABEL:
                found = self._clips_of(of_label, f"{label} again, as it has few", least=2, per_clip=32)
            if not found:
                raise ExportError(
                    "too-few-clips",
                    f"No recording of {label!r} can be read to compare with TensorFlow; name recordings with --data.",
                )
            clips |= {name: found[name] for name in _spread(list(found))}
        return clips

    def _clips_of(
        self, recordings: list[Recording], what: str, *, least: int, per_clip: int
    ) -> dict[str, NDArray[np.float32]]:
        """Return the clips (clip_samples,) of recordings by name, `per_clip` for every clip's length.

        A recording shorter than `least` clips is repeated to twice a clip, since it would give one
        clip, or few.
        """
        spec = replace(self.spec, hop_s=self.spec.clip_s / per_clip)
        found = {}
        for recording, audio in read_all(_spread(recordings), spec.sample_rate_hz, what):
            short = len(audio) < least * spec.clip_samples
            whole = np.resize(audio[:], 2 * spec.clip_samples) if short else audio[:]
            for start, samples in windows([whole], spec):
                found[f"{recording.name} at {start / spec.sample_rate_hz:.2f} s"] = samples
        return found

    def real_signals(self, recordings: dict[str, list[Recording]]) -> dict[str, Real]:
        """Return one recording of each label for the grid: the first one, if it can be read."""
        found = {}
        for label, of_label in recordings.items():
            for _, audio in read_all(of_label[:1], self.spec.sample_rate_hz, f"{label} for the grid"):
                found[label] = Real(audio[: round(REAL_S * self.spec.sample_rate_hz)], self.spec.sample_rate_hz)
        return found


def _spread(items: list[Item]) -> list[Item]:
    """Return at most CLIPS_PER_LABEL of the items, evenly from the first to the last."""
    count = min(len(items), CLIPS_PER_LABEL)
    return [items[round(at)] for at in np.linspace(0, len(items) - 1, count)]
