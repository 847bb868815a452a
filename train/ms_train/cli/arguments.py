"""The arguments of `ms-train`: what can be typed, and its help."""

from __future__ import annotations

import argparse
from pathlib import Path

from ms_train.console import add_data_arguments, whole_number
from ms_train.recipes.by_name import NAMES


def parser() -> argparse.ArgumentParser:
    """The parser of `ms-train`; `command` says which was typed."""
    whole = argparse.ArgumentParser(prog="ms-train", description="Train Keras models that tell speech from music.")
    commands = whole.add_subparsers(required=True, metavar="COMMAND", dest="command")

    fit = commands.add_parser(
        "fit",
        help="train a recipe and write a run folder",
        epilog="example: ms-train fit --recipe logstft_cnn --data folder:gtzan --out runs/a",
    )
    _add_recipe(fit, f"what to train: {', '.join(recipe_names())}", required=True)
    add_data_arguments(fit, required=True)
    fit.add_argument("--out", required=True, type=Path, help="the new run folder")
    folds = fit.add_mutually_exclusive_group()
    folds.add_argument(
        "--fold", type=_fold, metavar="I/N", help="hold out the I-th of N folds of recordings for testing"
    )
    folds.add_argument(
        "--folds",
        type=whole_number(2, 100),
        metavar="K",
        help="cross-validate: train K times into --out/fold-1 ..., test each on its own fold, report in --out",
    )
    _add_epochs(fit, "train for so many epochs (default: the recipe's)")
    _add_seed(fit, "of the split, the weights and the batches")
    fit.add_argument(
        "--augment",
        action="append",
        default=[],
        metavar="NAME[:PROBABILITY]",
        help="train on random windows through this, and the next, in the order given (repeatable; none: as they are) "
        "instead of the recipe's own augmentation; `ms-train show --augment` shows them",
    )
    fit.add_argument(
        "--set",
        type=_setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="another value for a setting of the recipe (repeatable; a wrong NAME says which there are)",
    )
    fit.add_argument("--resume", action="store_true", help="go on with the interrupted training in --out")
    fit.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="keep decoded audio, features, rooms and rendered windows there, up to 12 GB of windows a training"
        " (default: ms-edge in the user's cache folder); none: keep nothing",
    )
    fit.add_argument("--tensorboard", action="store_true", help="write logs for TensorBoard into the run folder")
    fit.add_argument("--mixed-precision", action="store_true", help="compute in 16 bits where a GPU gains by it")

    tune = commands.add_parser(
        "tune",
        help="search a recipe's settings for the least validation loss",
        description="Train a recipe again and again with settings drawn from the ranges it declares (Optuna's TPE), first with its own."
        " Each trial is a run folder in --out; beside them study.csv, study.png, and best.json with the best settings and the command"
        " that trains with them.",
        epilog="example: ms-train tune --recipe resized_cnn --data folder:gtzan --fold 1/5 --out runs/search --trials 30",
    )
    _add_recipe(tune, f"what to search: {', '.join(recipe_names())}", required=True)
    add_data_arguments(tune, required=True)
    tune.add_argument("--out", required=True, type=Path, help="the new folder of the search")
    tune.add_argument(
        "--trials", type=whole_number(1, 100_000), default=20, metavar="N", help="trainings in all (default 20)"
    )
    tune.add_argument(
        "--fold",
        type=_fold,
        metavar="I/N",
        help="leave the I-th of N folds of recordings out, to test the best on later",
    )
    _add_epochs(tune, "of each trial (default: the recipe's)")
    _add_seed(tune, "of the search, and of each trial's split, weights and batches")
    tune.add_argument(
        "--resume", action="store_true", help="go on with the search in --out; with more --trials, search on"
    )
    tune.add_argument("--cache", type=Path, metavar="DIR", help="as for fit")

    finetune = commands.add_parser(
        "finetune",
        help="learn new classes on what a trained run can hear already",
        description="Train a new last layer, and gently what comes before it, on new classes (two or more): from a run folder of"
        " ms-train fit, for a few recordings of each class. What comes of it is a run folder: evaluate, convert and classify as any.",
        epilog="example: ms-train finetune --from runs/a --data folder:my_sounds --out runs/b",
    )
    finetune.add_argument(
        "--from",
        dest="origin",
        required=True,
        type=Path,
        metavar="RUN",
        help="the run folder whose network to start from",
    )
    add_data_arguments(finetune, required=True)
    finetune.add_argument("--out", required=True, type=Path, help="the new run folder")
    finetune.add_argument(
        "--fold", type=_fold, metavar="I/N", help="hold out the I-th of N folds of recordings for testing"
    )
    _add_epochs(finetune, "train for so many epochs of 40 batches (default 10)")
    _add_seed(finetune, "of the split, the last layer and the batches")
    finetune.add_argument(
        "--head-only", action="store_true", help="train the last layer alone: quicker, and less exact"
    )
    finetune.add_argument("--resume", action="store_true", help="go on with the interrupted training in --out")

    evaluate = commands.add_parser(
        "evaluate",
        help="score a run or an exported model, with intervals, calibration, noise and its worst mistakes",
        description="Score a run folder or a model file as ms-edge serves it: per clip and per recording, with 95 % intervals by"
        " recording. With -o also on short pieces and under noise, as a Markdown report with pictures and JSON.",
        epilog="example: ms-train evaluate runs/a -o reports/a",
    )
    evaluate.add_argument("model", type=Path, metavar="RUN|MODEL", help="a run folder, or a model file of ms-export")
    add_data_arguments(evaluate, required=False, note="; default: the run's own")
    evaluate.add_argument(
        "--part",
        choices=("train", "val", "test", "all"),
        help="which part of the run's (or the dataset's own) split; default: what was held out, else what validated, else all",
    )
    evaluate.add_argument(
        "-o", "--out", type=Path, metavar="DIR", help="write report.md, report.json and pictures there"
    )
    evaluate.add_argument(
        "--calibrate-on",
        metavar="DATA",
        help="fit the temperature on these recordings (default: the run's validation part)",
    )
    _add_seed(evaluate, "of the intervals and the noise")

    compare = commands.add_parser(
        "compare",
        help="what several systems reach on the same held-out recordings, in one table",
        description="All complete runs in the folders given, the runs of one system together: mean and standard deviation over them.",
        epilog="example: for i in 1 2 3 4 5; do ms-train fit --recipe resized_cnn --data folder:gtzan --seed $i --fold $i/5 "
        "--out runs/resized-$i; done; ms-train compare runs",
    )
    compare.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="run folders, or folders of them")
    compare.add_argument(
        "-o", "--out", type=Path, metavar="DIR", help="write report.md, report.json and a picture there"
    )

    show = commands.add_parser(
        "show",
        help="pictures of recordings, datasets and augmentations; the summary of a model",
        epilog="example: ms-train show tests/data/music_zaz.wav -o pictures",
    )
    show.add_argument(
        "files", nargs="*", metavar="FILE", help="audio: its waveform and its spectrograms, as FILE's name.png"
    )
    _add_recipe(show, "whose spectrograms (default logstft_cnn)", default="logstft_cnn")
    show.add_argument("-o", "--out", type=Path, default=Path("pictures"), help="folder (default pictures)")
    add_data_arguments(show, required=False, note=": random clips of each class, side by side")
    show.add_argument("--summary", action="store_true", help="print the recipe's model; so does show without FILE")
    show.add_argument("--augment", action="store_true", help="each augmentation of FILE: before and after, and a WAV")
    show.add_argument("--augmentation", action="append", default=[], metavar="NAME", help="this one only (repeatable)")
    show.add_argument("--mix-with", metavar="FILE2", help="with --augment: also FILE mixed with this recording")
    _add_seed(show, "of clips and augmentations")

    data = commands.add_parser("data", help="fetch or list training data").add_subparsers(
        required=True, metavar="COMMAND"
    )
    fetch = data.add_parser(
        "fetch",
        help="download, verify and decode the open corpus",
        epilog="example: ms-train data fetch open-corpus --to data/open-corpus",
    )
    fetch.add_argument("name", choices=["open-corpus"])
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
    listing = data.add_parser(
        "list",
        help="print how many recordings and minutes the open corpus has, as a Markdown table",
        epilog="example: ms-train data list open-corpus --by split,label,package",
    )
    listing.add_argument("name", choices=["open-corpus"])
    listing.add_argument(
        "--by",
        default="split,label",
        metavar="COLUMNS",
        help="comma-separated: split, label, package, version, language, group, licence, licence_stated, fold "
        "(default split,label)",
    )
    return whole


def recipe_names() -> list[str]:
    """The names of all recipes, in the order of the alphabet."""
    return sorted(NAMES)


def _add_recipe(command: argparse.ArgumentParser, what: str, **options: object) -> None:
    # Not `choices`: the help would list them twice.
    command.add_argument("--recipe", type=_recipe, metavar="NAME", help=what, **options)


def _recipe(text: str) -> str:
    if text not in recipe_names():
        raise argparse.ArgumentTypeError(f"there is no recipe {text!r}; there are {', '.join(recipe_names())}")
    return text


def _add_seed(command: argparse.ArgumentParser, of: str) -> None:
    command.add_argument("--seed", type=whole_number(0, (1 << 32) - 1), default=0, help=f"{of} (default 0)")


def _add_epochs(command: argparse.ArgumentParser, what: str) -> None:
    command.add_argument("--epochs", type=whole_number(1, 100_000), help=what)


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
