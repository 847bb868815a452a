"""`ms-train compare`: what several systems reach on the same recordings, in one table."""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ms_edge.errors import UsageError
from ms_train import plots
from ms_train.errors import RunError
from ms_train.evaluation.markdown import grid
from ms_train.recipes.by_name import recipes

SCHEMA = "ms-train/compare-1"
MOST_LISTED = 12
JOURNAL = "study.log"  # of a search (`ms_train.search.tune`, which wants Optuna)
LEVELS = {"clip": "clips", "file": "recordings"}


def compare(folders: Sequence[Path], out: Path | None = None) -> dict[str, Any]:
    """The numbers of all complete run folders in and under `folders`, runs of one system together; in `out` also as a report.

    A system is a recipe with its settings, augmentation and epochs, and what it was fine-tuned from. Means are over the seeds and folds
    that every system has run, and of each of these the recordings tested on have to be the same ones: other splits are easier or harder.
    What counts is the accuracy that a training wrote down at its end, per clip of its own recipe and per recording. A run that held
    nothing out is left out and named on stderr. Raises MsEdgeError where there is nothing to compare, or the recordings differ.
    """
    if out and out.exists() and any(out.iterdir()):
        raise UsageError(f"{out}: already holds files; give --out a new folder.")
    systems: dict[str, list[dict[str, Any]]] = defaultdict(list)
    tested: dict[tuple[int, str], tuple[Path, dict[str, str]]] = {}
    for folder in _run_folders(folders):
        run = _read(folder)
        if run is None:
            print(f"left out: {folder}: held nothing out to be tested on; train it with --fold I/N.", file=sys.stderr)
            continue
        place = (run["seed"], run["fold"])
        first, recordings = tested.setdefault(place, (folder, run["recordings"]))
        if recordings != run["recordings"]:
            raise RunError(
                "bad-run",
                f"{folder}: was tested on other recordings than {first}, though both are fold {run['fold']} of seed {run['seed']}; "
                "compare runs of one dataset.",
            )
        if any((other["seed"], other["fold"]) == place for other in systems[run["system"]]):
            raise RunError(
                "bad-run",
                f"{folder}: is a second run of {run['system']}, seed {run['seed']}, fold {run['fold']}; leave one out.",
            )
        systems[run["system"]].append(run)
    if not systems:
        raise RunError("bad-run", "No run held anything out to be tested on; train with --fold I/N.")
    common = set.intersection(*({(run["seed"], run["fold"]) for run in runs} for runs in systems.values()))
    if not common:
        name, fewest = min(systems.items(), key=lambda system: len(system[1]))
        raise RunError(
            "bad-run",
            f"No seed and fold was run by all {len(systems)} systems; {name} has the fewest runs ({fewest[0]['folder']}): leave it out, or "
            "train it on the seeds and folds of the others.",
        )
    for name, runs in systems.items():
        if more := len(runs) - len(common):
            print(
                f"left out of the means: {more} of the {len(runs)} runs of {name}: not every system has run their seed and fold.",
                file=sys.stderr,
            )
    found = [_summary(name, runs, common) for name, runs in systems.items()]
    found.sort(key=lambda system: (-system["file"]["mean"], -system["clip"]["mean"]))
    numbers = {
        "schema": SCHEMA,
        "data": sorted({run["dataset"] for runs in systems.values() for run in runs}),
        "tests": [
            {"seed": seed, "fold": fold, "recordings": len(tested[seed, fold][1]), "in_means": (seed, fold) in common}
            for seed, fold in sorted(tested)
        ],
        "systems": found,
        "hard": _hard(systems),
    }
    if out:
        out.mkdir(parents=True, exist_ok=True)
        (out / "report.json").write_text(json.dumps(numbers, indent=2) + "\n", encoding="ascii")
        (out / "report.md").write_text(markdown(numbers), encoding="utf-8", errors="backslashreplace")
        plots.comparison(
            {system["name"]: {level: [run[level] for run in system["runs"]] for level in LEVELS} for system in found},
            out / "comparison.png",
            f"{', '.join(numbers['data'])}: what was never trained on",
        )
    return numbers


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


