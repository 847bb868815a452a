"""The open corpus: freely licensed audio of Debian 12 packages and git repositories, verified and
decoded on request.

`open_corpus.tsv.xz` names every file: its split, label, package or repository, place in it,
SHA-256, language, speaker or composer, licence. `fetch` turns them into 16 kHz FLAC files and an
`index.tsv`; `open_corpus` reads those. The table is made by `ms_train.datasets.corpus_sources`.
"""

from __future__ import annotations

import csv
import hashlib
import lzma
import os
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory

import soundfile
import soxr
from tqdm import tqdm

from ms_edge.audio.file import read_mono
from ms_edge.errors import AudioError, UsageError
from ms_edge.errors import reason as reason_of
from ms_train.datasets import midi, origins
from ms_train.datasets.dataset import Dataset, Recording
from ms_train.datasets.decoding import RATE_HZ, Blocks, decode, decode_sum, read_member
from ms_train.datasets.reading import file_digest
from ms_train.errors import DataError
from ms_train.files import atomic_write

LABELS = ("speech", "music")
SPLITS = ("train", "calib", "val", "test_a", "hard")
INDEX = (
    *("split", "label", "package", "language", "group", "speaker_or_composer", "licence", "fold"),
    *("path", "sha256", "seconds"),
)
SKIPPED = ("path", "package", "reason")
LISTED = ("split", "label", "package", "version", "language", "group", "licence", "licence_stated", "fold")
# Effects of games that the manifest labels as noise, but that are not: their names say so, and a
# voice activity detector agrees.
NOT_NOISE = re.compile(
    r"_(voices?|speech|music)_|jingle|disco(?!mfort)|boswars_(campaigns|intro)"
    r"|boswars_units_.*[._](ready|underattack|attacked|completed|action|select)\."
)
SUM = "//"  # separates the paths of the stems of one recording; no path has two slashes in a row

Table = dict[str, dict[str, str]]  # lines by their `path`


@dataclass(frozen=True)
class Row:
    """One recording of the corpus, a line of the manifest.

    `package` is a Debian package, or a git repository as OWNER/NAME; `version` is the package's
    version or the commit. `path` is in the package, or in its `container` if that is not empty.
    Several paths joined by `SUM` are stems that are added. `group` is a language, an album or a
    kind of noise; training draws a group after it has drawn a package. `sha256` is the digest of
    the original file, or of all stems, one after the other; it is empty if `package_sha256` is
    sufficient. `fold`, 0 to 3, is the fold of `train` that the package belongs to in
    cross-validation.
    """

    split: str
    label: str
    package: str
    version: str
    package_sha256: str
    path: str
    container: str
    language: str
    speaker_or_composer: str
    licence: str
    duration_s: str
    group: str = ""
    sha256: str = ""
    licence_stated: str = ""
    fold: str = ""

    @cached_property
    def flac(self) -> str:
        """The path of the decoded file under the root; the digest keeps flattened names apart."""
        flat = re.sub(r"[^A-Za-z0-9._-]+", "_", self.path.removeprefix("usr/share/"))[-100:]
        digest = hashlib.sha1(f"{self.container}/{self.path}".encode()).hexdigest()[:8]
        return f"audio/{self.split}/{self.label}/{self.package.replace('/', '+')}/{flat}-{digest}.flac"

    @property
    def files(self) -> list[str]:
        """The paths to unpack: the container, else the recording or its stems."""
        return [self.container] if self.container else self.path.split(SUM)


def manifest() -> list[Row]:
    """Return every recording of the corpus, in all splits."""
    packed = resources.files("ms_train.datasets").joinpath("open_corpus.tsv.xz").read_bytes()
    lines = lzma.decompress(packed).decode().splitlines()
    return [Row(**cells) for cells in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)]


def wanted(rows: Sequence[Row], splits: Sequence[str]) -> list[Row]:
    """Return the rows of the splits, in the order of their decoded files.

    Raises UsageError for an unknown split.
    """
    if unknown := set(splits) - set(SPLITS):
        raise UsageError(f"{', '.join(sorted(unknown))}: no such split; give {', '.join(SPLITS)}.")
    return sorted((row for row in rows if row.split in splits), key=lambda row: row.flac)


