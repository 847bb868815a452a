"""How right and how fast the installed model is, on a folder of labelled recordings.

    python -m benchmarks PATH          PATH has a sub-folder per label: PATH/speech/*.flac, PATH/music/*.flac

Accuracy per recording and per crop of --crop-s seconds at whole multiples of it (crops with an RMS of -60 dBFS or less are
left out), with 95 % bootstrap intervals over recordings; then the time of the whole path from the file on, against the floor:
reading the files and transforming every frame once. Answers are checked before anything is timed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.fft import rfft

from ms_edge.audio.file import read_mono
from ms_edge.classifier import Classifier
from ms_edge.jobs.inputs import Inputs
from ms_edge.model.session import Model
from ms_edge.selftest.golden import golden_deviations


def main() -> int:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--crop-s", type=float, default=1.0)
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    model = Model.load(args.model, "cpu")
    for stage, found in golden_deviations(model).failed.items():
        print(f"benchmarks: {model.path}: wrong on this machine: {stage} differ by {found}.", file=sys.stderr)
        return 1
    classifier = Classifier(model)
    labelled = {
        path: label.name for label in sorted(args.path.iterdir()) if label.is_dir() for path in Inputs([str(label)])
    }
    print(
        json.dumps(
            {**accuracy(classifier, labelled, args.crop_s), **speed(classifier, list(labelled), args.repeat)}, indent=2
        )
    )
    return 0


def accuracy(classifier: Classifier, labelled: dict[str, str], crop_s: float) -> dict[str, object]:
    """By the larger of the two scores, whatever the model's own rule: the binary question."""
    spec = classifier.model.metadata.spec
    crop = round(crop_s * spec.sample_rate_hz)
    wrong, crops_right, crops = [], [], []
    for path, label in labelled.items():
        scores = classifier.classify(path).scores
        if max(scores, key=scores.__getitem__) != label:
            wrong.append(path)
        audio = read_mono(path, spec.sample_rate_hz)
        pieces = [audio[start : start + crop] for start in range(0, len(audio) - crop + 1, crop)]
        pieces = [piece for piece in pieces if np.sqrt(np.mean(piece.astype(np.float64) ** 2)) > 1e-3]
        means = [classifier.window_scores([piece]).scores.mean(axis=0) for piece in pieces]
        crops_right.append(sum(classifier.model.metadata.labels[int(mean.argmax())] == label for mean in means))
        crops.append(len(pieces))
    return {
        "recordings": len(labelled),
        "recording_accuracy": 1 - len(wrong) / len(labelled),
        "wrong_recordings": wrong,
        "crop_s": crop_s,
        "crops": sum(crops),
        "crop_accuracy": sum(crops_right) / sum(crops),
        "crop_accuracy_95": bootstrap(np.array(crops_right), np.array(crops)),
    }


def bootstrap(right: np.ndarray, total: np.ndarray, rounds: int = 2000) -> tuple[float, float]:
    """95 % interval of sum(right) / sum(total), resampling recordings."""
    drawn = np.random.default_rng(0).integers(0, len(right), (rounds, len(right)))
    shares = right[drawn].sum(axis=1) / total[drawn].sum(axis=1)
    low, high = np.percentile(shares, [2.5, 97.5])
    return float(low), float(high)


def speed(classifier: Classifier, paths: list[str], repeat: int) -> dict[str, float]:
    """Times real time on one core, and against the floor, as medians of interleaved repetitions."""
    spec = classifier.model.metadata.spec
    seconds = sum(classifier.classify(path).duration_s for path in paths)

    def floor() -> None:
        for path in paths:
            audio = read_mono(path, spec.sample_rate_hz)
            frames = np.lib.stride_tricks.sliding_window_view(audio, spec.frame_length)[:: spec.frame_step]
            for start in range(0, len(frames), 256):
                rfft(frames[start : start + 256], n=spec.fft_length)

    def whole() -> None:
        for path in paths:
            classifier.classify(path)

    times = [(_time(whole), _time(floor)) for _ in range(repeat)]
    return {
        "audio_s": seconds,
        "times_real_time": seconds / statistics.median(ours for ours, _ in times),
        "times_floor": statistics.median(ours / least for ours, least in times),
    }


def _time(call: Callable[[], None]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
