"""A run folder of `ms-train fit`, read back."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from ms_edge.errors import MsEdgeError
from ms_edge.spec import FrontEndSpec
from ms_edge.windows import windows
from ms_train.datasets.by_name import dataset_by_name

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
        except (OSError, ValueError) as error:
            raise MsEdgeError(
                "bad-run", f"{folder}: not a run folder of ms-train fit ({str(error).splitlines()[0]})."
            ) from None
        return cls(
            network, spec, facts["recipe"], tuple(facts["labels"]), facts["decision"], facts, metrics, split, data
        )

    def real_clips(self, data: str | None, archive: Path | None) -> dict[str, NDArray[np.float32]]:
        """Up to 100 named clips (clip_samples,) of each label from the recordings that were not trained on.

        The held-out fold if there is one, else the validation part, of the dataset the run names or of `data`. Clips
        start every sixteenth of a clip, taken evenly from all recordings. Raises MsEdgeError(`too-few-clips`) where a label
        has under 20.
        """
        dataset = dataset_by_name(data or self.facts["data"], archive)
        held_out = set(self.split["test"] or self.split["val"])
        if data:  # another dataset: all of it
            held_out = {recording.name for recording in dataset.recordings}
        spec = replace(self.spec, hop_s=self.spec.clip_s / 16)
        clips: dict[str, NDArray[np.float32]] = {}
        for label in self.labels:
            recordings = [
                recording for recording in dataset.recordings if recording.label == label and recording.name in held_out
            ]
            step = max(1, len(recordings) // CLIPS_PER_LABEL)
            found = {}
            for recording in recordings[::step]:
                for start, samples in windows([recording.read(spec.sample_rate_hz)], spec):
                    found[f"{recording.name} at {start / spec.sample_rate_hz:.2f} s"] = samples
            if len(found) < MIN_CLIPS_PER_LABEL:
                raise MsEdgeError(
                    "too-few-clips",
                    f"Only {len(found)} clips of {label!r} to compare with TensorFlow; {MIN_CLIPS_PER_LABEL} are needed: "
                    "name more recordings with --data.",
                )
            names = list(found)
            clips |= {name: found[name] for name in names[:: max(1, len(names) // CLIPS_PER_LABEL)][:CLIPS_PER_LABEL]}
        return clips