def listing(rows: Sequence[Row], by: Sequence[str]) -> str:
    """Return a Markdown table of the recordings and minutes with the same values in the columns
    `by`. Raises UsageError.
    """
    if unknown := set(by) - set(LISTED):
        raise UsageError(f"--by {', '.join(sorted(unknown))}: give {', '.join(LISTED)}.")
    counts: Counter[tuple[str, ...]] = Counter()
    seconds: defaultdict[tuple[str, ...], float] = defaultdict(float)
    for row in rows:
        key = tuple(getattr(row, column) for column in by)
        counts[key] += 1
        seconds[key] += float(row.duration_s)
    lines = [[*by, "recordings", "minutes"], ["---"] * len(by) + ["---:"] * 2]
    lines += [[*key, f"{counts[key]:,}", f"{seconds[key] / 60:,.1f}"] for key in sorted(counts)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def fetch(root: Path, splits: Sequence[str] = ("train", "val", "calib"), clones: Path | None = None) -> None:
    """Download, verify and decode the splits into `root`; recordings that are already there are
    kept.

    Repositories cloned in the folder `clones` are read from there. Files that cannot be decoded are
    listed on stderr and in `root/skipped.tsv` (delete this file to try them again). `root/packages`
    and `root/repositories` are not needed afterwards. Raises MsEdgeError if a package or a
    repository is unavailable or cannot be unpacked.
    """
    everything = manifest()
    rows = wanted(everything, splits)
    # The manifest may have changed since a recording was decoded.
    known = {row.flac: row for row in everything}
    index, skipped = read_tables(root)
    index = {path: _line(known[path], line["sha256"], line["seconds"]) for path, line in index.items() if path in known}
    skipped = {path: line for path, line in skipped.items() if path in known}
    done = decode_rows(root, [row for row in rows if row.flac not in skipped], index, skipped, clones)
    there = [float(index[row.flac]["seconds"]) for row in rows if row.flac in index]
    nothing = "" if done else "nothing to do: "
    print(f"{root}: {nothing}{len(there):,} recordings, {sum(there) / 60:,.0f} min, are there.", file=sys.stderr)
    left_out = [skipped[row.flac] for row in rows if row.flac in skipped]
    if left_out:
        print(f"{root}: {len(left_out)} files cannot be decoded and were left out:", file=sys.stderr)
    for entry in left_out:
        print(f"  {entry['package']}: {entry['reason']}", file=sys.stderr)


def decode_rows(root: Path, rows: Sequence[Row], index: Table, skipped: Table, clones: Path | None = None) -> int:
    """Decode the missing rows, enter them into `index` or `skipped`, and return their number.

    Both tables are also written into `root`, after each source and when interrupted. Raises
    MsEdgeError as `fetch` does.
    """
    todo: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in rows:
        if (root / row.flac).is_file():
            if row.flac not in index:
                index[row.flac] = _line(row, *_measured(root / row.flac))
        else:
            todo[row.package, row.version, row.package_sha256].append(row)
    count = sum(map(len, todo.values()))
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{root}: cannot be made ({reason_of(error)}); give --to a folder.") from None
    try:
        with (
            tqdm(total=count, desc="open corpus", unit="file", file=sys.stderr, disable=None) as bar,
            ThreadPoolExecutor(os.cpu_count()) as pool,  # the decoders release the interpreter lock
        ):
            for source, members in sorted(todo.items()):
                bar.set_postfix_str(source[0])
                with origins.unpacked(root, *source, clones) as tree:
                    tree.unpack(file for row in members for file in row.files)
                    futures = [pool.submit(store, root, tree.folder, row) for row in members]
                    try:
                        for row, result in zip(members, (future.result() for future in futures), strict=True):
                            if isinstance(result, AudioError):
                                reason = result.message.replace(f"{tree.folder}/", "")
                                skipped[row.flac] = {"path": row.flac, "package": row.package, "reason": reason}
                            else:
                                index[row.flac] = result
                            bar.update()
                    finally:  # also when interrupted, so that decoded files are not decoded again
                        for future in futures:
                            future.cancel()
                        write_tables(root, index, skipped)
    finally:
        write_tables(root, index, skipped)
    return count


def open_corpus(root: Path) -> Dataset:
    """Return the corpus that `fetch` wrote into `root`.

    Raises DataError(`bad-data`) if there is none.

    Left out are effects from folders named after voices, speech or music, `mixed` material, which
    no single label describes, and the recordings of `train` that `open_corpus_dropped.tsv` drops.
    That file also changes the labels of some recordings.
    """
    rows = {
        path: row
        for path, row in _corrected(_read_table(root / "index.tsv")).items()
        if row["label"] in LABELS or (row["label"] == "noise" and not NOT_NOISE.search(Path(path).name))
    }
    if not rows or not all(column in row for row in rows.values() for column in INDEX):
        what = "was fetched by an older version" if rows else "holds no corpus"
        raise DataError("bad-data", f"{root}: {what}; type: ms-train data fetch open-corpus --to {root}")
    recordings = tuple(
        Recording(
            name=path,
            label=None if row["label"] == "noise" else row["label"],
            source=row["package"],
            group=row["group"],
            sha256=row["sha256"],
            read=partial(read_mono, root / path),
            split=row["split"],
            fold=int(row["fold"]) if row["fold"] else None,
        )
        for path, row in sorted(rows.items())
    )
    licences = tuple(sorted({row["licence"] for row in rows.values() if row["split"] == "train"}))
    return Dataset("open-corpus", LABELS, "independent", recordings, licences)


def _corrected(index: Table) -> Table:
    """Return the lines of the index without the dropped recordings, and with the corrected labels."""
    packed = resources.files("ms_train.datasets").joinpath("open_corpus_dropped.tsv").read_text(encoding="utf-8")
    lines = csv.DictReader(packed.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    changes = {(line["package"], line["file"]): line for line in lines}
    found = {}
    for path, row in index.items():
        change = changes.get((row["package"], Path(path).name)) if row["split"] == "train" else None
        if change is None:
            found[path] = row
        elif change["action"] == "relabel":
            found[path] = {**row, "label": change["label"]}
    return found


def store(root: Path, tree: Path, row: Row) -> dict[str, str] | AudioError:
    """Decode the row's file into `root` unless it is there; return its line of the index, or the
    error if that fails.
    """
    target = root / row.flac
    try:
        if not target.is_file():
            _decode(row, root, tree, target)
    except AudioError as error:
        return error
    return _line(row, *_measured(target))


def _decode(row: Row, root: Path, tree: Path, target: Path) -> None:
    with TemporaryDirectory(prefix=".part-", dir=tree) as work:
        originals = [tree / path for path in row.files]
        if row.container:
            originals = [Path(work) / Path(row.path).name]
            originals[0].write_bytes(read_member(tree / row.container, row.path))
        if row.sha256 and digest_of(originals) != row.sha256:
            advice = f"get {row.version} of it again."
            raise DataError(
                "bad-digest", f"{row.package}: {row.path} has another SHA-256 than the manifest says; {advice}"
            )
        part = Path(work) / "part.flac"
        with soundfile.SoundFile(part, "w", RATE_HZ, 1, format="FLAC", subtype="PCM_16") as file:
            for block in _blocks(originals, root):
                file.write(block)
        if not soundfile.info(part).frames:
            raise AudioError("no-samples", f"{row.path}: holds no samples.")
        target.parent.mkdir(parents=True, exist_ok=True)
        part.replace(target)  # atomically


def _blocks(originals: Sequence[Path], root: Path) -> Blocks:
    """Yield a recording as mono blocks (n,) at 16 kHz: one file, a song to be rendered, or stems."""
    if originals[0].suffix.lower() in midi.SUFFIXES:
        yield soxr.resample(midi.render(originals[0], midi.sound_fonts(root)), midi.RATE_HZ, RATE_HZ, "HQ")
    else:
        yield from decode(originals[0]) if len(originals) == 1 else decode_sum(originals)


def digest_of(files: Sequence[Path]) -> str:
    """Return the SHA-256 of the bytes of one or more files, one after the other.

    Raises AudioError if one cannot be read.
    """
    if len(files) == 1:
        return file_digest(files[0])
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _measured(flac: Path) -> tuple[str, str]:
    """Return the SHA-256 and the seconds of a decoded file."""
    return file_digest(flac), f"{soundfile.info(flac).duration:.3f}"


def _line(row: Row, sha256: str, seconds: str) -> dict[str, str]:
    """Return a row's line of the index."""
    found = {"path": row.flac, "sha256": sha256, "seconds": seconds}
    return {column: found[column] if column in found else getattr(row, column) for column in INDEX}


def read_tables(root: Path) -> tuple[Table, Table]:
    """Return the lines of `index.tsv` and of `skipped.tsv` under the root, by their paths."""
    return _read_table(root / "index.tsv"), _read_table(root / "skipped.tsv")


def write_tables(root: Path, index: Table, skipped: Table) -> None:
    """Write `index.tsv` and `skipped.tsv` under the root."""
    _write_table(root / "index.tsv", INDEX, index)
    _write_table(root / "skipped.tsv", SKIPPED, skipped)


def _read_table(path: Path) -> Table:
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {line["path"]: line for line in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)}


def _write_table(path: Path, columns: Sequence[str], table: Table) -> None:
    lines = ["\t".join(line.get(column, "") for column in columns) for _, line in sorted(table.items())]
    text = "\n".join(["\t".join(columns), *lines, ""])
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8")
