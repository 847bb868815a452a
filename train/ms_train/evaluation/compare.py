"""`ms-train compare`: the accuracy of several systems on the same recordings, in one table."""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ms_edge.errors import UsageError
from ms_train import plots
from ms_train.errors import RunError
from ms_train.evaluation.markdown import grid
from ms_train.recipes.by_name import recipes
from ms_train.tables import text_table

SCHEMA = "ms-train/compare-1"
MOST_LISTED = 12
JOURNAL = "study.log"  # of a search (`ms_train.search.tune`, which needs Optuna)

Place = tuple[int, str]  # the seed and the fold of a run, which decide what it is tested on


@dataclass(frozen=True)
class Run:
    """What `compare` reads from a run folder; `recordings` holds the SHA-256 of each recording
    tested on, by name.

    `clip` and `file` are the accuracies per clip and per recording, `wrong` the names of the
    recordings with a wrong answer.
    """

    folder: Path
    system: str
    dataset: str
    recordings: dict[str, str]
    parameters: int
    seed: int
    fold: str
    clip: float
    file: float
    epochs: int
    seconds: float
    wrong: list[str]

    @property
    def place(self) -> Place:
        """The seed and the fold."""
        return self.seed, self.fold


@dataclass(frozen=True)
class ListedRun:
    """A run as the report lists it, with the fields of `Run`."""

    seed: int
    fold: str
    clip: float
    file: float
    epochs: int
    seconds: float
    wrong: list[str]


@dataclass(frozen=True)
class Spread:
    """A mean over runs and their standard deviation; a single run has none."""

    mean: float
    deviation: float | None


@dataclass(frozen=True)
class System:
    """A system: means over the `count` runs that every system has, and all of its runs."""

    name: str
    parameters: int
    count: int
    clip: Spread
    file: Spread
    epochs: Spread
    seconds: Spread
    runs: list[ListedRun]


@dataclass(frozen=True)
class Tested:
    """The recordings held out with one seed and fold; `in_means` if every system has a run of them."""

    seed: int
    fold: str
    recordings: int
    in_means: bool


@dataclass(frozen=True)
class HardRecording:
    """A recording that `wrong` of the runs tested on it (`of`) got wrong."""

    recording: str
    wrong: int
    of: int


@dataclass(frozen=True)
class Comparison:
    """All numbers of a comparison, the best system first."""

    data: list[str]
    tests: list[Tested]
    systems: list[System]
    hard: list[HardRecording]

    def to_dict(self) -> dict[str, Any]:
        """Return what report.json holds."""
        return {"schema": SCHEMA, **asdict(self)}


def compare(folders: Sequence[Path], out: Path | None = None) -> Comparison:
    """Return the numbers of all complete run folders in and under `folders`; with `out`, also write
    a report there.

    Runs of one system are taken together. A system is a recipe with its settings, augmentation and
    epochs, and the model it was fine-tuned from. Means are over the seeds and folds that every
    system has run. For each of these all systems must have been tested on the same recordings,
    because other splits are easier or harder. The accuracies are those that the training wrote at
    its end, per clip of its own recipe and per recording. A run that held nothing out is left out
    and named on stderr. Raises MsEdgeError if there is nothing to compare, or if the recordings
    differ.
    """
    if out and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out}: {'already holds files' if out.is_dir() else 'is a file'}; give --out a new folder.")
    systems = _systems(_runs(folders))
    tested = {run.place: run for runs in systems.values() for run in runs}
    common = _common(systems)
    for name, runs in systems.items():
        if more := len(runs) - len(common):
            print(
                f"left out of the means: {more} of the {len(runs)} runs of {name}: not every system has run their seed and fold.",
                file=sys.stderr,
            )
    found = [_summary(name, runs, common) for name, runs in systems.items()]
    found.sort(key=lambda system: (-system.file.mean, -system.clip.mean))
    numbers = Comparison(
        data=sorted({run.dataset for runs in systems.values() for run in runs}),
        tests=[Tested(*place, len(tested[place].recordings), place in common) for place in sorted(tested)],
        systems=found,
        hard=_hard(systems),
    )
    if out:
        _write(numbers, out)
    return numbers


