"""Test whether loudness, bandwidth, pauses or the mean spectrum alone separate speech from music,
in the data and after augmentation.

    python -m benchmarks.quality.shortcuts --corpus DIR -o DIR [--model FILE] [--windows N]

Windows of the model's length are drawn in two ways. *As recorded*: speech or music from a random
source. *As heard*: as training draws them (`Scenes.draw` and the augmentation of the recipe
`mel_residual`), without mixtures and without clips of neither. Logistic regressions
(scikit-learn's, on standardised numbers) get only one of these inputs:

* *loudness*: the RMS, in dB of full scale;
* *loudness and peak*: the RMS and the peak, in dB of full scale, and thus also the crest factor;
* *bandwidth*: the shares of the energy above 2, 4 and 6 kHz, and the frequency below which 95 % of
  it lie;
* *pauses*: the share of frames of 20 ms that are more than 20 dB below the window's RMS;
* *mean spectrum*: the recipe's mel bands, averaged over time, with the window at an RMS of -20 dB
  of full scale and without the mean over bands.

They are trained on windows of the corpus's part `train`, and tested on the same windows (`train`;
with so few weights this is a fair test) and on windows of `val`, from other packages and speakers.
Accuracy is at a probability of 0.5; speech and music are equally frequent. A shortcut that works on
windows as heard remains for a network in spite of the augmentation; one that does not was removed
by it. The model's own answers, by the larger score, are shown for comparison.

Decoded audio is cached where `ms-train fit` keeps its cache. Writes shortcuts.json, shortcuts.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from ms_edge.arrays import Float32
from ms_edge.classifier import Classifier
from ms_edge.errors import MsEdgeError
from ms_edge.features.frontend import FrontEnd
from ms_edge.features.spec import FrontEndSpec
from ms_train.augment.scenes import Scenes
from ms_train.datasets.cache import Cache, default_folder
from ms_train.datasets.clips import read_all
from ms_train.datasets.open_corpus import open_corpus
from ms_train.evaluation.shortcuts import LEAST, bandwidth, decibels, loudness, pauses, regression, root_mean_square
from ms_train.recipes.by_name import get_recipe
from ms_train.recipes.recipe import Recipe
from ms_train.signals import Augment
from ms_train.tables import markdown_table
from ms_train.training.rendering import pool_of, scenes_of

Float64 = NDArray[np.float64]
Windows = tuple[Float32, NDArray[np.bool_]]  # (n, samples), and whether each is music (n,)

RECIPE = "mel_residual"
WAYS = ("as recorded", "as heard")
TRAIN_WINDOWS, VAL_SHARE = 10_000, 0.5
LEVEL = 0.1  # RMS of windows for the mean spectrum


def main() -> int:
    """Measure, print the table, and write the files."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality.shortcuts",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--model", type=Path, help="model file (default: the bundled model)")
    parser.add_argument(
        "--windows",
        type=int,
        default=TRAIN_WINDOWS,
        help="windows to train on, drawn in each way; half as many for the test",
    )
    args = parser.parse_args()
    recipe = get_recipe(RECIPE)
    try:
        classifier = Classifier(args.model, "cpu")
        drawn = {}
        for number, (part, count) in enumerate({"train": args.windows, "val": round(VAL_SHARE * args.windows)}.items()):
            scenes = scenes_of_part(args.corpus, part, recipe)
            drawn[part] = {way: draw(scenes, way, recipe.augment, count, seed=number) for way in WAYS}
    except MsEdgeError as error:
        print(f"shortcuts: {error}", file=sys.stderr)
        return 1
    numbers = {
        "model": classifier.model.sha256,
        "ms_edge": version("ms-edge"),
        "recipe": RECIPE,
        "windows": {part: len(next(iter(ways.values()))[1]) for part, ways in drawn.items()},
        "features": {name: compared(see, drawn["train"], drawn["val"]) for name, see in features(recipe.spec).items()},
        "network": {way: answered(classifier, windows) for way, windows in drawn["val"].items()},
    }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "shortcuts.json").write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")
    text = markdown(numbers)
    (args.out / "shortcuts.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


def scenes_of_part(corpus: Path, part: str, recipe: Recipe) -> Scenes:
    """Return the recordings and rooms of a part, ready to draw from."""
    dataset, cache = open_corpus(corpus), Cache(default_folder())
    chosen = [recording for recording in dataset.recordings if recording.split == part]
    audio = list(read_all(chosen, recipe.spec.sample_rate_hz, f"the part {part}", cache))
    return scenes_of(pool_of(audio, dataset, recipe, cache), recipe, part, cache)


def draw(scenes: Scenes, way: str, augment: Augment, count: int, seed: int) -> Windows:
    """Return windows of speech or music alone, as recorded or as training draws them."""
    pool, rng = scenes.pool, np.random.default_rng([seed, WAYS.index(way)])
    length, rate_hz = pool.spec.clip_samples, pool.spec.sample_rate_hz
    music = pool.labels.index("music")
    windows, targets = np.empty((count, length), np.float32), np.empty(count, bool)
    for number in tqdm(range(count), desc=f"drawing {way}", unit="window", file=sys.stderr, disable=None):
        if way == "as recorded":
            label = pool.labels[rng.integers(len(pool.labels))]
            windows[number], targets[number] = pool.window(label, length, rng), label == "music"
            continue
        window, target = scenes.draw(length, rng)
        while target.sum() != 1:  # neither, both, or an unclear label (NaN)
            window, target = scenes.draw(length, rng)
        windows[number], targets[number] = augment(window, rng, rate_hz), target[music] > 0
    return windows, targets


def features(spec: FrontEndSpec) -> dict[str, Callable[[Float32], Float64]]:
    """Return by name the functions from a window (samples,) to a regression's input (numbers,)."""
    front_end, rate_hz = FrontEnd(spec), spec.sample_rate_hz

    def loudness_and_peak(window: Float32) -> Float64:
        return np.array([*loudness(window), decibels(np.abs(window).max())])

    def mean_spectrum(window: Float32) -> Float64:
        found = front_end.features(window * np.float32(LEVEL / max(root_mean_square(window), LEAST))).astype(float)
        bands = found.mean(axis=1 if spec.layout == "bins_frames" else 0)
        return bands - bands.mean()

    return {
        "loudness": loudness,
        "loudness and peak": loudness_and_peak,
        "bandwidth": partial(bandwidth, sample_rate_hz=rate_hz),
        "pauses": partial(pauses, sample_rate_hz=rate_hz),
        "mean spectrum": mean_spectrum,
    }


def compared(
    see: Callable[[Float32], Float64], train: Mapping[str, Windows], val: Mapping[str, Windows]
) -> dict[str, dict[str, dict[str, float]]]:
    """Return AUC and accuracy of each regression, on its training windows (`train`) and on windows
    of `val` drawn in each way.
    """
    asked = {way: (np.stack([see(window) for window in windows]), music) for way, (windows, music) in val.items()}
    found: dict[str, dict[str, dict[str, float]]] = {}
    for way, (windows, music) in train.items():
        seen = np.stack([see(window) for window in windows])
        model = regression().fit(seen, music)
        found[way] = {
            name: scored(model.predict_proba(numbers)[:, 1] - 0.5, truth)
            for name, (numbers, truth) in {"train": (seen, music), **asked}.items()
        }
    return found


def answered(classifier: Classifier, windows: Windows) -> dict[str, float]:
    """Return the same for the model, whose answer is the larger of its two scores."""
    labels = classifier.model.metadata.labels
    scores = np.concatenate(
        [classifier.window_scores([window]).scores.mean(axis=0, keepdims=True) for window in windows[0]]
    )
    return scored(scores[:, labels.index("music")] - scores[:, labels.index("speech")], windows[1])


def scored(music_over_speech: NDArray[np.floating], music: NDArray[np.bool_]) -> dict[str, float]:
    """Return the area under the ROC curve, and the share of right windows if values over 0 mean
    music.
    """
    return {
        "auc": float(roc_auc_score(music, music_over_speech)),
        "accuracy": float(np.mean((music_over_speech > 0) == music)),
    }


def markdown(numbers: Mapping[str, Any]) -> str:
    """Return a table with a row for each regression: AUC / accuracy in %."""
    cells = [(learnt, asked) for learnt in WAYS for asked in ("train", *WAYS)]
    heads = [f"{learnt}: {asked if asked == 'train' else f'val {asked}'}" for learnt, asked in cells]
    rows = [
        [name, *(_cell(found[learnt][asked]) for learnt, asked in cells)] for name, found in numbers["features"].items()
    ]
    network = {"train": None, **numbers["network"]}
    rows.append(["the model", *(_cell(network[asked]) for _, asked in cells)])
    count = numbers["windows"]
    lines = [markdown_table(["seen; learnt", *heads], rows)]
    lines.append(
        f"\nAUC / accuracy in %, music against speech; {count['train']:,} windows learnt, {count['val']:,} asked."
    )
    return "\n".join(lines) + "\n"


def _cell(found: Mapping[str, float] | None) -> str:
    return "" if found is None else f"{found['auc']:.3f} / {100 * found['accuracy']:.1f}"


if __name__ == "__main__":
    sys.exit(main())
