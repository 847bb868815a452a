"""`ms-train`: call the function behind a command, and print its result."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ms_edge.errors import UsageError
from ms_train.cli.arguments import parser
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
    TrainingOptions,
    TuneOptions,
)
from ms_train.console import INTERRUPTED, run

if TYPE_CHECKING:
    from ms_train.training import fit as training


def command() -> None:
    """Run the program `ms-train`: call `main`, then end the process at once.

    Threads of TensorFlow may still be making batches in Python. If the interpreter shut down while
    they run, they would wait for seconds or abort the process (SIGABRT). Everything is written by
    then, so nothing needs that shutdown.
    """
    try:
        status = main()
    except KeyboardInterrupt:  # a second one, while `main` handled the first
        status = INTERRUPTED
    sys.stderr.flush()
    os._exit(status)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `ms-train` and return its exit code."""
    args = vars(parser().parse_args(arguments))
    options, command = args.pop("options"), COMMANDS[args.pop("command")]
    return run("ms-train", "train", partial(command, options(**args)))


def _fit(options: FitOptions) -> int:
    from dataclasses import replace

    from ms_train.augment.augmentations import parse_chain
    from ms_train.datasets.by_name import dataset_by_name
    from ms_train.evaluation.crossvalidate import crossvalidate, table
    from ms_train.recipes.by_name import get_recipe
    from ms_train.search.tune_report import in_words
    from ms_train.training.fit import fit
    from ms_train.training.runs import CompleteError

    out = options.out
    recipe = get_recipe(options.recipe).with_settings(dict(options.set))
    if options.augment:
        recipe = replace(recipe, augment=parse_chain(options.augment), scenes=False)
    dataset = dataset_by_name(options.data, options.archive)
    common = _training(options, _cache_folder(options.cache))
    chosen = [f"--augment={step}" for step in options.augment]
    chosen += [*in_words(dict(options.set)), *["--mixed-precision"] * options.mixed_precision]

    def train(folder: Path, fold: tuple[int, int] | None, resume: bool) -> dict[str, Any]:
        how = replace(
            common,
            fold=fold,
            resume=resume,
            tensorboard=options.tensorboard,
            mixed_precision=options.mixed_precision,
            command=[*_command("fit", options, fold, recipe=options.recipe), *chosen],
        )
        return fit(recipe, dataset, options.data, folder, how)

    if options.folds:
        print(table(crossvalidate(train, dataset, out, options.folds, resume=options.resume, seed=options.seed)))
        print(f"{out / 'report.md'}, {out / 'report.json'}")
        return 0
    try:
        metrics = train(out, options.fold, options.resume)
    except CompleteError as error:
        print(f"ms-train: {error}", file=sys.stderr)
        return 0
    _print_metrics(out, metrics)
    return 0


def _cache_folder(cache: Path | None) -> Path | None:
    """Return the folder that --cache names: the default one without it, None for `none`."""
    from ms_train.datasets.cache import default_folder

    return None if cache == Path("none") else cache or default_folder()


def _training(options: TrainingOptions, cache: Path | None) -> training.Options:
    from ms_train.training.fit import Options

    return Options(seed=options.seed, fold=options.fold, epochs=options.epochs, cache=cache, resume=options.resume)


def _command(command: str, options: TrainingOptions, fold: tuple[int, int] | None, **other: Any) -> list[str]:
    """Return the command line of one training: the options that have a value, and `other` ones."""
    given = {
        "recipe": other.pop("recipe", None),
        "data": options.data,
        "archive": options.archive,
        "epochs": options.epochs,
        "seed": options.seed,
        "fold": fold and f"{fold[0]}/{fold[1]}",
        **other,
    }
    return [
        "ms-train",
        command,
        *(part for name, value in given.items() if value is not None for part in (f"--{name}", str(value))),
    ]