def _runs(folders: Sequence[Path]) -> list[Run]:
    """Return the runs that held something out, and name the others on stderr."""
    found = []
    for folder in _run_folders(folders):
        run = _read(folder)
        if run is None:
            print(f"left out: {folder}: held nothing out to be tested on; train it with --fold I/N.", file=sys.stderr)
        else:
            found.append(run)
    if not found:
        raise RunError("bad-run", "No run held anything out to be tested on; train with --fold I/N.")
    return found


def _systems(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Return the runs of each system by its name.

    Raises RunError if two runs of one seed and fold cannot be compared.
    """
    systems: dict[str, list[Run]] = defaultdict(list)
    first_of: dict[Place, Run] = {}
    for run in runs:
        first = first_of.setdefault(run.place, run)
        if first.recordings != run.recordings:
            raise RunError(
                "bad-run",
                f"{run.folder}: was tested on other recordings than {first.folder}, though both are fold {run.fold} of seed "
                f"{run.seed}; compare runs of one dataset.",
            )
        if any(other.place == run.place for other in systems[run.system]):
            raise RunError(
                "bad-run",
                f"{run.folder}: is a second run of {run.system}, seed {run.seed}, fold {run.fold}; leave one out.",
            )
        systems[run.system].append(run)
    return systems


def _common(systems: dict[str, list[Run]]) -> set[Place]:
    """Return the seeds and folds that every system has run. Raises RunError if there are none."""
    common = set.intersection(*({run.place for run in runs} for runs in systems.values()))
    if not common:
        name, fewest = min(systems.items(), key=lambda system: len(system[1]))
        raise RunError(
            "bad-run",
            f"No seed and fold was run by all {len(systems)} systems; {name} has the fewest runs ({fewest[0].folder}): leave it "
            "out, or train it on the seeds and folds of the others.",
        )
    return common


def _write(numbers: Comparison, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.json").write_text(json.dumps(numbers.to_dict(), indent=2) + "\n", encoding="ascii")
    (out / "report.md").write_text(markdown(numbers), encoding="utf-8", errors="backslashreplace")
    plots.comparison(
        {
            system.name: {"clip": [run.clip for run in system.runs], "file": [run.file for run in system.runs]}
            for system in numbers.systems
        },
        out / "comparison.png",
        f"{', '.join(numbers.data)}: what was never trained on",
    )


def _run_folders(folders: Sequence[Path]) -> list[Path]:
    found: dict[Path, None] = {}
    for folder in folders:
        if not folder.is_dir():
            raise RunError(
                "bad-run", f"{folder}: no such folder; give run folders of ms-train fit, or folders of them."
            )
        inside = sorted(path.parent for path in folder.rglob("metrics.json"))
        trials = {
            path
            for path in inside
            if path != folder and (path.parent / JOURNAL).exists() and path.name.startswith("trial-")
        }
        for search in sorted({path.parent for path in trials}):
            print(f"left out: {search}: the trials of a search; name one to compare it.", file=sys.stderr)
        for unfinished in sorted({path.parent for path in folder.rglob("run.json")} - set(inside)):
            print(f"left out: {unfinished}: is not trained to its end.", file=sys.stderr)
        inside = [path for path in inside if path not in trials]
        if not inside:
            raise RunError("bad-run", f"{folder}: there is no complete run in it.")
        found |= dict.fromkeys(inside)
    return list(found)


def _read(folder: Path) -> Run | None:
    """Read a run folder; return None if the run held nothing out to be tested on.

    Raises RunError(`bad-run`).
    """
    try:
        metrics, run, recipe, split, digests = (
            json.loads((folder / f"{name}.json").read_text("utf-8"))
            for name in ("metrics", "run", "recipe", "split", "data")
        )
        if "test" not in metrics and metrics["val"]:
            return None
        return Run(
            folder=folder,
            system=_system(run, recipe),
            dataset=run["dataset"],
            recordings={name: digests[name] for name in split["test"]},
            parameters=metrics["parameters"],
            seed=run["seed"],
            fold=run["fold"] or "-",
            clip=metrics["test"]["clip_accuracy"],
            file=metrics["test"]["file_accuracy"],
            epochs=metrics["epochs"],
            seconds=metrics["seconds"],
            wrong=metrics["test"]["wrong_files"],
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise RunError("bad-run", f"{folder}: is not a complete run of ms-train fit; train it anew.") from None


def _system(run: dict[str, Any], recipe: dict[str, Any]) -> str:
    """Return the name of a run's system: its recipe, and how it differs from the recipe as the code
    has it.
    """
    differences = [str(recipe["augment"])] if isinstance(recipe.get("augment"), str) else []
    usual = recipes()[run["recipe"]].settings if run["recipe"] in recipes() else {}
    settings = recipe.get("settings", {}).items()
    differences += [f"{name} {value:g}" for name, value in settings if value != usual.get(name)]
    differences += ["mixed precision"] * bool(run.get("mixed_precision"))
    if "origin" in run:
        origin = run["origin"]
        differences += [f"from {origin['recipe']} {origin['model_sha256'][:8]}"]
        differences += ["head only"] * origin["head_only"]
    epochs = f"{recipe['epochs']} epoch{'s' * (recipe['epochs'] > 1)}"
    return ", ".join([f"{run['recipe']}, {epochs}", *differences])


def _summary(name: str, runs: Sequence[Run], common: Collection[Place]) -> System:
    kept = [run for run in runs if run.place in common]
    return System(
        name=name,
        parameters=runs[0].parameters,
        count=len(common),
        clip=_spread([run.clip for run in kept]),
        file=_spread([run.file for run in kept]),
        epochs=_spread([run.epochs for run in kept]),
        seconds=_spread([run.seconds for run in kept]),
        runs=[
            ListedRun(run.seed, run.fold, run.clip, run.file, run.epochs, run.seconds, run.wrong)
            for run in sorted(runs, key=lambda run: run.place)
        ],
    )


def _spread(values: Sequence[float]) -> Spread:
    return Spread(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None)


def _hard(systems: dict[str, list[Run]]) -> list[HardRecording]:
    """Return the recordings that most runs got wrong."""
    wrong = Counter(name for runs in systems.values() for run in runs for name in run.wrong)
    asked = Counter(name for runs in systems.values() for run in runs for name in run.recordings)
    return [HardRecording(name, count, asked[name]) for name, count in wrong.most_common(MOST_LISTED)]


def table(numbers: Comparison) -> str:
    """Return a line for each system, the best first, for the terminal."""
    return text_table(_rows(numbers))


def markdown(numbers: Comparison) -> str:
    """Return the report."""
    head, *rows = _rows(numbers)
    places = [(test.seed, test.fold) for test in numbers.tests]
    per_run = []
    for system in numbers.systems:
        cells = {(run.seed, run.fold): f"{100 * run.clip:.1f} / {100 * run.file:.1f}" for run in system.runs}
        per_run.append([system.name, *(cells.get(place, "-") for place in places)])
    parts = [
        f"# {len(numbers.systems)} systems on {', '.join(numbers.data)}",
        "Accuracy on recordings that a run neither trained nor stopped on, in per cent: mean over the seeds and folds that all "
        "systems have run and, after ±, the standard deviation. A clip is as long as the recipe's; a recording's answer is the mean over "
        "its clips.",
        grid(head, rows),
        "![every run](comparison.png)",
        "## Run by run",
        "Clips / recordings, in per cent.",
        grid(("", *(f"seed {seed}, fold {fold}" for seed, fold in places)), per_run),
    ]
    if numbers.hard:
        hard = [[each.recording, str(each.wrong), str(each.of)] for each in numbers.hard]
        parts += ["## The hardest recordings", grid(("recording", "wrong", "of tests"), hard)]
    return "\n\n".join(parts) + "\n"


def _rows(numbers: Comparison) -> list[list[str]]:
    rows = [["system", "parameters", "runs", "clips", "recordings", "epochs", "training"]]
    for system in numbers.systems:
        shares = [
            f"{100 * of.mean:.1f}" + ("" if of.deviation is None else f" ± {100 * of.deviation:.1f}")
            for of in (system.clip, system.file)
        ]
        means = f"{system.epochs.mean:.0f}", f"{system.seconds.mean:.0f} s"
        rows.append([system.name, f"{system.parameters:,}", str(system.count), *shares, *means])
    return rows
