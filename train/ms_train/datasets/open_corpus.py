"""The open corpus: freely licensed audio inside Debian 12 packages, downloaded, verified and decoded on request.

`open_corpus.tsv.xz` names every file: its split, label, package (with the SHA-256 that makes it the same everywhere),
place in the package, language, speaker or composer, licence. `fetch` turns them into 16 kHz FLAC files and an
`index.tsv`; `open_corpus` reads those.
"""

from __future__ import annotations

import csv
import hashlib
import lzma
import os
import re
import struct
import subprocess
import sys
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile
import soxr
from ms_edge.audio import AudioFile, read_mono
from ms_edge.errors import AudioError, MsEdgeError
from numpy.typing import NDArray
from tqdm import tqdm

from ms_train.datasets import Dataset, Recording

RATE_HZ = 16_000
LABELS = ("music", "speech")
# One game's dialogue is more than half of the speech to train on: all of it would teach that game.
CAP_S = {"flight-of-the-amazon-queen": 90 * 60}
# Nothing in these files says what they are: rate in Hz, libsndfile's name of the coding, bytes before the first sample.
HEADERLESS = {".gsm": (8_000, "GSM610", 0), ".raw": (8_000, "PCM_16", 0), ".als": (11_025, "PCM_U8", 32)}
INDEX = ("split", "label", "package", "language", "speaker_or_composer", "path", "sha256", "seconds", "licence")
SKIPPED = ("path", "package", "file", "reason")

Blocks = Iterator[NDArray[np.float32]]


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
    duration_s: float

    @property
    def flac(self) -> str:
        """Where the decoded file lies under the root; the digest keeps flattened names apart."""
        flat = re.sub(r"[^A-Za-z0-9._-]+", "_", self.path.removeprefix("usr/share/"))[-100:]
        digest = hashlib.sha1(f"{self.container}/{self.path}".encode()).hexdigest()[:8]
        return f"audio/{self.split}/{self.label}/{self.package}/{flat}-{digest}.flac"


