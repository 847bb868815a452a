"""What SOURCE names, and how recordings are divided into tasks."""

from __future__ import annotations

import os
import sys

import pytest
from fsspec.implementations.local import LocalFileSystem

from ms_edge.archive.listing import TASK_S, Recording, recordings, tasks
from ms_edge.archive.stores import Stores, require_no_password, split_scheme
from ms_edge.cli.main import main
from ms_edge.errors import DeviceError, UsageError


def listed(source: object, told: list[str] | None = None) -> list[Recording]:
    return recordings(str(source), Stores(), [].append if told is None else told.append)


def test_list_names_each_recording_once(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    names = tmp_path / "names.txt"
    names.write_text(f"{tmp_path}/a.wav\n\n{tmp_path}/gone.wav\n{tmp_path}/a.wav\n", "utf-8")
    told: list[str] = []
    found = listed(names, told)
    assert [(each.path, each.bytes) for each in found] == [(f"{tmp_path}/a.wav", 4), (f"{tmp_path}/gone.wav", None)]
    assert "1 name is not the first" in told[0]


def test_list_may_begin_with_a_mark(tmp_path):
    (tmp_path / "names.txt").write_text("a.wav\r\n", "utf-8-sig", newline="")
    assert [each.path for each in listed(tmp_path / "names.txt")] == ["a.wav"]


def test_list_is_divided_at_line_ends_only(tmp_path):
    """Other characters that Python's splitlines divides at may be part of a name."""
    names = ["a\x0bb.wav", "c\x85d.wav", "e\u2028f.wav", "last.wav"]
    (tmp_path / "names.txt").write_text("\n".join(names), "utf-8")
    assert [each.path for each in listed(tmp_path / "names.txt")] == names


def test_line_that_no_store_knows_is_an_error_row(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    (tmp_path / "names.txt").write_text(f"{tmp_path}/a.wav\nnonsense://x/b.wav\n{tmp_path}/\0c.wav\n", "utf-8")
    first, unknown, nul = listed(tmp_path / "names.txt")
    assert (first.bytes, first.failure) == (4, None)
    assert unknown.failure
    assert "no store can be opened" in unknown.failure.message
    assert nul == Recording(f"{tmp_path}/\0c.wav")  # reading it gives the error


def test_passwords_do_not_get_into_rows(tmp_path, capsys):
    (tmp_path / "names.txt").write_text("s3://AKID:secret@bucket/a.wav\n", "utf-8")
    sources = [str(tmp_path / "names.txt"), "s3://AKID:secret@bucket/a", "s3://AKID:a/secret@bucket/a"]
    for arguments in (*([source, "-o", str(tmp_path / "out")] for source in sources), ["x", "-o", sources[1]]):
        assert main(["archive", *arguments]) == 2
        said = capsys.readouterr().err
        assert "a password in a URL would be in every row" in said
        assert "secret@" not in said


@pytest.mark.parametrize(
    "place",
    ["s3://b/a:b@c.wav", "hdfs://host:9000/a", "abfs://box@me.dfs.core.windows.net/a", "http://[::1]:80/a", "a:b@c/d"],
)
def test_other_colons_are_no_passwords(place):
    require_no_password(place)


@pytest.mark.parametrize("place", ["s3://bucket/x://y.wav", "file:///x://y.wav", "dir/x://y.wav"])
def test_keys_may_hold_the_mark_of_a_scheme(place):
    scheme, rest = split_scheme(place)
    assert rest.endswith("x://y.wav")
    assert scheme == place.partition(":")[0] or (scheme == "" and place.startswith("dir"))


def test_empty_names_are_refused(tmp_path, capsys):
    assert main(["archive", "", "-o", str(tmp_path / "out")]) == 2
    assert "needs the names of its source and of its output" in capsys.readouterr().err


def test_store_that_fails_loses_no_recordings(tmp_path):
    class Refusing(LocalFileSystem):
        def info(self, path, **options):
            if path.endswith(".wav"):
                raise PermissionError("403")
            return super().info(path, **options)

    (tmp_path / "names.txt").write_text("b.wav\na.wav\n", "utf-8")
    found = recordings(f"{tmp_path}/names.txt", Stores(filesystem=Refusing()), [].append)
    assert found == [Recording("b.wav"), Recording("a.wav")]


def test_url_of_a_folder_gives_its_paths(tmp_path):
    (tmp_path / "x y%20?#").mkdir()
    (tmp_path / "x y%20?#" / "ä.flac").write_bytes(b"fLaC")
    assert [each.path for each in listed(f"file://{tmp_path}")] == [f"{tmp_path}/x y%20?#/ä.flac"]


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes exist on Linux alone")
def test_name_without_unicode_is_an_error_row(tmp_path):
    with open(os.fsencode(tmp_path) + b"/\xff.wav", "wb") as file:
        file.write(b"RIFF")
    (found,) = listed(tmp_path)
    assert found.failure
    assert found.failure.code == "cannot-open"
    assert found.path.endswith("\\xff.wav")


def test_sources_that_cannot_be_read_are_sentences(tmp_path):
    (tmp_path / "noise.txt").write_bytes(b"\xff\xfe")
    (tmp_path / "empty").mkdir()
    for source, sentence in {
        tmp_path / "gone": "there is no such directory",
        tmp_path / "empty": "holds no audio files",
        tmp_path / "noise.txt": "neither a recording nor a list",
    }.items():
        with pytest.raises(UsageError, match=sentence):
            listed(source)
    with pytest.raises(UsageError, match="no store can be opened"):
        listed("nonsense://bucket/")
    with pytest.raises(DeviceError, match="needs adlfs"):
        listed("az://container/folder")


def test_longest_come_first_and_tasks_become_smaller():
    found = [Recording(f"{number}.mp3", 16_000 * 60) for number in range(3000)]
    found.insert(1500, Recording("ten hours.mp3", 16_000 * 36_000))
    found.append(Recording("ten hours.wav", 100_000 * 36_001))
    divided = tasks(enumerate(found), 4)
    assert [task["path"].to_pylist() for task in divided[:2]] == [["ten hours.wav"], ["ten hours.mp3"]]
    assert sorted(index for task in divided for index in task["index"].to_pylist()) == list(range(3002))
    sizes = [len(task) for task in divided[2:]]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] * 80 <= TASK_S[1]
    assert sizes[-4] * 80 <= TASK_S[0]


def test_fewer_cpus_than_ray_counts_are_refused(tmp_path, capsys):
    assert main(["archive", "tests/data", "-o", str(tmp_path), "--cpus", "0.00001"]) == 2
    assert "0.0001 or more" in capsys.readouterr().err


def test_both_channels_are_refused(tmp_path, capsys):
    assert main(["archive", str(tmp_path), "-o", str(tmp_path / "out"), "--channels", "each"]) == 2
    assert "a recording has one row" in capsys.readouterr().err
