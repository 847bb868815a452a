"""The open corpus: freely licensed audio inside Debian 12 packages, downloaded, verified and decoded on request.

`open_corpus.tsv.xz` names every file: its split, label, package (and the SHA-256 that makes it the same everywhere),
place in the package, language, speaker or composer, licence. `fetch` turns them into 16 kHz FLAC files and an
`index.tsv`; `open_corpus` reads those.
"""

from __future__ import annotations

import csv
import hashlib
import lzma
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory

import soundfile
from tqdm import tqdm

from ms_edge.audio import read_mono
from ms_edge.errors import AudioError, MsEdgeError, UsageError
from ms_train.datasets import Dataset, Recording
from ms_train.datasets.decoding import RATE_HZ, decode, read_member

LABELS = ("speech", "music")
# One game's dialogue is more than half of the speech to train on: all of it would teach that game.
CAP_S = {"flight-of-the-amazon-queen": 90 * 60}
INDEX = ("split", "label", "package", "language", "speaker_or_composer", "licence", "path", "sha256", "seconds")
SKIPPED = ("path", "package", "reason")
# Games' effects whose names say that they are not what the manifest calls them, noise: and a voice activity detector agrees.
NOT_NOISE = re.compile(
    r"_(voices?|speech|music)_|jingle|disco|boswars_(campaigns|intro)"
    r"|boswars_units_.*[._](ready|underattack|attacked|completed|action|select)\."
)

Table = dict[str, dict[str, str]]  # lines by their `path`


@dataclass(frozen=True)
class Row:
    """One file of the corpus. `path` lies in the package, or in its `container` where that is not empty."""

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

    @property
    def flac(self) -> str:
        """Where the decoded file lies under the root; the digest keeps flattened names apart."""
        flat = re.sub(r"[^A-Za-z0-9._-]+", "_", self.path.removeprefix("usr/share/"))[-100:]
        digest = hashlib.sha1(f"{self.container}/{self.path}".encode()).hexdigest()[:8]
        return f"audio/{self.split}/{self.label}/{self.package}/{flat}-{digest}.flac"


def manifest() -> list[Row]:
    """Every file of the corpus, in all splits."""
    packed = resources.files("ms_train.datasets").joinpath("open_corpus.tsv.xz").read_bytes()
    lines = lzma.decompress(packed).decode().splitlines()
    return [Row(**cells) for cells in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)]


def wanted(rows: Sequence[Row], splits: Sequence[str]) -> list[Row]:
    """The rows of the splits; of a capped package those that come first by their paths' digests."""
    if unknown := set(splits) - {row.split for row in rows}:
        raise UsageError("usage", f"{', '.join(sorted(unknown))}: no such split; give train, val, test_a or hard.")
    seconds: Counter[str] = Counter()
    kept = []
    for row in sorted(rows, key=lambda row: hashlib.sha1(row.path.encode()).digest()):
        milliseconds = round(float(row.duration_s) * 1000)
        if row.split in splits and seconds[row.package] + milliseconds <= 1000 * CAP_S.get(row.package, 10**9):
            seconds[row.package] += milliseconds
            kept.append(row)
    return sorted(kept, key=lambda row: row.flac)


def fetch(root: Path, splits: Sequence[str] = ("train", "val")) -> None:
    """Download, verify and decode the splits into `root`; what is already there is not done again.

    Files that cannot be decoded are listed on stderr and in `root/skipped.tsv` (delete it to have them tried again);
    `root/packages` is not needed afterwards. Raises MsEdgeError where a package cannot be had or unpacked.
    """
    rows = wanted(manifest(), splits)
    packages = root / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    index, skipped = _read_table(root / "index.tsv"), _read_table(root / "skipped.tsv")
    todo: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.flac not in skipped and not (row.flac in index and (root / row.flac).is_file()):
            todo[row.package].append(row)
    count = sum(map(len, todo.values()))
    with tqdm(total=count, desc="open corpus", unit="file", file=sys.stderr, disable=None) as bar:
        for package, members in sorted(todo.items()):
            bar.set_postfix_str(package)
            deb = _package(packages, members[0])
            with TemporaryDirectory(prefix=".unpacked-", dir=root) as folder:
                _unpack(deb, Path(folder))
                try:
                    for row in members:
                        try:
                            index[row.flac] = _store(row, Path(folder), root / row.flac)
                        except AudioError as error:
                            reason = error.message.replace(f"{folder}/", "")
                            skipped[row.flac] = {"path": row.flac, "package": package, "reason": reason}
                        bar.update()
                finally:  # also when interrupted: what is written down is not decoded again
                    _write_table(root / "index.tsv", INDEX, index)
                    _write_table(root / "skipped.tsv", SKIPPED, skipped)
    there = [float(index[row.flac]["seconds"]) for row in rows if row.flac in index]
    done = "" if todo else "nothing to do: "
    print(f"{root}: {done}{len(there):,} recordings, {sum(there) / 60:,.0f} min, are there.", file=sys.stderr)
    left_out = [skipped[row.flac] for row in rows if row.flac in skipped]
    if left_out:
        print(f"{root}: {len(left_out)} files cannot be decoded and were left out:", file=sys.stderr)
    for entry in left_out:
        print(f"  {entry['package']}: {entry['reason']}", file=sys.stderr)


