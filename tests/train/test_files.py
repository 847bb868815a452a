"""`atomic_write`: a file is replaced completely or not at all."""

from __future__ import annotations

import pytest

from ms_train.files import atomic_write


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
