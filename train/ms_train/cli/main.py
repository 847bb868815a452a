"""`ms-train`: call what was asked for, print what comes of it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ms_edge.errors import UsageError
from ms_train.cli.arguments import parser
from ms_train.console import INTERRUPTED, run


def command() -> None:
    """Run the program `ms-train`: call `main`, then end the process at once.

    Threads of TensorFlow may still be making batches in Python. If Python takes itself down under them, they wait for seconds
    or abort the process (SIGABRT). By then everything is written, so nothing needs Python's own end.
    """
    try:
        status = main()
    except KeyboardInterrupt:  # a second one, while `main` answered the first
        status = INTERRUPTED
    sys.stderr.flush()
    os._exit(status)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `ms-train` and return its exit code."""
    args = parser().parse_args(arguments)
    return run("ms-train", "train", partial(COMMANDS[args.command], args))


def _fit(args: argparse.Namespace) -> int:
    from dataclasses import replace

    from ms_train.augment.augmentations import parse_chain
    from ms_train.datasets.by_name import dataset_by_name
    from ms_train.datasets.cache import default_folder
    from ms_train.evaluation.crossvalidate import crossvalidate, table
    from ms_train.recipes.by_name import get_recipe
    from ms_train.search.tune_report import in_words
    from ms_train.training.fit import fit
    from ms_train.training.runs import CompleteError

    recipe = get_recipe(args.recipe).with_settings(dict(args.set))
    if args.augment:
        recipe = replace(recipe, augment=parse_chain(args.augment), scenes=False)
    dataset = dataset_by_name(args.data, args.archive)
    chosen = [*in_words(dict(args.set)), *["--mixed-precision"] * args.mixed_precision]

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
            command=[*_command("fit", args, fold=fold), *(f"--augment={step}" for step in args.augment), *chosen],
        )

    if args.folds:
        print(table(crossvalidate(train, dataset, args.out, args.folds, resume=args.resume, seed=args.seed)))
        print(f"{args.out / 'report.md'}, {args.out / 'report.json'}")
        return 0
    try:
        metrics = train(args.out, args.fold, args.resume)
    except CompleteError as error:
        print(f"ms-train: {error}", file=sys.stderr)
        return 0
    _print_metrics(args.out, metrics)
    return 0


def _command(command: str, args: argparse.Namespace, *, fold: tuple[int, int] | None, **other: Any) -> list[str]:
    """What to type for one training as `args` describe it: the options that have a value, with `other` ones."""
    given = {"recipe": getattr(args, "recipe", None), "data": args.data, "archive": args.archive}
    given |= {"epochs": args.epochs, "seed": args.seed, "fold": fold and f"{fold[0]}/{fold[1]}"} | other
    return [
        "ms-train",
        command,
        *(part for name, value in given.items() if value is not None for part in (f"--{name}", str(value))),
    ]


def _finetune(args: argparse.Namespace) -> int:
    from ms_train.datasets.by_name import dataset_by_name
    from ms_train.datasets.cache import default_folder
    from ms_train.training.finetune import heard_before, recipe_from
    from ms_train.training.fit import fit
    from ms_train.training.runs import CompleteError

    try:
        metrics = fit(
            recipe_from(args.origin, head_only=args.head_only),
            dataset_by_name(args.data, args.archive),
            args.data,
            args.out,
            seed=args.seed,
            fold=args.fold,
            epochs=args.epochs,
            cache=default_folder(),
            resume=args.resume,
            command=[
                *_command("finetune", args, fold=args.fold, **{"from": args.origin}),
                *["--head-only"] * args.head_only,
            ],
        )
    except CompleteError as error:
        print(f"ms-train: {error}", file=sys.stderr)
        return 0
    heard, tested = heard_before(args.origin, args.out)
    if heard:
        print(
            f"note: {args.origin}, from which this was made, had been trained or stopped on {heard} of the {tested} recordings tested: "
            "the figures may be too good.",
            file=sys.stderr,
        )
    _print_metrics(args.out, metrics)
    return 0


def _print_metrics(out: Path, metrics: dict[str, Any]) -> None:
    for part in ("val", "test"):
        if part in metrics:
            found = metrics[part]
            print(
                f"{part}: {found['clip_accuracy']:.2%} of {found['clips']} clips, "
                f"{found['file_accuracy']:.2%} of {found['files']} recordings"
            )
    print(f"{out}: {metrics['epochs']} epochs in {metrics['seconds']:.0f} s, {metrics['parameters']:,} parameters")


def _tune(args: argparse.Namespace) -> int:
    from ms_train.datasets.by_name import dataset_by_name
    from ms_train.datasets.cache import default_folder
    from ms_train.recipes.by_name import get_recipe
    from ms_train.recipes.recipe import Recipe
    from ms_train.search.tune import tune
    from ms_train.search.tune_report import in_words, table
    from ms_train.training.fit import fit

    recipe = get_recipe(args.recipe)
    dataset = dataset_by_name(args.data, args.archive)
    epochs = args.epochs or recipe.epochs
    command = _command("fit", args, fold=args.fold, epochs=epochs)

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
            command=[*command, *in_words(chosen.settings)],
        )

    found = tune(recipe, dataset, train, command, args.out, trials=args.trials, seed=args.seed, resume=args.resume)
    print(table(found, recipe))
    print(f"{args.out / 'best.json'}, {args.out / 'study.csv'}, {args.out / 'study.png'}")
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    from ms_train.evaluation.evaluate import evaluate
    from ms_train.evaluation.markdown import table

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
    from ms_train.evaluation.compare import compare, table

    print(table(compare(args.folders, args.out)))
    if args.out:
        print(f"{args.out / 'report.md'}, {args.out / 'report.json'}, {args.out / 'comparison.png'}")
    return 0


def _show(args: argparse.Namespace) -> int:
    if sum(map(bool, (args.data, args.summary, args.files))) > 1:
        raise UsageError("show takes one of FILE..., --data and --summary at a time.")
    augment = args.augment or args.augmentation or args.mix_with
    if augment and not args.files:
        raise UsageError("--augment needs a recording to change; name a FILE.")
    if args.archive and not args.data:
        raise UsageError("--archive goes with --data gtzan.")
    from ms_train.evaluation import show
    from ms_train.recipes.by_name import get_recipe

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


def _data(args: argparse.Namespace) -> int:
    from ms_train.datasets.open_corpus import fetch, listing, manifest

    if "by" in args:
        print(listing(manifest(), args.by.split(",")))
    else:
        fetch(args.to, args.splits.split(","), args.repositories)
    return 0


COMMANDS = {
    "fit": _fit,
    "tune": _tune,
    "finetune": _finetune,
    "evaluate": _evaluate,
    "compare": _compare,
    "show": _show,
    "data": _data,
}
