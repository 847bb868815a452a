"""Measure how well a model knows the level of the music relative to the speech, by level and by source.

    python -m benchmarks.quality.levels --corpus DIR --part test_a -o DIR [--model NAME] [--each N]

Every source of speech of a part of the open corpus is mixed with every source of music, at levels
from -30 to 20 dB that are known exactly (`ms_train.augment.levels`): N windows of a second, and N
programmes of ten seconds, in each condition. Rooms are those of `ms_train.augment.rooms` for tests.
The model answers as `ms-edge classify` does, with one difference: all windows count, whatever their
label. Writes levels.json (a row for each mixture), levels.md (tables) and levels.png (error against
level, by source of music).

With recordings after the options, draws their levels instead, in programmes.png: real programmes,
whose levels nobody knows.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ms_edge.classifier import Classifier
from ms_edge.errors import MsEdgeError
from ms_edge.model.session import LEVEL_NAME
from ms_edge.report.dialogue import curve, require_levels
from ms_train.augment import rooms
from ms_train.augment.levels import CONDITIONS, JUDGED_DB, MUSIC, SPEECH, Mixtures
from ms_train.augment.pool import Pool
from ms_train.datasets.cache import Cache, default_folder
from ms_train.datasets.clips import read_all
from ms_train.datasets.open_corpus import open_corpus
from ms_train.plots import _figure, _save

SECONDS = (1.0, 10.0)
MEASURED = ("dry", "rooms", "telephone", "codecs", "compressed", "noise")
BANDS_DB = tuple(range(-30, 20, 5))
LEAST_S = 20.0  # active sound of a source that is mixed


@dataclass(frozen=True)
class Row:
    """One mixture: its true level in dB, and what the model says."""

    condition: str
    seconds: float
    speech: str
    music: str
    true_db: float
    level_db: float
    low_db: float
    high_db: float
    label: str


def main() -> int:
    """Measure or draw, and write the results."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality.levels",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--part", default="test_a")
    parser.add_argument("--model", default=LEVEL_NAME)
    parser.add_argument("--each", type=int, default=4)
    parser.add_argument("--cache", type=Path, default=default_folder())
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("recordings", nargs="*")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    try:
        classifier = Classifier(args.model, "cpu")
        require_levels(classifier)
        if args.recordings:
            draw_programmes(classifier, args.recordings, args.out / "programmes.png")
            return 0
        rows = measured(classifier, args.corpus, args.part, args.each, Cache(args.cache))
    except MsEdgeError as error:
        print(f"levels: {error}", file=sys.stderr)
        return 1
    (args.out / "levels.json").write_text(json.dumps([asdict(row) for row in rows]) + "\n", "utf-8")
    (args.out / "levels.md").write_text(text := tables(rows), "utf-8")
    draw(rows, args.out / "levels.png")
    print(text)
    return 0


def measured(classifier: Classifier, corpus: Path, part: str, each: int, cache: Cache) -> list[Row]:
    """Return `each` mixtures of every pair of sources, in every condition and duration."""
    rate_hz, scale = classifier.spec.sample_rate_hz, require_levels(classifier)
    dataset = open_corpus(corpus)
    chosen = [each for each in dataset.recordings if each.split == part and each.label in (SPEECH, MUSIC)]
    read = list(read_all(chosen, rate_hz, part, cache))
    active = cache.activity(read, rate_hz)
    sources: dict[str, list[str]] = {SPEECH: [], MUSIC: []}
    for label, names in sources.items():
        seconds: dict[str, float] = {}
        for recording, _ in read:
            if recording.label == label:
                seconds[recording.source] = seconds.get(recording.source, 0.0) + 0.02 * active[recording.name].sum()
        names += sorted(name for name, value in seconds.items() if value >= LEAST_S)
    spaces = rooms.load("test", rate_hz, cache.folder)
    rows: list[Row] = []
    rng = np.random.default_rng(0)
    pairs = [(speech, music) for speech in sources[SPEECH] for music in sources[MUSIC]]
    for speech, music in tqdm(pairs, desc="mixtures", unit="pair", file=sys.stderr, disable=None):
        of_pair = [one for one in read if one[0].source == {SPEECH: speech, MUSIC: music}[str(one[0].label)]]
        pool = Pool(of_pair, dataset.labels, dataset.decision, classifier.spec, active=active)
        for condition in MEASURED:
            mixtures = Mixtures(pool, spaces, CONDITIONS[condition])
            for seconds_ in SECONDS:
                windows, truth = mixtures.batch(each, round(seconds_ * rate_hz), rng)
                for window, true_db in zip(windows, truth, strict=True):
                    found, scores = classifier.analyse(window, rate_hz)
                    assert scores.levels is not None
                    level = scale.combined(scores.levels, seconds_ / classifier.spec.clip_s)
                    low, high = level.interval_db
                    rows.append(
                        Row(condition, seconds_, speech, music, float(true_db), level.db, low, high, found.label)
                    )
    return rows


