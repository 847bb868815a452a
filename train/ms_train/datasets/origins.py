"""The sources of the corpus's files: Debian packages and git repositories, unpacked into a folder.

A source named OWNER/NAME is a git repository at a commit; any other name is a Debian package of one
version. Both are read with the tools of their format: apt-get and dpkg-deb, and git.
"""

from __future__ import annotations

import os
import re
import subprocess
import zipfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from ms_edge.errors import MsEdgeError
from ms_train.datasets.reading import file_digest
from ms_train.errors import DataError

HOST = "https://github.com"
MEMBER = "!/"  # separates the path of a ZIP file from that of a file in it
# git must not ask for a password, and a clone must not download missing files one by one.
GIT_ENVIRONMENT = {"GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1", "LC_ALL": "C"}


def is_repository(name: str) -> bool:
    """Return whether a source is a git repository: no Debian package has a slash in its name."""
    return "/" in name


def get_package(name: str, version: str, sha256: str, folder: Path) -> Path:
    """Return the verified .deb file of a package: from `folder`, or downloaded into it.

    Raises MsEdgeError.
    """
    for deb in sorted(folder.glob(f"{name}_{version.replace(':', '%3a')}_*.deb")):
        if file_digest(deb) == sha256:
            return deb
    try:
        with TemporaryDirectory(prefix=".download-", dir=folder) as work:
            deb = _download(f"{name}={version}", Path(work))
            if file_digest(deb) != sha256:
                raise DataError("bad-digest", f"{deb.name}: the download has another SHA-256 than the manifest says")
            return deb.replace(folder / deb.name)
    except MsEdgeError as error:
        by_hand = f"or put {name} {version} (a .deb file) into {folder}."
        raise DataError(error.code, f"{error}; try again on Debian 12 after `apt-get update`, {by_hand}") from None


def _download(package: str, folder: Path) -> Path:
    environment = {**os.environ, "LC_ALL": "C"}
    command = ["apt-get", "download", package]
    try:
        result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    except FileNotFoundError:
        raise DataError("no-apt", f"{package}: apt-get, which downloads it, is not on this machine") from None
    if result.returncode:
        problem = (re.findall(r"^E: (.*)$", result.stderr, re.MULTILINE) or ["no reason given"])[-1]
        code = "no-package" if "not found" in problem or "Unable to locate" in problem else "download-failed"
        raise DataError(code, f"{package}: apt-get cannot download it ({problem})")
    return next(folder.glob("*.deb"))


def unpack_package(deb: Path, folder: Path) -> None:
    """Unpack a .deb file into `folder`. Raises MsEdgeError."""
    try:
        result = subprocess.run(["dpkg-deb", "-x", str(deb), str(folder)], capture_output=True, text=True)
    except FileNotFoundError:
        raise DataError("no-dpkg", f"{deb}: dpkg-deb, which unpacks it, is not installed.") from None
    if result.returncode:
        raise DataError("cannot-unpack", f"{deb}: cannot be unpacked ({result.stderr.strip()}); is the disk full?")


class Tree(Protocol):
    """The files of a source: their paths, and the folder into which they are unpacked."""

    folder: Path

    @property
    def paths(self) -> Collection[str]:
        """Every available file, relative to the source's root."""

    def unpack(self, paths: Iterable[str]) -> None:
        """Write these files into `folder`, at their paths.

        Raises MsEdgeError if one of them is unavailable.
        """


@contextmanager
def unpacked(root: Path, name: str, version: str, sha256: str, clones: Path | None = None) -> Iterator[Tree]:
    """Open a source's files in a temporary folder under `root`; downloads stay in `root`.

    Raises MsEdgeError.
    """
    root.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".unpacked-", dir=root) as work:
        folder = Path(work)
        if is_repository(name):
            yield RepositoryTree(folder, name, version, root / "repositories", clones)
        else:
            (root / "packages").mkdir(exist_ok=True)
            unpack_package(get_package(name, version, sha256, root / "packages"), folder)
            yield PackageTree(folder)