def manifest() -> list[Row]:
    """Every file of the corpus, in all splits."""
    packed = resources.files("ms_train.datasets").joinpath("open_corpus.tsv.xz").read_bytes()
    lines = csv.reader(lzma.decompress(packed).decode().splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    next(lines)  # the names of the columns, which are Row's
    return [Row(*cells[:-1], duration_s=float(cells[-1])) for cells in lines]


def wanted(rows: Sequence[Row], splits: Sequence[str]) -> list[Row]:
    """The rows of the splits, those of a capped package drawn in the stable order of their paths' digests."""
    unknown = set(splits) - {row.split for row in rows}
    if unknown:
        raise MsEdgeError("usage", f"{', '.join(sorted(unknown))}: no such split; there are train, val, test_a and hard.")
    seconds: Counter[str] = Counter()
    kept = []
    for row in sorted(rows, key=lambda row: hashlib.sha1(row.path.encode()).digest()):
        if row.split not in splits:
            continue
        milliseconds = round(row.duration_s * 1000)
        if row.package in CAP_S and seconds[row.package] + milliseconds > CAP_S[row.package] * 1000:
            continue
        seconds[row.package] += milliseconds
        kept.append(row)
    return sorted(kept, key=lambda row: row.flac)


def fetch(root: Path, splits: Sequence[str] = ("train", "val")) -> None:
    """Download, verify and decode the splits into `root`; what is already there is not done again.

    Files that cannot be decoded are listed on stderr and in `root/skipped.tsv` (delete it to have them tried again).
    Raises MsEdgeError where a package cannot be had, is not the one expected, or cannot be unpacked.
    """
    rows = wanted(manifest(), splits)
    packages = root / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    index = _read_table(root / "index.tsv")
    skipped = _read_table(root / "skipped.tsv")
    todo: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.flac not in skipped and not (row.flac in index and (root / row.flac).is_file()):
            todo[row.package].append(row)
    with tqdm(total=sum(map(len, todo.values())), desc="open corpus", unit="file", file=sys.stderr, disable=None) as bar:
        for package, members in sorted(todo.items()):
            bar.set_postfix_str(package)
            deb = _package(packages, members[0])
            try:
                with TemporaryDirectory(prefix=".unpacked-", dir=root) as folder:
                    tree = Path(folder)
                    _unpack(deb, tree)
                    for row in members:
                        try:
                            index[row.flac] = _store(row, tree, root / row.flac)
                        except AudioError as error:
                            reason = error.message.replace(f"{folder}/", "")
                            skipped[row.flac] = dict(zip(SKIPPED, (row.flac, package, row.path, reason), strict=True))
                        bar.update()
            finally:  # also when interrupted: what is written down is not decoded again
                _write_table(root / "index.tsv", INDEX, index)
                _write_table(root / "skipped.tsv", SKIPPED, skipped)
    _say(root, splits, rows, index, skipped, nothing_done=not todo)


def _say(
    root: Path,
    splits: Sequence[str],
    rows: Sequence[Row],
    index: dict[str, dict[str, str]],
    skipped: dict[str, dict[str, str]],
    nothing_done: bool,
) -> None:
    there = [index[row.flac] for row in rows if row.flac in index]
    minutes = sum(float(row["seconds"]) for row in there) / 60
    done = "nothing to do: " if nothing_done else ""
    print(f"{root}: {done}{len(there):,} recordings, {minutes:,.0f} min of {', '.join(splits)} are there.", file=sys.stderr)
    left_out = [skipped[row.flac] for row in rows if row.flac in skipped]
    if left_out:
        print(f"{root}: {len(left_out)} files cannot be decoded and were left out:", file=sys.stderr)
    for entry in left_out:
        print(f"  {entry['package']}: {entry['reason']}", file=sys.stderr)


def open_corpus(root: Path) -> Dataset:
    """The corpus that `fetch` wrote into `root`. Raises MsEdgeError(`bad-data`) where there is none."""
    rows = _read_table(root / "index.tsv")
    if not rows:
        raise MsEdgeError("bad-data", f"{root}: holds no open corpus; type: ms-train data fetch open-corpus --to {root}")
    recordings = tuple(
        Recording(
            name=path,
            label=None if row["label"] == "noise" else row["label"],
            source=f"{row['package']}/{row['language']}" if row["label"] == "speech" else row["package"],
            sha256=row["sha256"],
            read=partial(read_mono, root / path),
            split=row["split"],
        )
        for path, row in sorted(rows.items())
    )
    return Dataset("open-corpus", LABELS, "independent", recordings, tuple(sorted({row["licence"] for row in rows.values()})))


# Packages.


def _package(folder: Path, row: Row) -> Path:
    """The package a row is in, verified: from the folder, or downloaded into it."""
    for deb in sorted(folder.glob(f"{row.package}_{row.version.replace(':', '%3a')}_*.deb")):
        if _sha256(deb) == row.package_sha256:
            return deb
    by_hand = f"or put the package, from https://snapshot.debian.org/package/, into {folder}."
    with TemporaryDirectory(prefix=".download-", dir=folder) as work:
        _download(f"{row.package}={row.version}", Path(work), by_hand)
        deb = next(Path(work).glob("*.deb"))
        if _sha256(deb) != row.package_sha256:
            raise MsEdgeError(
                "bad-digest", f"{deb.name}: its SHA-256 is not {row.package_sha256}; check where apt-get downloads from, {by_hand}"
            )
        return deb.replace(folder / deb.name)


def _download(package: str, folder: Path, by_hand: str) -> None:
    try:
        result = subprocess.run(
            ["apt-get", "download", package], cwd=folder, env={**os.environ, "LC_ALL": "C"}, capture_output=True, text=True
        )
    except FileNotFoundError:
        raise MsEdgeError("no-apt", f"{package}: apt-get is not on this machine; fetch on Debian 12, {by_hand}") from None
    if result.returncode:
        problem = (re.findall(r"^E: (.*)$", result.stderr, re.MULTILINE) or ["no reason given"])[-1].rstrip(".")
        if "was not found" in problem or "Unable to locate" in problem:
            raise MsEdgeError("no-package", f"{package}: apt-get does not know it; on Debian 12 type: apt-get update, {by_hand}")
        raise MsEdgeError("download-failed", f"{package}: apt-get failed ({problem}); try again, {by_hand}")


def _unpack(deb: Path, folder: Path) -> None:
    try:
        result = subprocess.run(["dpkg-deb", "-x", str(deb), str(folder)], capture_output=True, text=True)
    except FileNotFoundError:
        raise MsEdgeError("no-dpkg", f"{deb}: dpkg-deb, which unpacks it, is not on this machine; install dpkg.") from None
    if result.returncode:
        raise MsEdgeError("bad-package", f"{deb}: dpkg-deb cannot unpack it ({result.stderr.strip()}); is the disk full?")


# Files.


def _store(row: Row, tree: Path, target: Path) -> dict[str, str]:
    """Decode a row's file to `target` unless it is there, and return its line of the index. Raises AudioError."""
    if not target.is_file():
        source = tree / row.path
        if row.container:
            source = tree / f"member{Path(row.path).suffix}"
            source.write_bytes(read_member(tree / row.container, row.path))
        part = tree / "part.flac"
        with soundfile.SoundFile(part, "w", RATE_HZ, 1, format="FLAC", subtype="PCM_16") as file:
            for block in decode(source):
                file.write(block)
        if not soundfile.info(part).frames:
            raise AudioError("no-samples", f"{row.path}: holds no samples.")
        target.parent.mkdir(parents=True, exist_ok=True)
        part.replace(target)  # in one step: a file that is there is whole
    seconds = f"{soundfile.info(target).frames / RATE_HZ:.3f}"
    cells = (row.split, row.label, row.package, row.language, row.speaker_or_composer, row.flac, _sha256(target), seconds, row.licence)
    return dict(zip(INDEX, cells, strict=True))


def read_member(container: Path, name: str) -> bytes:
    """One file out of a container: a `.pk3` (a ZIP file) or `queen.1c`. Raises AudioError where it is not in there."""
    if container.name != "queen.1c":
        with zipfile.ZipFile(container) as archive:
            return archive.read(name)
    with container.open("rb") as file:
        # 12 bytes of version, 1 of compression, the number of entries; big-endian throughout.
        (count,) = struct.unpack(">13xH", file.read(15))
        for entry, offset, size in struct.iter_unpack(">12sxII", file.read(21 * count)):
            if entry.rstrip(b"\0") == name.encode():
                file.seek(offset)
                return file.read(size)
    raise AudioError("not-found", f"{name}: is not in {container}.")


def decode(path: Path) -> Blocks:
    """Any file of the corpus as mono blocks (n,) at 16 kHz. Raises AudioError."""
    suffix = path.suffix.lower()
    if suffix in HEADERLESS:
        return _resample(_headerless(path, *HEADERLESS[suffix]), HEADERLESS[suffix][0])
    if suffix == ".g722":
        return _ffmpeg(path)  # it has no header either, and libsndfile might take it for something else
    try:
        with AudioFile(path, RATE_HZ):
            pass
    except AudioError as error:
        if error.code == "not-audio":
            return _ffmpeg(path)
        raise
    return _sndfile(path)