def tables(rows: Sequence[Row]) -> str:
    """Return the tables of a measurement as Markdown."""
    judged = [row for row in rows if JUDGED_DB[0] <= row.true_db <= JUDGED_DB[1]]
    whole = [row for row in judged if row.seconds == SECONDS[-1]]
    plain = [row for row in whole if row.condition in ("dry", "rooms")]
    bands = [
        (f"{low} to {low + 5} dB", [r for r in rows if r.condition in ("dry", "rooms") and low <= r.true_db < low + 5])
        for low in BANDS_DB
    ]
    parts = [
        "Mean absolute error from -20 to 10 dB, by condition:",
        _table("condition", [(name, [r for r in judged if r.condition == name]) for name in MEASURED]),
        "Dry and in rooms, by level:",
        _table("level", bands),
        f"Dry and in rooms, {SECONDS[-1]:g} s, from -20 to 10 dB, by source of music:",
        _table("music", _grouped(plain, lambda row: row.music)),
        f"Dry and in rooms, {SECONDS[-1]:g} s, from -20 to 10 dB, by source of speech:",
        _table("speech", _grouped(plain, lambda row: row.speech)),
    ]
    return "\n\n".join(parts) + "\n"


def _grouped(rows: Iterable[Row], key: Callable[[Row], str]) -> list[tuple[str, list[Row]]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return sorted(found.items())


def _table(what: str, groups: Sequence[tuple[str, Sequence[Row]]]) -> str:
    lines = [f"| {what} | s | mixtures | error, dB | bias, dB | interval, dB | holds | speech+music |"]
    lines.append("| --- " + "| ---: " * 7 + "|")
    for name, rows in groups:
        for seconds in SECONDS:
            of = [row for row in rows if row.seconds == seconds]
            if not of:
                continue
            error = np.array([row.level_db - row.true_db for row in of])
            width = np.mean([row.high_db - row.low_db for row in of])
            held = np.mean([row.low_db <= row.true_db <= row.high_db for row in of])
            both = np.mean([row.label == f"{SPEECH}+{MUSIC}" for row in of])
            lines.append(
                f"| {name} | {seconds:g} | {len(of)} | {np.abs(error).mean():.2f} | {error.mean():+.2f} | {width:.1f} "
                f"| {held:.0%} | {both:.0%} |"
            )
    return "\n".join(lines)


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw the mean and the mean absolute error against the level, a line for each source of music."""
    figure = _figure(12, 8)
    axes = figure.subplots(2, 2, sharex=True, sharey="row")
    plain = [row for row in rows if row.condition in ("dry", "rooms")]
    for column, seconds in enumerate(SECONDS):
        of = [row for row in plain if row.seconds == seconds]
        for name, group in [*_grouped(of, lambda row: row.music), ("all", of)]:
            truth = np.array([row.true_db for row in group])
            error = np.array([row.level_db - row.true_db for row in group])
            edges = np.arange(-30, 21, 10) if name != "all" else np.arange(-30, 21, 5)
            places = [(truth >= low) & (truth < high) for low, high in pairwise(edges)]
            style = {"color": "black", "linewidth": 2.5} if name == "all" else {"linewidth": 1, "marker": "."}
            x = (edges[:-1] + edges[1:]) / 2
            for axis, values in zip(axes[:, column], (np.abs(error), error), strict=True):
                axis.plot(x, [values[at].mean() if at.any() else np.nan for at in places], label=name, **style)
        axes[0, column].set_title(f"{seconds:g} s, dry and in rooms")
        axes[1, column].set_xlabel("true level of the music relative to the speech, dB")
        for axis in axes[:, column]:
            axis.grid(alpha=0.3)
            axis.axvspan(*JUDGED_DB, color="tab:green", alpha=0.06)
    axes[0, 0].set_ylabel("mean absolute error, dB")
    axes[1, 0].set_ylabel("mean error, dB")
    axes[0, 0].axhline(3, color="tab:red", linewidth=1)
    axes[0, 1].axhline(3, color="tab:red", linewidth=1)
    axes[0, 1].legend(fontsize=8, title="music")
    _save(figure, path)


def draw_programmes(classifier: Classifier, paths: Sequence[str], path: Path) -> None:
    """Draw the level in recordings: of 3 s around each window, and of each segment with its interval."""
    scale, spec = require_levels(classifier), classifier.spec
    figure = _figure(12, 3 * len(paths))
    for axis, recording in zip(figure.subplots(len(paths), 1, squeeze=False)[:, 0], paths, strict=True):
        found, windows = classifier.analyse(recording)
        centres_s = (windows.starts + spec.clip_samples / 2) / spec.sample_rate_hz
        axis.plot(centres_s, curve(found.segments, windows, spec, scale), color="black", linewidth=1)
        for part in found.segments:
            if part.music_to_speech_db is not None and part.music_to_speech_db_interval is not None:
                axis.fill_between(
                    [part.start_s, part.end_s], *part.music_to_speech_db_interval, color="tab:purple", alpha=0.2
                )
                axis.hlines(part.music_to_speech_db, part.start_s, part.end_s, color="tab:purple", linewidth=2)
            elif part.label in (SPEECH, MUSIC):
                colour = "tab:cyan" if part.label == SPEECH else "tab:orange"
                axis.axvspan(part.start_s, part.end_s, color=colour, alpha=0.15)
        axis.axhline(-20, color="tab:red", linewidth=1)
        axis.set(ylim=(-30, 20), xlim=(0, found.duration_s), ylabel="music to speech, dB")
        axis.set_title(Path(recording).name, fontsize=9)
    axis.set_xlabel("s (cyan: only speech, orange: only music, purple: both, with the interval)")
    _save(figure, path)


if __name__ == "__main__":
    sys.exit(main())
