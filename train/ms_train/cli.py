"""`ms-train`: parse, call, print."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ms_edge.errors import UsageError
from ms_train.console import add_data_arguments, run, whole_number


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `ms-train` and return its exit code."""
    return run("ms-train", "train", _parser().parse_args(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ms-train", description="Train Keras models that tell speech from music.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    fit = commands.add_parser(
        "fit",
        help="train a recipe and write a run folder",
        epilog="example: ms-train fit --recipe logstft_cnn --data folder:gtzan --out runs/a",
    )
    fit.add_argument("--recipe", required=True, help="what to train: logstft_cnn, resized_cnn, mel_dscnn ...")
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
    fit.add_argument("--epochs", type=whole_number(1, 100_000), help="train for so many epochs (default: the recipe's)")
    fit.add_argument(
        "--seed",
        type=whole_number(0, (1 << 32) - 1),
        default=0,
        help="of the split, the weights and the batches (default 0)",
    )
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
        help="keep decoded audio and features there (default: ms-edge in the user's cache folder); none: keep nothing",
    )
    fit.add_argument("--tensorboard", action="store_true", help="write logs for TensorBoard into the run folder")
    fit.add_argument("--mixed-precision", action="store_true", help="compute in 16 bits where a GPU gains by it")
    fit.set_defaults(run=_fit)

    tune = commands.add_parser(
        "tune",
        help="search a recipe's settings for the least validation loss",
        description="Train a recipe again and again with settings drawn from the ranges it declares (Optuna's TPE), first with its own."
        " Each trial is a run folder in --out; beside them study.csv, study.png, and best.json with the best settings and the command"
        " that trains with them.",
        epilog="example: ms-train tune --recipe resized_cnn --data folder:gtzan --fold 1/5 --out runs/search --trials 30",
    )
    tune.add_argument("--recipe", required=True, help="what to search: logstft_cnn, resized_cnn, mel_dscnn ...")
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
    tune.add_argument("--epochs", type=whole_number(1, 100_000), help="of each trial (default: the recipe's)")
    tune.add_argument(
        "--seed",
        type=whole_number(0, (1 << 32) - 1),
        default=0,
        help="of the search, and of each trial's split, weights and batches (default 0)",
    )
    tune.add_argument(
        "--resume", action="store_true", help="go on with the search in --out; with more --trials, search on"
    )
    tune.add_argument("--cache", type=Path, metavar="DIR", help="as for fit")
    tune.set_defaults(run=_tune)

    evaluate = commands.add_parser(
        "evaluate",
        help="score a run or an exported model, with intervals, calibration, noise and its worst mistakes",
        description="Score a run folder or a model file as ms-edge serves it: per clip and per recording, with 95 %% intervals by"
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
    evaluate.add_argument(
        "--seed", type=whole_number(0, (1 << 32) - 1), default=0, help="of the intervals and the noise (default 0)"
    )
    evaluate.set_defaults(run=_evaluate)

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
    compare.set_defaults(run=_compare)

    show = commands.add_parser(
        "show",
        help="pictures of recordings, datasets and augmentations; the summary of a model",
        epilog="example: ms-train show tests/data/music_zaz.wav -o pictures",
    )
    show.add_argument(
        "files", nargs="*", metavar="FILE", help="audio: its waveform and its spectrograms, as FILE's name.png"
    )
    show.add_argument("--recipe", default="logstft_cnn", help="whose spectrograms (default logstft_cnn)")
    show.add_argument("-o", "--out", type=Path, default=Path("pictures"), help="folder (default pictures)")
    add_data_arguments(show, required=False, note=": random clips of each class, side by side")
    show.add_argument("--summary", action="store_true", help="print the recipe's model; so does show without FILE")
    show.add_argument("--augment", action="store_true", help="each augmentation of FILE: before and after, and a WAV")
    show.add_argument("--augmentation", action="append", default=[], metavar="NAME", help="this one only (repeatable)")
    show.add_argument("--mix-with", metavar="FILE2", help="with --augment: also FILE mixed with this recording")
    show.add_argument(
        "--seed", type=whole_number(0, (1 << 32) - 1), default=0, help="of clips and augmentations (default 0)"
    )
    show.set_defaults(run=_show)

    data = commands.add_parser("data", help="fetch training data").add_subparsers(required=True, metavar="COMMAND")
    fetch = data.add_parser(
        "fetch",
        help="download, verify and unpack the open corpus",
        epilog="example: ms-train data fetch open-corpus --to data/open-corpus",
    )
    fetch.add_argument("name", choices=["open-corpus"])
    fetch.add_argument("--to", type=Path, default=Path("data/open-corpus"), help="folder (default data/open-corpus)")
    fetch.add_argument(
        "--splits", default="train,val", help="comma-separated: train, val, test_a, hard (default train,val)"
    )
    fetch.set_defaults(run=_fetch)
    return parser


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


def _fit(args: argparse.Namespace) -> int:
    from dataclasses import replace

    from ms_train.augmentations import parse_chain
    from ms_train.cache import default_folder
    from ms_train.crossvalidate import crossvalidate, table
    from ms_train.datasets.by_name import dataset_by_name
    from ms_train.fit import fit
    from ms_train.recipes import get_recipe

    recipe = get_recipe(args.recipe).with_settings(dict(args.set))
    if args.augment:
        recipe = replace(recipe, augment=parse_chain(args.augment))
    dataset = dataset_by_name(args.data, args.archive)

    def train(out: Path, fold: tuple[int, int] | None, resume: bool) -> dict[str, Any]:
        return fit(
            recipe,
            dataset,
            args.data,
            out,
            seed=args.seed,
            fold=fold,
            epochs=args.epochs,
            cache=None if args.cache == Path("none") else args.cache or default_folder(),
            resume=resume,
            tensorboard=args.tensorboard,
            mixed_precision=args.mixed_precision,
        )

    if args.folds:
        print(table(crossvalidate(train, dataset, args.out, args.folds, resume=args.resume, seed=args.seed)))
        print(f"{args.out / 'report.md'}, {args.out / 'report.json'}")
        return 0
    metrics = train(args.out, args.fold, args.resume)
    for part in ("val", "test"):
        if part in metrics:
            found = metrics[part]
            print(
                f"{part}: {found['clip_accuracy']:.2%} of {found['clips']} clips, "
                f"{found['file_accuracy']:.2%} of {found['files']} recordings"
            )
    print(f"{args.out}: {metrics['epochs']} epochs in {metrics['seconds']:.0f} s, {metrics['parameters']:,} parameters")
    return 0


def _tune(args: argparse.Namespace) -> int:
    from ms_train.cache import default_folder
    from ms_train.datasets.by_name import dataset_by_name
    from ms_train.fit import fit
    from ms_train.recipes import Recipe, get_recipe
    from ms_train.tune import tune
    from ms_train.tune_report import table

    recipe = get_recipe(args.recipe)
    dataset = dataset_by_name(args.data, args.archive)
    epochs = args.epochs or recipe.epochs
    given = {"recipe": recipe.name, "data": args.data, "archive": args.archive, "epochs": epochs, "seed": args.seed}
    given["fold"] = args.fold and f"{args.fold[0]}/{args.fold[1]}"
    command = ["ms-train", "fit"]
    for name, value in given.items():
        if value is not None:
            command += [f"--{name}", str(value)]

    def train(chosen: Recipe, folder: Path) -> dict[str, Any]:
        return fit(
            chosen,
            dataset,
            args.data,
            folder,
            seed=args.seed,
            fold=args.fold,
            epochs=epochs,
            cache=None if args.cache == Path("none") else args.cache or default_folder(),
            resume=True,
        )

    found = tune(recipe, dataset, train, command, args.out, trials=args.trials, seed=args.seed, resume=args.resume)
    print(table(found, recipe))
    print(f"{args.out / 'best.json'}, {args.out / 'study.csv'}, {args.out / 'study.png'}")
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    from ms_train.evaluation import evaluate
    from ms_train.markdown import table

    found = evaluate(
        args.model,
        args.data,
        args.out,
        part=args.part,
        archive=args.archive,
        calibrate_on=args.calibrate_on,
        seed=args.seed,
    )
    print(table(found))
    if args.out:
        print(f"{args.out / 'report.md'}, {args.out / 'report.json'}")
    return 0


def _compare(args: argparse.Namespace) -> int:
    from ms_train.compare import compare, table

    print(table(compare(args.folders, args.out)))
    if args.out:
        print(f"{args.out / 'report.md'}, {args.out / 'report.json'}, {args.out / 'comparison.png'}")
    return 0


def _show(args: argparse.Namespace) -> int:
    if sum(map(bool, (args.data, args.summary, args.files))) > 1:
        raise UsageError("usage", "show takes one of FILE..., --data and --summary at a time.")
    augment = args.augment or args.augmentation or args.mix_with
    if augment and not args.files:
        raise UsageError("usage", "--augment needs a recording to change; name a FILE.")
    if args.archive and not args.data:
        raise UsageError("usage", "--archive goes with --data gtzan.")
    from ms_train import show
    from ms_train.recipes import get_recipe

    recipe = get_recipe(args.recipe)
    if augment:
        return int(
            show.show_augmentations(args.files, args.augmentation, args.mix_with, recipe, args.out, args.seed) > 0
        )
    if args.files:
        return int(show.show_recordings(args.files, recipe, args.out) > 0)
    if args.data:
        from ms_train.datasets.by_name import dataset_by_name

        print(show.show_panels(dataset_by_name(args.data, args.archive), recipe, args.out, args.seed))
        return 0
    recipe.build_model(("music", "speech"), "exclusive", recipe.epochs).summary(print_fn=print)
    return 0


def _fetch(args: argparse.Namespace) -> int:
    from ms_train.datasets.open_corpus import fetch

    fetch(args.to, args.splits.split(","))
    return 0


if __name__ == "__main__":
    sys.exit(main())
