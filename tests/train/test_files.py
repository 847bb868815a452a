"""Files are replaced completely or not at all, and those of others never."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from ms_edge.errors import UsageError
from ms_train.files import atomic_write, make_report_folder, require_own


def test_file_is_replaced_when_complete(tmp_path):
    path = tmp_path / "a.npz"
    path.write_text("old")
    with atomic_write(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
        assert partial.suffix == ".npz"
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"a.npz": "new"}


def test_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.npz"
    path.write_text("old")

    def fail() -> None:
        with atomic_write(path) as partial:
            partial.write_text("ne")
            raise OSError("disk is full")

    with pytest.raises(OSError, match="disk"):
        fail()
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"a.npz": "old"}


@pytest.mark.parametrize(
    ("content", "own"), [(None, True), (b"", True), (b"# Report of a", True), (b"thesis", False), (b"RIFF", False)]
)
def test_only_own_files_may_be_replaced(tmp_path, content, own):
    path = tmp_path / "a.md"
    if content is not None:
        path.write_bytes(content)
    if own:
        require_own(path, rb"# Report", "report")
    else:
        with pytest.raises(UsageError, match="exists, is no report, and is not replaced"):
            require_own(path, rb"# Report", "report")


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such devices")
def test_devices_and_folders_are_not_replaced(tmp_path):
    for path in (tmp_path, tmp_path / "link"):
        if path.name == "link":
            path.symlink_to("/dev/null")
        with pytest.raises(UsageError, match="is not replaced"):
            require_own(path, rb"", "report")


def test_a_report_replaces_only_a_report_of_its_kind(tmp_path):
    make_report_folder(tmp_path / "new" / "er", "ms-train/a-1", ["report.md"])
    (tmp_path / "report.md").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for folder, said in ((tmp_path, "is of no earlier report"), (tmp_path / "file", "cannot be made")):
        with pytest.raises(UsageError, match=said):
            make_report_folder(folder, "ms-train/a-1", ["report.md"])
    for schema, ours in (("ms-train/b-1", False), ("ms-train/a-1", True)):
        (tmp_path / "report.json").write_text(json.dumps({"schema": schema}))
        if ours:
            make_report_folder(tmp_path, "ms-train/a-1", ["report.md"])
        else:
            with pytest.raises(UsageError, match="is not replaced"):
                make_report_folder(tmp_path, "ms-train/a-1", ["report.md"])
    assert (tmp_path / "report.md").read_text() == "mine"


TERMINATED = """
import os, signal, sys
from ms_train.console import run
from ms_train.files import atomic_write
from pathlib import Path
def command():
    with atomic_write(Path(sys.argv[1])) as partial:
        partial.write_text("half")
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
os._exit(run("ms-train", "export", command))
"""


@pytest.mark.skipif(os.name != "posix", reason="Windows has no SIGTERM")
def test_termination_leaves_no_half_file(tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", TERMINATED, str(tmp_path / "a.npz")], capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stderr.splitlines()[-1:]) == (130, ["ms-train: interrupted."])
    assert not list(tmp_path.iterdir())
