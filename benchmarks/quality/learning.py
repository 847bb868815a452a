"""Estimate what more data, of the same or of other kinds, would bring: train the recipe
`mel_residual` on less.

    python -m benchmarks.quality.learning --corpus DIR --tests DIR -o DIR [--epochs N] [--seeds N] [--folds N]

Each training is the whole recipe, except for its epochs. *Shares*: it gets a quarter, half or all
of the sources (packages; in one package, languages) of each label, chosen by seed. A smaller share
is a subset of each larger one, and the number of windows stays the same.
*Folds*: it gets all sources except one of speech and one of music, beginning with those of most
recordings, and is tested on one-second windows of these two.

Tests are one-second windows of `val`, and the one-second tests that `benchmarks.quality.accuracy`
has cut (--tests is its OUT/tests). The larger probability is the answer; neither is right if both
are under 0.5. Nothing is chosen by these numbers. They show what the packages of the corpus can
teach.

Writes a run folder for each training, which a second run reads or resumes instead of training
again, and learning.json, learning.md, learning.png.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import multiprocessing
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import keras
import matplotlib
import numpy as np

from benchmarks.quality.testsets import NEITHER, Clip
from ms_edge.arrays import Float32
from ms_edge.audio.file import read_mono
from ms_edge.errors import MsEdgeError
from ms_train.augment.pool import Pool
from ms_train.datasets.cache import Cache, default_folder
from ms_train.datasets.clips import read_all
from ms_train.datasets.dataset import Dataset, Recording
from ms_train.datasets.open_corpus import open_corpus
from ms_train.errors import DataError
from ms_train.frontend import FrontEndLayer, clip_features
from ms_train.recipes.by_name import get_recipe
from ms_train.recipes.recipe import Recipe
from ms_train.scores.metrics import predict
from ms_train.tables import markdown_table
from ms_train.training.fit import Options, fit

Asked = tuple[Float32, Sequence[str]]  # windows (n, samples), and the truth of each

RECIPE = "mel_residual"
SHARES = (0.25, 0.5, 1.0)
TESTS = ("test_a-1s", "noise-1s", "gtzan-1s")
WINDOWS = 600  # windows of each label
BATCH = 256


def main() -> int:
    """Train, test, print the table, and write the files."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality.learning",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--tests", type=Path, required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=2, help="number of trainings for each share")
    parser.add_argument("--folds", type=int, default=3)
    args = parser.parse_args()
    recipe = get_recipe(RECIPE)
    try:
        dataset = open_corpus(args.corpus)
        asked = {**{test: of_test(args.tests, test, recipe) for test in TESTS}, **of_val(dataset, recipe)}
        found = {"recipe": RECIPE, "epochs": args.epochs, "shares": [], "folds": []}
        for share in SHARES:
            for seed in range(args.seeds):
                part = with_share(dataset, share, seed)
                network = trained(part, args, f"share-{share:g}-{seed}", seed)
                numbers = {
                    "share": share,
                    "seed": seed,
                    "sources": sources_of(part),
                    **answers(network, recipe, dataset, asked),
                }
                found["shares"].append(numbers)
                print(json.dumps(numbers), flush=True)
        for fold in range(args.folds):
            part, left = without(dataset, fold)
            network = trained(part, args, f"without-{fold}", 0)
            held = {f"held {label}": windows_of(dataset, [source], label, recipe) for label, source in left.items()}
            full = keras.saving.load_model(args.out / f"share-{SHARES[-1]:g}-0" / "model.keras", compile=False)
            numbers = {
                "left": left,
                **answers(network, recipe, dataset, held),
                "heard": answers(full, recipe, dataset, held),
            }
            found["folds"].append(numbers)
            print(json.dumps(numbers), flush=True)
    except MsEdgeError as error:
        print(f"learning: {error}", file=sys.stderr)
        return 1
    (args.out / "learning.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    (args.out / "learning.md").write_text(markdown(found), encoding="utf-8")
    plot(found, args.out / "learning.png")
    print(markdown(found))
    return 0


def trained(dataset: Dataset, args: argparse.Namespace, name: str, seed: int) -> keras.Model:
    """Train the recipe on a smaller dataset in its own process, since each keeps files open, and
    return the network.
    """
    folder = args.out / name
    if not (folder / "metrics.json").exists():
        names = {recording.name for recording in dataset.recordings}
        given = (args.corpus, names, f"open-corpus:{name}", folder, seed, args.epochs)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            pool.submit(_fit, *given).result()
    return keras.saving.load_model(folder / "model.keras", compile=False)


def _fit(corpus: Path, names: set[str], data: str, folder: Path, seed: int, epochs: int) -> None:
    dataset = _kept(open_corpus(corpus), lambda recording: recording.name in names)
    resume = folder.exists()
    options = Options(seed=seed, epochs=epochs, cache=default_folder(), resume=resume)
    fit(get_recipe(RECIPE), dataset, data, folder, options)


def with_share(dataset: Dataset, share: float, seed: int) -> Dataset:
    """Return a dataset whose part `train` has a share of the sources of each label, at least one."""
    kept: set[tuple[str | None, str]] = set()
    for label in (*dataset.labels, None):
        sources = sorted({recording.source for recording in _train(dataset) if recording.label == label})
        order = np.random.default_rng(seed).permutation(len(sources))[: max(1, round(share * len(sources)))]
        kept |= {(label, sources[index]) for index in order}
    return _kept(dataset, lambda recording: (recording.label, recording.source) in kept)


def without(dataset: Dataset, fold: int) -> tuple[Dataset, dict[str, str]]:
    """Return a dataset without one source of each label, and those sources; fold 0 leaves out the
    ones with most recordings.
    """
    left = {}
    for label in dataset.labels:
        counts: dict[str, int] = {}
        for recording in _train(dataset):
            if recording.label == label:
                counts[recording.source] = counts.get(recording.source, 0) + 1
        left[label] = sorted(counts, key=lambda source: (-counts[source], source))[fold]
    return _kept(dataset, lambda recording: recording.source not in left.values()), left


def sources_of(dataset: Dataset) -> dict[str, int]:
    """Return the number of training sources of each label."""
    names = {
        label or NEITHER: {each.source for each in _train(dataset) if each.label == label}
        for label in (*dataset.labels, None)
    }
    return {label: len(sources) for label, sources in names.items()}


def _train(dataset: Dataset) -> list[Recording]:
    return [recording for recording in dataset.recordings if recording.split == "train"]


def _kept(dataset: Dataset, wanted: Any) -> Dataset:
    recordings = tuple(
        each for each in dataset.recordings if each.split == "val" or (each.split == "train" and wanted(each))
    )
    return dataclasses.replace(dataset, recordings=recordings)


def of_test(tests: Path, test: str, recipe: Recipe) -> Asked:
    """Return the clips of a test that `benchmarks.quality.accuracy` has cut."""
    listing = tests / "tests.tsv"
    if not listing.exists():
        raise DataError(
            "bad-data", f"{tests}: holds no tests; `python -m benchmarks.quality.accuracy` makes them in OUT/tests."
        )
    with listing.open(encoding="utf-8", newline="") as file:
        clips = [clip for clip in (Clip(*row) for row in csv.reader(file, delimiter="\t")) if clip.test == test]
    rate_hz, length = recipe.spec.sample_rate_hz, recipe.spec.clip_samples
    windows = [np.resize(read_mono(tests / clip.file, rate_hz), length) for clip in clips]
    return np.stack(windows), [clip.truth for clip in clips]


def of_val(dataset: Dataset, recipe: Recipe) -> dict[str, Asked]:
    """Return windows of `val` of each label and of neither."""
    sources = sorted({recording.source for recording in dataset.recordings if recording.split == "val"})
    return {f"val {label or NEITHER}": windows_of(dataset, sources, label, recipe) for label in (*dataset.labels, None)}


def windows_of(dataset: Dataset, sources: Sequence[str], label: str | None, recipe: Recipe) -> Asked:
    """Return random windows, without augmentation, of recordings of a label from some sources."""
    spec, rng = recipe.spec, np.random.default_rng(0)
    chosen = [
        each
        for each in dataset.recordings
        if each.source in sources and each.label == label and each.split in ("train", "val")
    ]
    audio = list(read_all(chosen, spec.sample_rate_hz, ", ".join(sources), Cache(default_folder())))
    pool = Pool(audio, dataset.labels, dataset.decision, spec)
    return np.stack([pool.window(label, spec.clip_samples, rng) for _ in range(WINDOWS)]), [label or NEITHER] * WINDOWS


def answers(network: keras.Model, recipe: Recipe, dataset: Dataset, asked: Mapping[str, Asked]) -> dict[str, float]:
    """Return the share of right windows in per cent, by test."""
    layer, found = FrontEndLayer(recipe.spec), {}
    for name, (windows, truths) in asked.items():
        features = np.concatenate(
            [clip_features(layer, windows[at : at + BATCH]) for at in range(0, len(windows), BATCH)]
        )
        scores = predict(network, dataset.labels, dataset.decision, features)
        said = [
            NEITHER if truth == NEITHER and row.max() < 0.5 else dataset.labels[row.argmax()]
            for row, truth in zip(scores, truths, strict=True)
        ]
        found[name] = round(100 * float(np.mean([one == truth for one, truth in zip(said, truths, strict=True)])), 2)
    return found


def means(found: Mapping[str, Any]) -> dict[str, list[tuple[float, float, float]]]:
    """Return for each test and share the mean over seeds, the minimum and the maximum."""
    tests = [name for name in found["shares"][0] if name not in ("share", "seed", "sources")]
    curves: dict[str, list[tuple[float, float, float]]] = {}
    for test in tests:
        values = [[each[test] for each in found["shares"] if each["share"] == share] for share in SHARES]
        curves[test] = [(float(np.mean(some)), min(some), max(some)) for some in values]
    return curves


def markdown(found: Mapping[str, Any]) -> str:
    """Return a table of tests and shares, then one of folds."""
    shares = {each["share"]: each["sources"] for each in found["shares"]}
    heads = [f"{' / '.join(map(str, sources.values()))}" for sources in shares.values()]
    tests = []
    for test, curve in means(found).items():
        cells = [
            f"{mean:.1f}" + (f" ({least:.1f} to {most:.1f})" if least < most else "") for mean, least, most in curve
        ]
        tests.append([test, *cells])
    folds = []
    for fold in found["folds"]:
        cells = [f"{each[f'held {label}']:.1f}" for label in ("speech", "music") for each in (fold, fold["heard"])]
        folds.append([", ".join(fold["left"].values()), *cells])
    left_out = ("left out", "speech of it", "the same, heard", "music of it", "the same, heard")
    return (
        markdown_table(["sources of speech / music / neither", *heads], tests)
        + "\n\n"
        + markdown_table(left_out, folds)
        + "\n"
    )


def plot(found: Mapping[str, Any], path: Path) -> None:
    """Plot the error in per cent over the share of training sources, on logarithmic scales."""
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for test, curve in means(found).items():
        wrong = 100 - np.array(curve)
        axes.errorbar(
            SHARES,
            wrong[:, 0],
            yerr=[wrong[:, 0] - wrong[:, 2], wrong[:, 1] - wrong[:, 0]],
            marker="o",
            capsize=3,
            label=test,
        )
    axes.set(xscale="log", yscale="log", xlabel="share of the sources heard in training", ylabel="windows wrong, %")
    axes.set_xticks(SHARES, [f"{share:.0%}" for share in SHARES])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.yaxis.set_major_formatter("{x:g}")
    figure.legend(fontsize=8, loc="outside right center")
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
