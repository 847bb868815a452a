"""The command line of `ms-train`: its commands, options and help texts."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ms_train.cli.options import (
    CheckOptions,
    CompareOptions,
    EvaluateOptions,
    FetchOptions,
    FinetuneOptions,
    FitOptions,
    LevelOptions,
    ListOptions,
    ShowOptions,
    TuneOptions,
)
from ms_train.console import add_data_arguments, whole_number
from ms_train.recipes.by_name import NAMES

MIXTURES = 80_000  # of `ms-train level`

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def parser() -> argparse.ArgumentParser:
    """Return the parser of `ms-train`: `command` is the command's name, `options` the class of its
    options.
    """
    top = argparse.ArgumentParser(prog="ms-train", description="Train Keras models that tell speech from music.")
    commands = top.add_subparsers(required=True, metavar="COMMAND", dest="command")
    _add_fit(commands)
    _add_tune(commands)
    _add_finetune(commands)
    _add_level(commands)
    _add_evaluate(commands)
    _add_compare(commands)
    _add_show(commands)
    _add_data(commands)
    return top


def _add_fit(commands: Commands) -> None:
    fit = commands.add_parser(
        "fit",
        help="train a recipe and write a run folder",
        epilog="example: ms-train fit --recipe logstft_cnn --data folder:gtzan --out runs/a",
    )
    fit.set_defaults(options=FitOptions)
    _add_recipe(fit, f"the recipe to train: {', '.join(recipe_names())}")
    add_data_arguments(fit, required=True)
    fit.add_argument("--out", required=True, type=Path, help="the new run folder")
    folds = fit.add_mutually_exclusive_group()
    _add_fold(folds, "hold out the I-th of N folds of the recordings for testing")
    folds.add_argument(
        "--folds",
        type=whole_number(2, 100),
        metavar="K",
        help="cross-validate: train K networks into OUT/fold-1 ..., test each on its own fold, and write a report into OUT",
    )
    _add_epochs(fit, "number of epochs (default: the recipe's)")
    _add_seed(fit, "seed of the split, the weights and the batches")
    fit.add_argument(
        "--augment",
        action="append",
        default=[],
        metavar="NAME[:PROBABILITY]",
        help="replace the recipe's augmentation: train on random windows that pass this augmentation with the given"
        " probability; repeat to apply several in the given order; none leaves the windows unchanged;"
        " `ms-train show --augment` shows the augmentations",
    )
    fit.add_argument(
        "--set",
        type=_setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change a setting of the recipe (repeatable; an unknown NAME lists the settings)",
    )
    _add_resume(fit, "continue the interrupted training in OUT")
    fit.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="folder for decoded audio, features, rooms and rendered windows, up to 12 GB of windows for each training"
        " (default: ms-edge in the user's cache folder); none: keep nothing",
    )
    fit.add_argument("--tensorboard", action="store_true", help="write logs for TensorBoard into the run folder")
    fit.add_argument("--mixed-precision", action="store_true", help="compute in 16 bits, which is faster on some GPUs")


def _add_tune(commands: Commands) -> None:
    tune = commands.add_parser(
        "tune",
        help="search for the settings of a recipe with the smallest validation loss",
        description="Train a recipe repeatedly, first with its own settings, then with settings that Optuna (TPE) draws from the"
        " ranges of the recipe. Each trial is a run folder in OUT. OUT also gets study.csv, study.png and best.json, which holds"
        " the best settings and the command that trains with them.",
        epilog="example: ms-train tune --recipe resized_cnn --data folder:gtzan --fold 1/5 --out runs/search --trials 30",
    )
    tune.set_defaults(options=TuneOptions)
    _add_recipe(tune, f"the recipe to search: {', '.join(recipe_names())}")
    add_data_arguments(tune, required=True)
    tune.add_argument("--out", required=True, type=Path, help="the new folder of the search")
    tune.add_argument(
        "--trials",
        type=whole_number(1, 100_000),
        default=20,
        metavar="N",
        help="total number of trainings (default 20)",
    )
    _add_fold(tune, "leave out the I-th of N folds of the recordings, to test the best settings on it later")
    _add_epochs(tune, "number of epochs of each trial (default: the recipe's)")
    _add_seed(tune, "seed of the search, and of each trial's split, weights and batches")
    _add_resume(tune, "continue the search in OUT; with a larger --trials, add trials to it")
    tune.add_argument("--cache", type=Path, metavar="DIR", help="as for fit")


def _add_level(commands: Commands) -> None:
    level = commands.add_parser(
        "level",
        help="train a second output of a run's network: the level of the music under speech",
        description="Train a second output of a network of mel_residual on mixtures of its recordings at known levels; its first"
        " output stays as it is. OUT gets the files of the run folder, and the new output. ms-export convert OUT --level makes the"
        " model file.",
        epilog="example: ms-train level bundled --data open-corpus:data/open-corpus --out runs/level",
    )
    level.set_defaults(options=LevelOptions)
    level.add_argument("run", type=Path, metavar="RUN", help="a run folder of ms-train fit, or bundled")
    add_data_arguments(level, required=True)
    level.add_argument("--out", required=True, type=Path, help="the new run folder")
    level.add_argument(
        "--mixtures",
        type=whole_number(1, 100_000_000),
        default=MIXTURES,
        metavar="N",
        help=f"number of mixtures of one window to train on (default {MIXTURES:,}); as much sound again is in longer ones",
    )
    _add_seed(level, "seed of the mixtures and the weights")
    level.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="folder for decoded audio, rooms and mixtures (default: ms-edge in the user's cache folder); none: keep nothing",
    )


def _add_finetune(commands: Commands) -> None:
    finetune = commands.add_parser(
        "finetune",
        help="train a run's network further on new classes",
        description="Train a new last layer for two or more new classes, and the layers before it at a lower learning rate. Start from"
        " the bundled model or a run folder of ms-train fit. A few recordings of each class are enough. The result is a run folder"
        " that the other commands accept.",
        epilog="example: ms-train finetune --from bundled --data folder:my_sounds --out runs/b",
    )
    finetune.set_defaults(options=FinetuneOptions)
    finetune.add_argument(
        "--from",
        dest="origin",
        required=True,
        type=Path,
        metavar="RUN",
        help="the run folder whose network to start from, or bundled: the bundled model's; a run of mel_pair cannot be trained "
        "further",
    )
    add_data_arguments(finetune, required=True)
    finetune.add_argument("--out", required=True, type=Path, help="the new run folder")
    _add_fold(finetune, "hold out the I-th of N folds of the recordings for testing")
    _add_epochs(finetune, "number of epochs of 40 batches (default 10)")
    _add_seed(finetune, "seed of the split, the last layer and the batches")
    finetune.add_argument(
        "--head-only", action="store_true", help="train the last layer only, which is faster and less accurate"
    )
    _add_resume(finetune, "continue the interrupted training in OUT")


def _add_evaluate(commands: Commands) -> None:
    evaluate = commands.add_parser(
        "evaluate",
        help="measure the accuracy and the calibration of a run or an exported model",
        description="Score a run folder or a model file as ms-edge serves it: per clip and per recording, with 95 % intervals over"
        " recordings. With -o, also score short pieces and noisy excerpts, and write a report in Markdown and JSON with pictures,"
        " which shows the worst mistakes.",
        epilog="example: ms-train evaluate runs/a -o reports/a",
    )
    evaluate.set_defaults(options=EvaluateOptions)
    evaluate.add_argument(
        "model",
        type=Path,
        metavar="RUN|MODEL",
        help="a run folder, a model file of ms-export, bundled or music-speech-large",
    )
    add_data_arguments(evaluate, required=False, note="; default: the run's own")
    evaluate.add_argument(
        "--part",
        choices=("train", "val", "test", "all"),
        help="the part of the run's or the dataset's own split to score (default: the held-out part; if there is none, the"
        " validation part; if there is none, all)",
    )
    evaluate.add_argument(
        "-o", "--out", type=Path, metavar="DIR", help="write report.md, report.json and pictures into DIR"
    )
    evaluate.add_argument(
        "--calibrate-on",
        metavar="DATA",
        help="fit the temperature on these recordings (default: the run's validation part)",
    )
    _add_seed(evaluate, "seed of the intervals and the noise")


def _add_compare(commands: Commands) -> None:
    compare = commands.add_parser(
        "compare",
        help="compare the accuracy of several systems on the same held-out recordings",
        description="Take all complete runs in the given folders, group the runs of one system, and print the mean and the"
        " standard deviation over each system's runs.",
        epilog="example: for i in 1 2 3 4 5; do ms-train fit --recipe resized_cnn --data folder:gtzan --seed $i --fold $i/5 "
        "--out runs/resized-$i; done; ms-train compare runs",
    )
    compare.set_defaults(options=CompareOptions)
    compare.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="run folders, or folders that hold them")
    compare.add_argument(
        "-o", "--out", type=Path, metavar="DIR", help="write report.md, report.json and a picture into DIR"
    )


def _add_show(commands: Commands) -> None:
    show = commands.add_parser(
        "show",
        help="draw recordings, datasets and augmentations, or print the summary of a model",
        epilog="example: ms-train show tests/data/music_zaz.wav -o pictures",
    )
    show.set_defaults(options=ShowOptions)
    show.add_argument(
        "files",
        nargs="*",
        metavar="FILE",
        help="an audio file whose waveform and spectrograms to draw into a PNG with the file's name",
    )
    _add_recipe(show, "the recipe whose spectrograms to draw (default logstft_cnn)", default="logstft_cnn")
    show.add_argument("-o", "--out", type=Path, default=Path("pictures"), help="output folder (default pictures)")
    add_data_arguments(show, required=False, note=": draw random clips of each class side by side")
    show.add_argument(
        "--summary", action="store_true", help="print the recipe's model; this is the default without FILE"
    )
    show.add_argument(
        "--augment",
        action="store_true",
        help="draw FILE before and after each augmentation, and write the augmented sound as WAV",
    )
    show.add_argument(
        "--augmentation", action="append", default=[], metavar="NAME", help="show only this augmentation (repeatable)"
    )
    show.add_argument("--mix-with", metavar="FILE2", help="with --augment: also mix FILE with this recording")
    _add_seed(show, "seed of the clips and the augmentations")


def _add_data(commands: Commands) -> None:
    data = commands.add_parser("data", help="check, fetch or list training data")
    actions = data.add_subparsers(required=True, metavar="COMMAND")
    check = actions.add_parser(
        "check",
        help="look for what spoils a training, before it",
        description="Read every recording of a dataset; print the minutes, levels and bandwidths of each class, copies, clipping and"
        " silence, and whether loudness, bandwidth or pauses alone tell the classes apart. Exits 1 if a training would refuse the"
        " data.",
        epilog="example: ms-train data check folder:my_sounds -o check",
    )
    check.set_defaults(options=CheckOptions)
    check.add_argument(
        "data", metavar="DATA", help="the dataset, as --data of ms-train fit names it: folder:PATH, csv:FILE ..."
    )
    check.add_argument("--archive", type=Path, help="gtzan: a local music_speech.tar.gz, or its unpacked folder")
    check.add_argument(
        "-o", "--out", type=Path, metavar="DIR", help="write report.md, report.json and a picture into DIR"
    )
    fetch = actions.add_parser(
        "fetch",
        help="download, verify and decode the open corpus",
        epilog="example: ms-train data fetch open-corpus --to data/open-corpus",
    )
    fetch.set_defaults(options=FetchOptions)
    fetch.add_argument("name", choices=["open-corpus"], metavar="NAME", help="the dataset: open-corpus")
    fetch.add_argument("--to", type=Path, default=Path("data/open-corpus"), help="folder (default data/open-corpus)")
    fetch.add_argument(
        "--splits",
        default="train,val,calib",
        help="comma-separated: train, val, calib, test_a, hard (default train,val,calib)",
    )
    fetch.add_argument(
        "--repositories",
        type=Path,
        metavar="DIR",
        help="folder with clones of git repositories, as DIR/OWNER/NAME or DIR/OWNER+NAME; others are downloaded",
    )
    listing = actions.add_parser(
        "list",
        help="print the number of recordings and minutes of the open corpus, as a Markdown table",
        epilog="example: ms-train data list open-corpus --by split,label,package",
    )
    listing.set_defaults(options=ListOptions)
    listing.add_argument("name", choices=["open-corpus"], metavar="NAME", help="the dataset: open-corpus")
    listing.add_argument(
        "--by",
        default="split,label",
        metavar="COLUMNS",
        help="comma-separated: split, label, package, version, language, group, licence, licence_stated, fold "
        "(default split,label)",
    )


def recipe_names() -> list[str]:
    """Return the names of all recipes in alphabetical order."""
    return sorted(NAMES)


def _add_recipe(command: argparse.ArgumentParser, what: str, default: str | None = None) -> None:
    # Not `choices`: the help would list them twice.
    command.add_argument("--recipe", type=_recipe, metavar="NAME", required=default is None, default=default, help=what)


def _recipe(text: str) -> str:
    if text not in recipe_names():
        raise argparse.ArgumentTypeError(f"there is no recipe {text!r}; there are {', '.join(recipe_names())}")
    return text


def _add_seed(command: argparse.ArgumentParser, what: str) -> None:
    command.add_argument("--seed", type=whole_number(0, (1 << 32) - 1), default=0, help=f"{what} (default 0)")


def _add_epochs(command: argparse.ArgumentParser, what: str) -> None:
    command.add_argument("--epochs", type=whole_number(1, 100_000), help=what)


def _add_fold(command: argparse._ActionsContainer, what: str) -> None:
    command.add_argument("--fold", type=_fold, metavar="I/N", help=what)


def _add_resume(command: argparse.ArgumentParser, what: str) -> None:
    command.add_argument("--resume", action="store_true", help=what)


def _fold(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    if not (index.isdigit() and count.isdigit() and int(count) >= 2 and 1 <= int(index) <= int(count)):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with 1 <= I <= N and N >= 2")
    return int(index), int(count)


def _setting(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not (name and found and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value