class PackageTree:
    """The files of an unpacked Debian package."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def paths(self) -> Collection[str]:
        """Every regular file of the package, and every file of its `.zip` files, as ZIP!/MEMBER."""
        files = [path for path in self.folder.rglob("*") if path.is_file() and not path.is_symlink()]
        found = {str(path.relative_to(self.folder)) for path in files}
        for path in files:
            if path.suffix == ".zip" and zipfile.is_zipfile(path):
                with zipfile.ZipFile(path) as archive:
                    found |= {f"{path.relative_to(self.folder)}{MEMBER}{name}" for name in archive.namelist()}
        return found

    def unpack(self, paths: Iterable[str]) -> None:
        """Do nothing: all files are there."""


class RepositoryTree:
    """The files of one commit of a git repository.

    A clone found in `clones` is used as it is. Otherwise the commit is fetched from the network
    into `cache`, without history and without content; `unpack` then fetches the content of the
    requested files only. Raises MsEdgeError if the commit is unavailable.
    """

    def __init__(self, folder: Path, name: str, commit: str, cache: Path, clones: Path | None = None) -> None:
        self.folder, self._name, self._commit = folder, name, commit
        self._clone = find_clone(name, clones) if clones else None
        self._git_dir = self._clone or cache / f"{name.replace('/', '+')}.git"
        if not self._has_commit():
            if self._clone:
                command = f"git --git-dir {self._clone} fetch {self._url} {commit}"
                raise DataError("no-commit", f"{name}: the clone lacks commit {commit}; type: {command}")
            self._fetch_commit()
        listing = self._git("ls-tree", "-r", "-z", commit).decode("utf-8", "surrogateescape")
        entries = (line.split("\t", 1) for line in listing.split("\0") if line)
        # The identifier of each file's content. Only regular files have a mode of 100...; others
        # are links or submodules.
        self._blobs = {path: about.split()[2] for about, path in entries if about.startswith("100")}

    @cached_property
    def paths(self) -> Collection[str]:
        """Every file of the commit; for a local clone, those whose content it has."""
        there = self._present() if self._clone else set(self._blobs.values())
        return {path for path, blob in self._blobs.items() if blob in there}

    def unpack(self, paths: Iterable[str]) -> None:
        """Write files into `folder`; missing content is fetched in one request."""
        blobs = {path: self._blobs.get(path, "") for path in paths}
        if absent := [path for path, blob in blobs.items() if not blob]:
            raise DataError("not-found", f"{self._name}: {absent[0]!r} is not in commit {self._commit}.")
        missing = set(blobs.values()) - self._present()
        if missing and self._clone:
            raise DataError(
                "not-found",
                f"{self._name}: the clone {self._clone} lacks the content of {len(missing)} files; move it away to have "
                "them downloaded.",
            )
        if missing:
            self._fetch("--filter=blob:none", "--stdin", "origin", given="\n".join([*sorted(missing), ""]))
        command = ["git", "--git-dir", str(self._git_dir), "cat-file", "--batch"]
        environment = {**os.environ, **GIT_ENVIRONMENT}
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as git:
            assert git.stdin
            assert git.stdout
            for path, blob in blobs.items():
                git.stdin.write(f"{blob}\n".encode())
                git.stdin.flush()
                header = git.stdout.readline().split()  # identifier, type, number of bytes
                if len(header) != 3:
                    raise DataError("cannot-read", f"{self._name}: git cannot read {path!r}; clone it again.")
                target = self.folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(git.stdout.read(int(header[2])))
                git.stdout.read(1)  # the newline after the content

    @property
    def _url(self) -> str:
        return f"{HOST}/{self._name}.git"

    def _present(self) -> set[str]:
        """Return the identifiers of all file contents on this machine."""
        form = "--batch-check=%(objectname)"
        return set(self._git("cat-file", form, "--batch-all-objects", "--unordered").decode().split())

    def _has_commit(self) -> bool:
        try:
            return self._git_dir.is_dir() and not self._git("cat-file", "-e", f"{self._commit}^{{tree}}")
        except MsEdgeError as error:
            if error.code == "no-git":
                raise
            return False

    def _fetch_commit(self) -> None:
        self._git_dir.mkdir(parents=True, exist_ok=True)
        self._git("init", "--quiet", "--bare")
        for key, value in (("url", self._url), ("promisor", "true"), ("partialclonefilter", "blob:none")):
            self._git("config", f"remote.origin.{key}", value)
        self._fetch("--depth", "1", "--filter=blob:none", "origin", self._commit)

    def _fetch(self, *arguments: str, given: str = "") -> None:
        # Without negotiation, in which git would ask the server about every object that is not
        # missing.
        options = ("-c", "fetch.negotiationAlgorithm=noop", "fetch", "--quiet", "--no-tags", "--no-write-fetch-head")
        try:
            self._git(*options, *arguments, given=given)
        except MsEdgeError as error:
            raise DataError(
                "download-failed",
                f"{self._name}: git cannot fetch commit {self._commit} from {self._url} ({error}); try again, or clone the "
                "repository by other means and name the folder it is in with --repositories.",
            ) from None

    def _git(self, *arguments: str, given: str = "") -> bytes:
        command = ["git", "--git-dir", str(self._git_dir), *arguments]
        environment = {**os.environ, **GIT_ENVIRONMENT}
        try:
            result = subprocess.run(command, input=given.encode(), capture_output=True, env=environment)
        except FileNotFoundError:
            raise DataError("no-git", f"{self._name}: git, which reads the repository, is not installed.") from None
        if result.returncode:
            problem = result.stderr.decode("utf-8", "replace").strip().splitlines() or ["no reason given"]
            raise DataError("git-failed", problem[-1].removeprefix("fatal: ").rstrip("."))
        return result.stdout


def find_clone(name: str, folder: Path) -> Path | None:
    """Return the git directory of a local clone in `folder`, or None.

    A clone is named OWNER/NAME, OWNER+NAME or OWNER+NAME/repo, with or without `.git` at its end,
    and may have a work tree.
    """
    flat = name.replace("/", "+")
    for place in (name, f"{name}.git", flat, f"{flat}.git", f"{flat}/repo"):
        for git_dir in (folder / place / ".git", folder / place):
            if (git_dir / "HEAD").is_file() and (git_dir / "objects").is_dir():
                return git_dir
    return None