def open_corpus(root: Path) -> Dataset:
    """The corpus that `fetch` wrote into `root`. Raises MsEdgeError(`bad-data`) where there is none.

    Effects from folders named after voices, speech or music are left out, and so is `mixed` material, which no single
    label describes.
    """
    rows = {
        path: row
        for path, row in _read_table(root / "index.tsv").items()
        if row["label"] in LABELS or (row["label"] == "noise" and not NOT_NOISE.search(Path(path).name))
    }
    if not rows:
        raise MsEdgeError("bad-data", f"{root}: holds no corpus; type: ms-train data fetch open-corpus --to {root}")
    recordings = tuple(
        Recording(
            name=path,
            label=None if row["label"] == "noise" else row["label"],
            source=f"{row['package']}/{row['language']}" if row["language"] else row["package"],
            sha256=row["sha256"],
            read=partial(read_mono, root / path),
            split=row["split"],
        )
        for path, row in sorted(rows.items())
    )
    licences = tuple(sorted({row["licence"] for row in rows.values() if row["split"] == "train"}))
    return Dataset("open-corpus", LABELS, "independent", recordings, licences)


def _package(folder: Path, row: Row) -> Path:
    """The package a row is in, verified: from the folder, or downloaded into it."""
    for deb in sorted(folder.glob(f"{row.package}_{row.version.replace(':', '%3a')}_*.deb")):
        if _sha256(deb) == row.package_sha256:
            return deb
    try:
        with TemporaryDirectory(prefix=".download-", dir=folder) as work:
            deb = _download(f"{row.package}={row.version}", Path(work))
            if _sha256(deb) != row.package_sha256:
                raise MsEdgeError("bad-digest", f"{deb.name}: the download has another SHA-256 than the manifest says")
            return deb.replace(folder / deb.name)
    except MsEdgeError as error:
        by_hand = f"or put {row.package} {row.version} (a .deb file) into {folder}."
        raise MsEdgeError(error.code, f"{error}; try again on Debian 12 after `apt-get update`, {by_hand}") from None


def _download(package: str, folder: Path) -> Path:
    environment = {**os.environ, "LC_ALL": "C"}
    command = ["apt-get", "download", package]
    try:
        result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    except FileNotFoundError:
        raise MsEdgeError("no-apt", f"{package}: apt-get, which downloads it, is not on this machine") from None
    if result.returncode:
        problem = (re.findall(r"^E: (.*)$", result.stderr, re.MULTILINE) or ["no reason given"])[-1]
        code = "no-package" if "not found" in problem or "Unable to locate" in problem else "download-failed"
        raise MsEdgeError(code, f"{package}: apt-get cannot download it ({problem})")
    return next(folder.glob("*.deb"))


def _unpack(deb: Path, folder: Path) -> None:
    try:
        result = subprocess.run(["dpkg-deb", "-x", str(deb), str(folder)], capture_output=True, text=True)
    except FileNotFoundError:
        raise MsEdgeError("no-dpkg", f"{deb}: dpkg-deb, which unpacks it, is not installed.") from None
    if result.returncode:
        raise MsEdgeError("cannot-unpack", f"{deb}: cannot be unpacked ({result.stderr.strip()}); is the disk full?")


def _store(row: Row, tree: Path, target: Path) -> dict[str, str]:
    """Decode a row's file to `target` unless it is there, and return its line of the index. Raises AudioError."""
    if not target.is_file():
        source = tree / row.path
        if row.container:
            source = tree / Path(row.path).name
            source.write_bytes(read_member(tree / row.container, row.path))
        part = tree / "part.flac"
        with soundfile.SoundFile(part, "w", RATE_HZ, 1, format="FLAC", subtype="PCM_16") as file:
            for block in decode(source):
                file.write(block)
        if not soundfile.info(part).frames:
            raise AudioError("no-samples", f"{row.path}: holds no samples.")
        target.parent.mkdir(parents=True, exist_ok=True)
        part.replace(target)  # in one step: a file that is there is whole
    found = {"path": row.flac, "sha256": _sha256(target), "seconds": f"{soundfile.info(target).duration:.3f}"}
    return {column: found.get(column) or getattr(row, column) for column in INDEX}


def _read_table(path: Path) -> Table:
    if not path.is_file():
        return {}
    with path.open(newline="") as file:
        return {line["path"]: line for line in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)}


def _write_table(path: Path, columns: Sequence[str], table: Table) -> None:
    part = path.with_suffix(".part")
    lines = ["\t".join(line[column] for column in columns) for _, line in sorted(table.items())]
    part.write_text("\n".join(["\t".join(columns), *lines, ""]))
    part.replace(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