def _finetune(options: FinetuneOptions) -> int:
    from dataclasses import replace

    from ms_train.datasets.by_name import dataset_by_name
    from ms_train.datasets.corrections import is_corrections
    from ms_train.training.finetune import heard_before, recipe_from
    from ms_train.training.fit import fit
    from ms_train.training.runs import CompleteError

    command = _command("finetune", options, options.fold, **{"from": options.origin})
    if is_corrections(options.data):
        return _correct(options, command)
    how = replace(_training(options, _cache_folder(None)), command=[*command, *["--head-only"] * options.head_only])
    recipe = recipe_from(options.origin, head_only=options.head_only)
    try:
        metrics = fit(recipe, dataset_by_name(options.data, options.archive), options.data, options.out, how)
    except CompleteError as error:
        print(f"ms-train: {error}", file=sys.stderr)
        return 0
    heard, tested = heard_before(options.origin, options.out)
    if heard:
        print(
            f"note: {options.origin}, from which this was made, had been trained or stopped on {heard} of the {tested} recordings tested: "
            "the figures may be too good.",
            file=sys.stderr,
        )
    _print_metrics(options.out, metrics)
    return 0


def _correct(options: FinetuneOptions, command: list[str]) -> int:
    from ms_train.datasets.by_name import dataset_by_name
    from ms_train.datasets.cache import Cache
    from ms_train.training.correct import correct

    if options.fold or options.epochs or options.head_only or options.resume:
        raise UsageError("--fold, --epochs, --head-only and --resume do not go with --data corrections:FILE.")
    dataset = dataset_by_name(options.data, options.archive)
    found = correct(options.origin, dataset, options.data, options.out, Cache(_cache_folder(None)), command)
    print(f"before: {_shares(found['before'])}")
    print(f"after: {_shares(found['val'])}, on recordings left out in turn")
    print(f"{options.out}: {found['epochs']} steps in {found['seconds']:.0f} s")
    return 0


def _shares(found: dict[str, Any]) -> str:
    return f"{found['clip_accuracy']:.2%} of {found['clips']} windows, {found['file_accuracy']:.2%} of {found['files']} segments"


def _print_metrics(out: Path, metrics: dict[str, Any]) -> None:
    for part in ("val", "test"):
        if part in metrics:
            found = metrics[part]
            print(
                f"{part}: {found['clip_accuracy']:.2%} of {found['clips']} clips, "
                f"{found['file_accuracy']:.2%} of {found['files']} recordings"
            )
    print(f"{out}: {metrics['epochs']} epochs in {metrics['seconds']:.0f} s, {metrics['parameters']:,} parameters")


def _tune(options: TuneOptions) -> int:
    from dataclasses import replace

    from ms_train.datasets.by_name import dataset_by_name
    from ms_train.recipes.by_name import get_recipe
    from ms_train.recipes.recipe import Recipe
    from ms_train.search.tune import tune
    from ms_train.search.tune_report import in_words, table
    from ms_train.training.fit import fit

    recipe, out = get_recipe(options.recipe), options.out
    dataset = dataset_by_name(options.data, options.archive)
    epochs = options.epochs or recipe.epochs
    command = _command("fit", options, options.fold, recipe=options.recipe, epochs=epochs)
    common = replace(_training(options, _cache_folder(options.cache)), epochs=epochs, resume=True)

    def train(chosen: Recipe, folder: Path) -> dict[str, Any]:
        how = replace(common, command=[*command, *in_words(chosen.settings)])
        return fit(chosen, dataset, options.data, folder, how)

    found = tune(recipe, dataset, train, command, out, trials=options.trials, seed=options.seed, resume=options.resume)
    print(table(found, recipe))
    print(f"{out / 'best.json'}, {out / 'study.csv'}, {out / 'study.png'}")
    return 0


