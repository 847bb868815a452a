"""Metrics of scores against labels, per clip and per recording."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from ms_train.clips import Clips
from ms_train.outputs import with_logits

Float32 = NDArray[np.float32]


def predict(
    network: keras.Model, labels: tuple[str, ...], decision: str, features: Float32, batch_size: int = 64
) -> Float32:
    """Scores (n, labels) of features (n, ...): probabilities in label order, as they are served."""
    _, scores = with_logits(network, labels, decision).predict(features, batch_size=batch_size, verbose=0)
    return np.asarray(scores, np.float32)


def accuracy(scores: Float32, clips: Clips) -> dict[str, Any]:
    """Share of clips and of recordings whose largest score is the right label, and the recordings got wrong.

    A recording's scores are the mean over its clips. Recordings with none of the labels are left out.
    """
    labelled = clips.targets.sum(axis=1) > 0
    clip_right = scores.argmax(axis=1)[labelled] == clips.targets.argmax(axis=1)[labelled]
    right, wrong = 0, []
    for index in np.unique(clips.recording[labelled]):
        mine = clips.recording == index
        if scores[mine].mean(axis=0).argmax() == clips.targets[mine][0].argmax():
            right += 1
        else:
            wrong.append(clips.names[index])
    files = right + len(wrong)
    return {
        "clips": int(labelled.sum()),
        "clip_accuracy": round(float(clip_right.mean()), 5),
        "files": files,
        "file_accuracy": round(right / files, 5),
        "wrong_files": wrong,
    }
