"""A run folder of `ms-train fit`, read back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from ms_edge.errors import MsEdgeError
from ms_edge.metadata import Decision
from ms_edge.spec import FrontEndSpec
from ms_train.console import first_line
from ms_train.outputs import with_logits

PARTS = ("train", "val", "test")
INDEPENDENT_THRESHOLD = 0.5


@dataclass(frozen=True)
class TrainedRun:
    """A trained network and what its folder records of the training.

    `network` has two outputs, logits and scores (`ms_train.outputs.with_logits`). `facts` are run.json's, `split` names the
    recordings of each part, `sha256` is the digest of each, `files` that of the file each was cut from, or is.
    """

    network: keras.Model
    spec: FrontEndSpec
    recipe: str
    labels: tuple[str, ...]
    decision: Decision
    facts: dict[str, Any]
    metrics: dict[str, Any]
    split: dict[str, list[str]]
    sha256: dict[str, str]
    files: dict[str, str]

    @classmethod
    def load(cls, folder: Path) -> TrainedRun:
        """Read a run folder. Raises MsEdgeError(`bad-run`) where it is not one of a training that came to its end."""
        try:
            facts, metrics, split, digests = (
                json.loads((folder / f"{name}.json").read_text("utf-8")) for name in ("run", "metrics", "split", "data")
            )
            spec = FrontEndSpec.from_json((folder / "spec.json").read_text("utf-8"))
            if facts["frontend_sha256"] != spec.digest:
                raise ValueError("spec.json is not the spec it was trained with")
            network = keras.models.load_model(folder / "model.keras", compile=False)
            labels, kind = tuple(facts["labels"]), str(facts["decision"])
            named = {part: list(split[part]) for part in PARTS}
            for part in metrics["val"], *([metrics["test"]] if named["test"] else []):
                float(part["clip_accuracy"])
            {digests[name] for names in named.values() for name in names}
            float(facts["seed"])
            return cls(
                with_logits(network, labels, kind, spec.feature_shape),
                spec,
                str(facts["recipe"]),
                labels,
                decision_of(kind, labels),
                facts,
                metrics,
                named,
                dict(digests),
                files_of(folder),
            )
        except Exception as error:  # Keras raises what it likes
            raise MsEdgeError("bad-run", f"{folder}: not a run folder of ms-train fit ({first_line(error)}).") from None


def files_of(folder: Path) -> dict[str, str]:
    """The digest of the file that each recording of a run was cut from, or is."""
    digests = json.loads((folder / "data.json").read_text("utf-8"))
    path = folder / "recordings.json"
    more = json.loads(path.read_text("utf-8")) if path.exists() else {}  # a run of an older version has none
    return {name: more[name]["file_sha256"] if name in more else digest for name, digest in digests.items()}


def decision_of(kind: str, labels: tuple[str, ...]) -> Decision:
    """How scores become a label, `exclusive` or `independent` by name. Raises MsEdgeError(`bad-run`) for another name."""
    if kind not in ("exclusive", "independent"):
        raise MsEdgeError("bad-run", f"the decision must be 'exclusive' or 'independent', not {kind!r}")
    return Decision(kind, (INDEPENDENT_THRESHOLD,) * len(labels) if kind == "independent" else ())
