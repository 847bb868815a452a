"""A run folder of `ms-train fit`, read back."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import keras
import numpy as np
from numpy.typing import NDArray

from ms_edge.errors import MsEdgeError
from ms_edge.spec import FrontEndSpec
from ms_edge.windows import windows
from ms_train.clips import read_all
from ms_train.datasets.by_name import dataset_by_name

Item = TypeVar("Item")

CLIPS_PER_LABEL = 100
MIN_CLIPS_PER_LABEL = 20


@dataclass(frozen=True)
class Run:
    """One trained model with everything that was recorded of its training."""

    network: keras.Model
    spec: FrontEndSpec
    recipe: str
    labels: tuple[str, ...]
    decision: str
    facts: dict[str, Any]
    metrics: dict[str, Any]
    split: dict[str, list[str]]
    data: dict[str, str]

    @classmethod
    def load(cls, folder: Path) -> Run:
        """Read a run folder. Raises MsEdgeError(`bad-run`) where it is not one."""
        try:
            facts, metrics, split, data = (
                json.loads((folder / f"{name}.json").read_text("utf-8")) for name in ("run", "metrics", "split", "data")
            )
            spec = FrontEndSpec.from_json((folder / "spec.json").read_text("utf-8"))
            network = keras.models.load_model(folder / "model.keras", compile=False)
            if facts["frontend_sha256"] != spec.digest:
                raise ValueError("spec.json is not the spec it was trained with")
            found = cls(
                network,
                spec,
                str(facts["recipe"]),
                tuple(facts["labels"]),
                str(facts["decision"]),
                facts,
                metrics,
                {part: list(split[part]) for part in ("train", "val", "test")},
                dict(data),
            )
            for part in metrics["val"], *([metrics["test"]] if found.split["test"] else []):
                float(part["clip_accuracy"])
        except (OSError, ValueError, LookupError, TypeError, MsEdgeError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise MsEdgeError("bad-run", f"{folder}: not a run folder of ms-train fit ({reason}).") from None
        return found

    def real_clips(self, data: str | None, archive: Path | None) -> dict[str, NDArray[np.float32]]:
        """Up to 100 named clips (clip_samples,) of each label: those held out from training, unless `data` names others.

        The held-out fold if there is one, else the validation part, of the dataset the run names; or all of `data`. Clips
        start every sixteenth of a clip, taken evenly from all recordings. Raises MsEdgeError(`too-few-clips`) where a label
        has under 20.
        """
        dataset = dataset_by_name(data or self.facts["data"], archive)
        held_out = set(self.split["test"] or self.split["val"])
        if data:  # what was named: all of it
            held_out = {recording.name for recording in dataset.recordings}
        spec = replace(self.spec, hop_s=self.spec.clip_s / 16)
        clips: dict[str, NDArray[np.float32]] = {}
        for label in self.labels:
            recordings = [
                recording for recording in dataset.recordings if recording.label == label and recording.name in held_out
            ]
            found = {}
            for recording, audio in read_all(_spread(recordings), spec.sample_rate_hz, f"{label} to compare"):
                for start, samples in windows([audio], spec):
                    found[f"{recording.name} at {start / spec.sample_rate_hz:.2f} s"] = samples
            if len(found) < MIN_CLIPS_PER_LABEL:
                raise MsEdgeError(
                    "too-few-clips",
                    f"Only {len(found)} clips of {label!r} to compare with TensorFlow; {MIN_CLIPS_PER_LABEL} are needed: "
                    "name more recordings with --data.",
                )
            clips |= {name: found[name] for name in _spread(list(found))}
        return clips


def _spread(items: list[Item]) -> list[Item]:
    """At most CLIPS_PER_LABEL of them, evenly from the first to the last."""
    count = min(len(items), CLIPS_PER_LABEL)
    return [items[round(at)] for at in np.linspace(0, len(items) - 1, count)]