def _level(options: LevelOptions) -> int:
    from ms_train.datasets.by_name import dataset_by_name
    from ms_train.datasets.cache import Cache
    from ms_train.training.bundled import run_folder
    from ms_train.training.level import fit
    from ms_train.training.runs import TrainedRun

    run, dataset = TrainedRun.load(options.run), dataset_by_name(options.data, options.archive)
    cache = Cache(_cache_folder(options.cache))
    found = fit(run, run_folder(options.run), dataset, options.out, cache, mixtures=options.mixtures, seed=options.seed)
    for windows, of in found["val"].items():
        print(
            f"val, {windows}: error {of['error_db']:.2f} dB, interval {of['interval_db']:.1f} dB, holds {of['covered']:.1%}"
        )
    print(f"{options.out}: {found['mixtures']:,} mixtures")
    return 0


def _evaluate(options: EvaluateOptions) -> int:
    from ms_train.evaluation.evaluate import evaluate
    from ms_train.evaluation.markdown import table

    found = evaluate(
        options.model,
        options.data,
        options.out,
        part=options.part,
        archive=options.archive,
        calibrate_on=options.calibrate_on,
        seed=options.seed,
    )
    print(table(found))
    if options.out:
        print(f"{options.out / 'report.md'}, {options.out / 'report.json'}")
    return 0


def _compare(options: CompareOptions) -> int:
    from ms_train.evaluation.compare import compare, table

    print(table(compare(options.folders, options.out)))
    if out := options.out:
        print(f"{out / 'report.md'}, {out / 'report.json'}, {out / 'comparison.png'}")
    return 0


def _show(options: ShowOptions) -> int:
    if sum(map(bool, (options.data, options.summary, options.files))) > 1:
        raise UsageError("show takes one of FILE..., --data and --summary at a time.")
    augment = options.augment or options.augmentation or options.mix_with
    if augment and not options.files:
        raise UsageError("--augment needs a recording to change; name a FILE.")
    if options.archive and not options.data:
        raise UsageError("--archive goes with --data gtzan.")
    from ms_train.evaluation import show
    from ms_train.recipes.by_name import get_recipe

    recipe = get_recipe(options.recipe)
    if augment:
        failed = show.show_augmentations(
            options.files, options.augmentation, options.mix_with, recipe, options.out, options.seed
        )
        return int(failed > 0)
    if options.files:
        return int(show.show_recordings(options.files, recipe, options.out) > 0)
    if options.data:
        from ms_train.datasets.by_name import dataset_by_name

        dataset = dataset_by_name(options.data, options.archive)
        print(show.show_panels(dataset, recipe, options.out, options.seed))
        return 0
    recipe.build_model(("music", "speech"), "exclusive", recipe.epochs).summary(print_fn=print)
    return 0


def _data(options: CheckOptions | FetchOptions | ListOptions) -> int:
    if isinstance(options, CheckOptions):
        return _check(options)
    from ms_train.datasets.open_corpus import fetch, listing, manifest

    if isinstance(options, ListOptions):
        print(listing(manifest(), options.by.split(",")))
    else:
        fetch(options.to, options.splits.split(","), options.repositories)
    return 0


def _check(options: CheckOptions) -> int:
    from ms_train.datasets.by_name import dataset_by_name
    from ms_train.datasets.cache import Cache, default_folder
    from ms_train.evaluation.data_check import check
    from ms_train.evaluation.data_report import FILES, SCHEMA, text, write
    from ms_train.files import make_report_folder

    if options.out:
        make_report_folder(options.out, SCHEMA, FILES)
    found = check(dataset_by_name(options.data, options.archive), options.data, Cache(default_folder()))
    print(text(found))
    if options.out:
        write(found, options.out)
        print(f"{options.out / 'report.md'}, {options.out / 'report.json'}, {options.out / 'classes.png'}")
    return int(bool(found.refused))


COMMANDS: dict[str, Callable[[Any], int]] = {
    "fit": _fit,
    "tune": _tune,
    "finetune": _finetune,
    "level": _level,
    "evaluate": _evaluate,
    "compare": _compare,
    "show": _show,
    "data": _data,
}