def _read(folder: Path) -> dict[str, Any] | None:
    """Return what a run folder records and `compare` needs; None if the run held nothing out to be tested on."""
    try:
        metrics, run, recipe, split, digests = (
            json.loads((folder / f"{name}.json").read_text("utf-8"))
            for name in ("metrics", "run", "recipe", "split", "data")
        )
        if "test" not in metrics:
            return None
        differences = [str(recipe["augment"])] if isinstance(recipe.get("augment"), str) else []
        usual = recipes()[run["recipe"]].settings if run["recipe"] in recipes() else {}
        settings = recipe.get("settings", {}).items()
        differences += [f"{name} {value:g}" for name, value in settings if value != usual.get(name)]
        differences += ["mixed precision"] * bool(run.get("mixed_precision"))
        if "origin" in run:
            origin = run["origin"]
            differences += [f"from {origin['recipe']} {origin['model_sha256'][:8]}"] + ["head only"] * origin[
                "head_only"
            ]
        return {
            "folder": str(folder),
            "system": ", ".join(
                [f"{run['recipe']}, {recipe['epochs']} epoch{'s' * (recipe['epochs'] > 1)}", *differences]
            ),
            "seed": run["seed"],
            "fold": run["fold"] or "-",
            "dataset": run["dataset"],
            "recordings": {name: digests[name] for name in split["test"]},
            "parameters": metrics["parameters"],
            "epochs": metrics["epochs"],
            "seconds": metrics["seconds"],
            "clip": metrics["test"]["clip_accuracy"],
            "file": metrics["test"]["file_accuracy"],
            "wrong": metrics["test"]["wrong_files"],
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise RunError("bad-run", f"{folder}: is not a complete run of ms-train fit; train it anew.") from None


def _summary(name: str, runs: Sequence[dict[str, Any]], common: Collection[tuple[int, str]]) -> dict[str, Any]:
    def spread(key: str) -> dict[str, float | None]:
        values = [run[key] for run in runs if (run["seed"], run["fold"]) in common]
        return {"mean": float(np.mean(values)), "deviation": float(np.std(values, ddof=1)) if len(values) > 1 else None}

    kept = ("seed", "fold", "clip", "file", "epochs", "seconds", "wrong")
    return {
        "name": name,
        "parameters": runs[0]["parameters"],
        "count": len(common),
        **{key: spread(key) for key in (*LEVELS, "epochs", "seconds")},
        "runs": [{key: run[key] for key in kept} for run in sorted(runs, key=lambda run: (run["seed"], run["fold"]))],
    }


def _hard(systems: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The recordings that most tests got wrong."""
    wrong = Counter(name for runs in systems.values() for run in runs for name in run["wrong"])
    asked = Counter(name for runs in systems.values() for run in runs for name in run["recordings"])
    return [{"recording": name, "wrong": count, "of": asked[name]} for name, count in wrong.most_common(MOST_LISTED)]


def table(numbers: dict[str, Any]) -> str:
    """A line a system, the best first, for the terminal."""
    rows = _rows(numbers)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if not column else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def markdown(numbers: dict[str, Any]) -> str:
    """The report."""
    head, *rows = _rows(numbers)
    places = [(run["seed"], run["fold"]) for run in numbers["tests"]]
    per_run = []
    for system in numbers["systems"]:
        runs = {(run["seed"], run["fold"]): run for run in system["runs"]}
        cells = [
            f"{100 * runs[place]['clip']:.1f} / {100 * runs[place]['file']:.1f}" if place in runs else "-"
            for place in places
        ]
        per_run.append([system["name"], *cells])
    parts = [
        f"# {len(numbers['systems'])} systems on {', '.join(numbers['data'])}",
        "Accuracy on recordings that a run neither trained nor stopped on, in per cent: mean over the seeds and folds that all "
        "systems have run and, after ±, the standard deviation. A clip is as long as the recipe's; a recording's answer is the mean over "
        "its clips.",
        grid(head, rows),
        "![every run](comparison.png)",
        "## Run by run",
        "Clips / recordings, in per cent.",
        grid(("", *(f"seed {seed}, fold {fold}" for seed, fold in places)), per_run),
    ]
    if numbers["hard"]:
        parts += [
            "## The hardest recordings",
            grid(
                ("recording", "wrong", "of tests"),
                [[hard["recording"], str(hard["wrong"]), str(hard["of"])] for hard in numbers["hard"]],
            ),
        ]
    return "\n\n".join(parts) + "\n"


def _rows(numbers: dict[str, Any]) -> list[list[str]]:
    rows = [["system", "parameters", "runs", *LEVELS.values(), "epochs", "training"]]
    for system in numbers["systems"]:
        shares = []
        for level in LEVELS:
            mean, deviation = system[level]["mean"], system[level]["deviation"]
            shares.append(f"{100 * mean:.1f}" + ("" if deviation is None else f" ± {100 * deviation:.1f}"))
        rows.append(
            [system["name"], f"{system['parameters']:,}", str(system["count"]), *shares,
             f"{system['epochs']['mean']:.0f}", f"{system['seconds']['mean']:.0f} s"]
        )  # fmt: skip
    return rows
