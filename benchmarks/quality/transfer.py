"""What a trained trunk is worth where there are ten recordings of each class: fine-tuned, its last layer alone, and from nothing.

    python -m benchmarks.quality.transfer narrators|effects CORPUS RUN      CORPUS: of `ms-train data fetch`; RUN: whose trunk

Each seed draws other recordings: nine to train on, one that validates, and as many others of each class to test on. From nothing is
the same network with random weights on such windows, as long.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import random
import re
from collections import defaultdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import keras
import numpy as np

from ms_train.datasets.dataset import Dataset, Recording
from ms_train.datasets.reading import read_for_training
from ms_train.recipes.mel_dscnn import build_model
from ms_train.training.finetune import STEPS_PER_EPOCH, recipe_from
from ms_train.training.fit import Options, fit

NARRATORS = ("be", "da", "es", "es-CO", "fr-CA")  # one voice each in the part that validates, 270 recordings and more
EFFECTS = {  # what a file's name says it is
    "cry": r"^(?!.*(festivox|boswars)).*((hurt|death|die)\d*[a-d]?\.|scream|deadman)",
    "explosion": r"explo(?!sion-smoke)|_exp\.",
    "footsteps": r"footsteps_(?!crouch|stand|hit|water|energy)|man-steps|steps_step",
    "shot": r"^(?!.*(boswars|impact|explo|_hum)).*(bullet-|shotgun|_gun\.|rifle|machinegun|cannon|railgun|pistol)",
    "wind and water": r"^(?!.*(footsteps|impact|windmill|music_forest)).*((?<![a-z])(wind|rain)|water|river|thunder|harbor|lake)",
}
TRAIN, MOST_TO_TEST = 10, 30


def recordings(task: str, corpus: Path) -> dict[str, list[dict[str, str]]]:
    """The lines of the corpus' index that are of each class."""
    found = defaultdict(list)
    with (corpus / "index.tsv").open(newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            name = Path(row["path"]).name.lower()
            if row["split"] == "test_a":  # nothing is trained on it, here neither
                continue
            if task == "narrators" and row["split"] == "val" and row["language"] in NARRATORS:
                found[row["language"]].append(row)
            if task == "effects" and row["label"] == "noise":
                kinds = [kind for kind, pattern in EFFECTS.items() if re.search(pattern, name)]
                if kinds:
                    found[kinds[0]].append(row)
    return dict(sorted(found.items()))


def draw(task: str, corpus: Path, seed: int) -> Dataset:
    """Ten recordings of each class to learn from, and as many of each to test on as there are of all."""
    chosen, of = [], recordings(task, corpus)
    tested = min(MOST_TO_TEST, min(map(len, of.values())) - TRAIN)
    for label, rows in of.items():
        rows = random.Random(f"{seed}/{label}").sample(rows, TRAIN + tested)
        for number, row in enumerate(rows):
            read = partial(read_for_training, corpus / row["path"])
            part = "test" if number >= TRAIN else "train" if number else "val"
            chosen.append(Recording(row["path"], label, label, row["sha256"], read, part))
    return Dataset(task, tuple(of), "exclusive", tuple(chosen))


def from_nothing(labels: tuple[str, ...], decision: str, epochs: int) -> keras.Model:
    """`mel_dscnn` with random weights, at its own largest rate, along a cosine over these epochs."""
    model = build_model(labels, decision, epochs)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = (
                0.9  # with Keras' 0.99 the statistics of so short a training are not there yet: it stays at chance
            )
    rate = keras.optimizers.schedules.CosineDecay(2e-3, epochs * STEPS_PER_EPOCH)
    model.compile(keras.optimizers.AdamW(rate, weight_decay=1e-3), "categorical_crossentropy", metrics=["accuracy"])
    return model


def main() -> None:
    """Train, and print one line a training and one a way to train."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality.transfer", description=__doc__)
    parser.add_argument("task", choices=("narrators", "effects"))
    parser.add_argument("corpus", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    tuned = recipe_from(args.run)
    ways = {
        "fine-tuned": tuned,
        "last layer": recipe_from(args.run, head_only=True),
        "from nothing": dataclasses.replace(tuned, build_model=from_nothing, origin=None),
    }
    found = defaultdict(list)
    for seed in range(args.seeds):
        dataset = draw(args.task, args.corpus, seed)
        for way, recipe in ways.items():
            with TemporaryDirectory() as out:
                right = fit(recipe, dataset, args.task, Path(out), Options(seed=seed))["test"]
            found[way].append((right["file_accuracy"], right["clip_accuracy"]))
            print(f"{args.task} {seed} {way}: {found[way][-1]} of {right['files']} recordings", flush=True)
            keras.backend.clear_session()
    for way, values in found.items():
        mean, deviation = 100 * np.mean(values, axis=0), 100 * np.std(values, axis=0, ddof=1)
        print(f"{way}: recordings {mean[0]:.1f} ± {deviation[0]:.1f} %, clips {mean[1]:.1f} ± {deviation[1]:.1f} %")


if __name__ == "__main__":
    main()
