"""Many files: inputs, order of results, outputs, and what remains when a run is interrupted."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import hostile
import pytest
from resuming import classified

from ms_edge.cli import main as cli
from ms_edge.errors import UsageError
from ms_edge.jobs import classify
from ms_edge.jobs.inputs import Inputs, _names, parse_shard
from ms_edge.jobs.limits import usable_cores
from ms_edge.jobs.workers import Item, Worker, Workers
from ms_edge.output.destination import mirrored
from ms_edge.output.formats import FORMATS
from ms_edge.results import Failure

COMMAND = [sys.executable, "-m", "ms_edge.cli"]


@pytest.fixture
def tree(tmp_path, samples, monkeypatch):
    """The working directory: a.wav, b/a.wav, b/c/a.flac (a WAV file), b/.hidden/a.wav, notes.txt."""
    for number, name in enumerate(["a.wav", "b/a.wav", "b/c/a.flac", "b/.hidden/a.wav", "b/.a.wav"]):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(samples[-1 - number], tmp_path / name)
    (tmp_path / "notes.txt").write_text("none")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# Inputs


def test_directories_are_sorted_and_recursive_if_asked(tree):
    assert list(Inputs(["."])) == ["./a.wav"]
    assert list(Inputs(["b", "."], recursive=True))[:4] == ["b/a.wav", "b/c/a.flac", "./a.wav", "./b/a.wav"]
    assert list(Inputs(["."], recursive=True, pattern="*.txt")) == ["./notes.txt"]
    assert list(Inputs(["a.wav", "missing.wav", "-"])) == ["a.wav", "missing.wav", "-"]
    (failure,) = Inputs(["empty"])
    assert (failure.path, failure.code) == ("empty", "no-audio")


def fill(directory: Path, *names: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name in names:
        (directory / name).write_bytes(b"something")


CONVERT = "convert them to WAV or FLAC first"


def test_skipped_files_are_counted_by_suffix(tree, capsys):
    fill(tree, "1.aax", "2.AAX", "3.vox", "cover.jpg", "README", ".hidden.aax", "talk.2026", "a.part")
    (tree / "d.aax").mkdir()
    said = (
        f"ms-edge: .: skipped 3 files whose format is not read (2 .aax, 1 .vox; {CONVERT})"
        " and 4 other files (2 without a suffix, 1 .jpg, 1 .txt).\n"
    )
    for options, expected in (([], said), (["-q"], ""), (["--glob", "*.wav"], "")):
        assert cli.main(["classify", ".", *options]) == 0
        captured = capsys.readouterr()
        assert captured.err == expected
        assert len(captured.out.splitlines()) == 2
    assert cli.main(["classify", ".", "-v"]) == 0
    complaints = capsys.readouterr().err.splitlines()
    skipped = ["./1.aax", "./2.AAX", "./3.vox", "./README", "./cover.jpg", "./notes.txt", "./talk.2026"]
    assert sorted(line.split(": ")[1] for line in complaints if ": skipped; " in line) == skipped
    assert said.strip() in complaints


def test_a_directory_of_recordings_prints_no_message(tree, capsys):
    (tree / "notes.txt").unlink()
    assert cli.main(["classify", "-r", "."]) == 0
    assert capsys.readouterr().err == ""


def test_a_directory_of_other_formats_names_them(tree, capsys):
    fill(tree / "phone", *(f"{number}.aax" for number in range(1_200)))
    fill(tree / "notes", "a.txt")
    found = {item.path: item for item in Inputs(["phone", "notes"], recursive=True)}
    assert {item.code for item in found.values()} == {"no-audio"}
    assert found["phone"].message == (
        f"phone: the directory holds no audio files that are read, but 1,200 files whose format is not read (1,200 .aax; {CONVERT})."
    )
    assert found["notes"].message == "notes: the directory holds no audio files that are read, but 1 file (1 .txt)."
    assert cli.main(["classify", "phone"]) == 1
    assert capsys.readouterr().err.count("aax") == 1


def test_skipped_files_of_directories_are_one_line(tree, capsys):
    fill(tree / "b", "x.aax")
    fill(tree / "b" / "c", "y.aax", *(f"a.{letter}" for letter in "abcdefghij"))
    assert cli.main(["classify", "-r", "b", "a.wav", "b/c"]) == 0
    assert capsys.readouterr().err == (
        f"ms-edge: 2 directories: skipped 3 files whose format is not read (3 .aax; {CONVERT}) and 20 other files "
        "(2 .a, 2 .b, 2 .c, 2 .d, 2 .e, 2 .f, 8 of other types).\n"
    )


@pytest.mark.skipif(os.name != "posix", reason="links need rights on Windows")
def test_circular_links_end(tree):
    (tree / "b" / "up").symlink_to("..")
    inputs = Inputs(["."], recursive=True)
    assert list(inputs) == ["./a.wav", "./b/a.wav", "./b/c/a.flac"]
    assert inputs.skipped() == ".: skipped 1 file (1 .txt) and 1 link to a directory."


def test_lists_of_files(tree):
    (tree / "list").write_bytes(b"a.wav\r\n\nb/a.wav\nlast")
    assert list(Inputs(["first"], "list")) == ["first", "a.wav", "b/a.wav", "last"]
    (tree / "list0").write_bytes(b"a.wav\0new\nline.wav\0b/a.wav\0")
    assert list(Inputs([], "list0", null_separated=True)) == ["a.wav", "new\nline.wav", "b/a.wav"]
    with pytest.raises(UsageError, match="missing"):
        Inputs([], "missing")


def test_a_list_from_standard_input(tree):
    run = subprocess.run(
        [*COMMAND, "classify", "--files-from", "-", "-0", "--format", "jsonl"],
        input=b"b/a.wav\0a.wav",
        capture_output=True,
        check=True,
    )
    assert [json.loads(line)["path"] for line in run.stdout.splitlines()] == ["b/a.wav", "a.wav"]


def test_shards_are_stable_and_cover_all_files():
    paths = [f"recordings/{number}.wav" for number in range(1000)]
    shards = [list(Inputs(paths, shard=(index, 3))) for index in (1, 2, 3)]
    assert sorted(path for shard in shards for path in shard) == sorted(paths)
    assert all(250 < len(shard) < 420 for shard in shards)
    # The same on every machine and in every version:
    assert shards[0][:3] == ["recordings/29.wav", "recordings/30.wav", "recordings/33.wav"]
    assert list(Inputs(paths[::-1], shard=(2, 3))) == shards[1][::-1]
    for text in ("", "0/2", "3/2", "1", "a/b", "-1/2", "1/0", "1/" + "9" * 5_000):
        with pytest.raises(UsageError):
            parse_shard(text)


@pytest.fixture
def deep(tmp_path, monkeypatch):
    """A file below 1,200 nested directories."""
    monkeypatch.chdir(tmp_path)
    directories = [Path("d/" * depth) for depth in range(1, 1_201)]
    for directory in directories:
        directory.mkdir()
    path = directories[-1] / "a.wav"
    path.touch()
    yield path
    path.unlink()
    for directory in reversed(directories):  # pytest cannot remove a tree this deep
        directory.rmdir()


@pytest.mark.native
@pytest.mark.skipif(os.name != "posix", reason="paths on Windows are short")
def test_a_tree_deeper_than_the_recursion_limit(deep):
    assert list(Inputs(["d"], recursive=True)) == [str(deep)]


@pytest.mark.skipif(os.name != "posix", reason="no FIFOs on Windows")
def test_a_list_may_be_a_fifo(tree):
    os.mkfifo("fifo")
    command = [*COMMAND, "classify", "--files-from", "fifo", "--format", "jsonl"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        with open("fifo", "wb") as fifo:
            fifo.write(b"a.wav\nb/a.wav\n")
        assert [json.loads(line)["path"] for line in process.stdout] == ["a.wav", "b/a.wav"]
    assert process.returncode == 0


class Dribble:
    """A list that arrives in pieces of `size` bytes."""

    def __init__(self, content: bytes, size: int) -> None:
        self.content, self.size, self.given = content, size, 0

    def read(self, count: int) -> bytes:
        piece = self.content[self.given :][: min(self.size, count)]
        self.given += len(piece)
        return piece


@pytest.mark.parametrize("separator", [b"\n", b"\0"])
@pytest.mark.parametrize("size", [1, 2, 7, 1 << 20])
def test_a_list_is_read_as_it_arrives(separator, size):
    listing = Dribble(b"".join(b"%d.wav" % number + separator for number in range(100_000)), size)
    names = _names(listing, "list", separator)
    for number in range(1_000):
        assert next(names) == f"{number}.wav"
        assert listing.given <= 9 * (number + 1) + min(size, 1 << 16)


def test_a_list_with_an_endless_name_is_refused(tree):
    (tree / "list").write_bytes(b"a.wav\n" * 100_000)
    with pytest.raises(UsageError, match="-0 is for lists that hold NUL"):
        list(Inputs([], "list", null_separated=True))


def test_standard_input_is_read_only_once(tree):
    (tree / "list").write_text("-\n-\n")
    assert [isinstance(item, Failure) for item in Inputs([], "list")] == [False, True]
    assert [isinstance(item, Failure) for item in Inputs(["-"], "list")] == [False, True, True]
    run = subprocess.run(
        [*COMMAND, "classify", "--files-from", "-"], input=b"-\na.wav\n", capture_output=True, check=False
    )
    assert run.returncode == 1
    assert run.stderr == b"ms-edge: -: standard input can be read only once.\n"
    assert b"a.wav" in run.stdout


# Order and parallel work


def results(work, items, jobs, share=lambda item: 1.0, **options):
    """Yield `work(item)` of each item in order, computed by `jobs` threads or, with 0, by this one."""
    with Workers(lambda item, on_audio: work(item), jobs, lambda seconds: None, fork=False) as workers:
        inputs = (item if item is None or isinstance(item, Item) else Item(item, share(item)) for item in items)
        yield from workers.results(inputs, **options)


@pytest.mark.parametrize("jobs", [0, 1, 2, 7])
def test_results_are_ordered_with_little_begun_ahead(jobs):
    begun = []

    def work(item):
        begun.append(item)
        time.sleep(0.002 * (item % 3) if item else 0.5)  # the others wait for the first one
        return item * item

    taken = 0
    for number, result in enumerate(results(work, range(100), jobs)):
        assert result == number * number
        taken += 1
        assert len(begun) <= taken + 5 * jobs
    assert taken == 100


@pytest.mark.parametrize("jobs", [0, 1, 3])
def test_a_stop_finishes_begun_items_only(jobs):
    begun, stop = [], []

    def work(item):
        begun.append(item)
        if item == 10:
            stop.append(True)
        return item

    found = list(results(work, range(1000), jobs, stopped=lambda: bool(stop)))
    assert found == list(range(len(found)))
    assert sorted(begun) == found
    assert 11 <= len(found) < 11 + 5 * max(jobs, 1)


@pytest.mark.parametrize("jobs", [0, 2])
def test_a_stop_after_the_last_item_is_ignored(jobs):
    asked = []
    assert list(results(lambda item: item, range(8), jobs, stopped=lambda: asked.append(True))) == list(range(8))
    assert len(asked) == 8  # once before each item, and not after the last


@pytest.mark.parametrize("jobs", [1, 3])
def test_an_item_that_never_ends_is_given_up(jobs):
    end, asked = threading.Event(), []

    def work(item):
        return end.wait() if item == 5 else item

    def give_up(item):
        asked.append(item)
        return asked.count(5) == 3

    assert list(results(work, range(10), jobs, give_up=give_up)) == list(range(5))
    end.set()


@pytest.mark.parametrize("jobs", [1, 2, 7])
def test_small_items_are_worked_on_together(jobs, monkeypatch):
    """Shares of a quarter and a half; every tenth item is more than one task."""
    shares = [2.0 if item % 10 == 3 else 0.5 if item % 10 == 6 else 0.25 for item in range(200)]
    tasks, begin = [], Worker.begin

    def recorded(worker, task):
        tasks.append([item.path for item in task])
        begin(worker, task)

    monkeypatch.setattr(Worker, "begin", recorded)
    found = results(lambda item: item * item, range(200), jobs, share=shares.__getitem__)
    assert list(found) == [item * item for item in range(200)]
    assert [item for task in tasks for item in task] == list(range(200))
    assert all(len(task) == 1 or sum(shares[item] for item in task) <= 1 for task in tasks)
    assert any(len(task) > 2 for task in tasks)
    assert all(len(task) == 1 for task in tasks[-jobs:])  # so that all workers finish at about the same time


@pytest.mark.parametrize("jobs", [0, 1, 3])
def test_an_error_is_raised_at_its_position(jobs):
    found = results(lambda item: item // (item - 20), range(100), jobs, share=lambda item: 0.125)
    assert [next(found) for _ in range(20)] == [item // (item - 20) for item in range(20)]
    with pytest.raises(RuntimeError if jobs else ZeroDivisionError, match=r"ZeroDivisionError|by zero"):
        next(found)


@pytest.mark.parametrize("jobs", [0, 1, 3])
@pytest.mark.parametrize("share", [1.0, 0.125])
def test_a_slow_list_delays_no_result(jobs, share):
    ready, more = os.pipe()

    def items():
        yield from range(5)
        while not select.select([ready], [], [], 0)[0]:
            yield None
        yield 5

    found = results(lambda item: item, items(), jobs, share=lambda item: share, pending=[ready])
    assert [next(found) for _ in range(5)] == [0, 1, 2, 3, 4]  # before the next item has come
    os.close(more)
    assert list(found) == [5]
    os.close(ready)


@pytest.mark.parametrize("jobs", [0, 1, 3])
def test_an_error_in_a_list_is_raised(jobs):
    def items():
        yield 1
        yield Item(result=2)
        raise UsageError("broken")

    found = results(lambda item: item, items(), jobs)
    assert (next(found), next(found)) == (1, 2)
    with pytest.raises(UsageError, match="broken"):
        next(found)


@pytest.mark.parametrize("fork", [True, False])
def test_jobs_change_no_byte(samples, tmp_path, monkeypatch, fork):
    """Neither do threads instead of processes, as for a model on a GPU."""
    monkeypatch.setattr(classify, "can_fork", lambda: fork and sys.platform == "linux")
    outputs = []
    for jobs in (1, 2, 5):
        outputs.append(tmp_path / f"{jobs}.jsonl")
        paths = [*map(str, samples), str(tmp_path / "missing.wav"), *map(str, samples)]
        assert cli.main(["classify", "-q", "-j", str(jobs), "-o", str(outputs[-1]), *paths]) == 1
    assert outputs[0].read_bytes() == outputs[1].read_bytes() == outputs[2].read_bytes()
    assert [record["path"] for record in lines(outputs[0])] == paths
    assert usable_cores() >= 1


# Outputs


def test_a_result_tree_mirrors_the_inputs(tree):
    assert cli.main(["classify", "-r", ".", "b/a.wav", str(tree / "a.wav"), "-o", "out/", "--format", "textgrid"]) == 0
    absolute = f"@{tree}/a.wav" if os.name == "posix" else None
    expected = {
        "a.wav.TextGrid",
        "b/a.wav.TextGrid",
        "b/c/a.flac.TextGrid",
        *([f"{absolute}.TextGrid"] if absolute else []),
    }
    found = {path.relative_to("out").as_posix() for path in Path("out").rglob("*") if path.is_file()}
    assert found >= expected
    assert (tree / "out/b/a.wav.TextGrid").read_text().startswith('File type = "ooTextFile"')


@pytest.mark.skipif(os.name != "posix", reason="the paths are those of POSIX")
def test_each_input_has_its_place_in_the_tree(monkeypatch, tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    (tmp_path / "work" / "link").symlink_to("../elsewhere/deep")
    above = os.path.realpath(tmp_path)
    places = {
        "a.wav": "a.wav",
        "./b//a.wav": "b/a.wav",
        "b/../a.wav": f"@{above}/work/a.wav",
        "link/../a.wav": f"@{above}/elsewhere/a.wav",
        "/x/a.wav": "@/x/a.wav",
        "@/x/a.wav": "@@/x/a.wav",
        "x/a.wav": "x/a.wav",
        "../a.wav": f"@{above}/a.wav",
        "..a.wav": "..a.wav",
        "-": "@stdin",
        "stdin": "stdin",
        "@stdin": "@@stdin",
    }
    assert {path: mirrored(path) for path in places} == places
    assert len(set(places.values())) == len(places)


def test_an_output_file_is_written_atomically(tree, capsys):
    (tree / "answers.csv").write_text("old")
    assert cli.main(["classify", "a.wav", "b/a.wav", "-o", "answers.csv"]) == 0
    assert capsys.readouterr().out == ""
    assert len((tree / "answers.csv").read_text().splitlines()) == 3
    assert not (tree / "answers.csv.part").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a device that is always full")
def test_a_full_disk_is_one_sentence(tree):
    run = subprocess.run(
        [*COMMAND, "classify", "a.wav", "-o", "/dev/full"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert run.stderr == "ms-edge: the output cannot be written (no space left on device).\n"


@pytest.mark.parametrize("output", ["b/a.wav", "new.WAV", "bare", "link.csv", "list"])
def test_no_recording_is_replaced(tree, capsys, output):
    """The user may type `-o *.wav` by mistake."""
    shutil.copy("a.wav", "bare")
    (tree / "link.csv").symlink_to("b/a.wav")
    (tree / "list").write_text("a.wav\nbare\n")
    before = {path: path.read_bytes() for path in tree.rglob("*") if path.is_file()}
    assert cli.main(["classify", "-o", output, "a.wav", "bare", "--files-from", "list"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert {path: path.read_bytes() for path in tree.rglob("*") if path.is_file()} == before


def test_no_recording_of_a_list_is_replaced(tree, capsys):
    shutil.copy("a.wav", "bare")
    (tree / "list").write_text("bare\n")
    assert cli.main(["classify", "-o", "bare", "--files-from", "list"]) == 2
    assert "is a recording" in capsys.readouterr().err
    assert (tree / "bare").read_bytes() == (tree / "a.wav").read_bytes()
    assert not list(tree.glob("*.part"))


@pytest.mark.native
@pytest.mark.skipif(os.name != "posix", reason="the names have 255 bytes")
@pytest.mark.parametrize("form", ["text", "rttm", "jsonl"])
def test_an_impossible_output_name_fails_alone(tree, capsys, form):
    suffix = form.replace("text", "txt")
    fits, too_long = "f" * (255 - len(suffix) - 5) + ".wav", "t" * (255 - len(suffix) - 4) + ".wav"
    for name in (fits, too_long, "file.wav", "directory.wav"):
        shutil.copy("a.wav", name)
    (tree / "out" / f"directory.wav.{suffix}").mkdir(parents=True)
    (tree / "out" / "b").write_text("in the way")
    given = ["a.wav", too_long, "b/a.wav", fits, "directory.wav", "file.wav"]
    assert cli.main(["classify", *given, "-o", "out/", "--format", form]) == 1
    complaints = capsys.readouterr().err.splitlines()
    for path, complaint in zip([too_long, "b/a.wav", "directory.wav"], complaints, strict=True):
        assert complaint.startswith(f"ms-edge: {path}: its result cannot be written in out/")
    whole = {path.name for path in (tree / "out").iterdir() if path.is_file()}
    assert whole == {"b", *(f"{name}.{suffix}" for name in ("a.wav", fits, "file.wav"))}


def test_an_impossible_output_directory_is_one_sentence(tree, capsys):
    assert cli.main(["classify", "a.wav", "b/a.wav", "-o", "notes.txt/"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.skipif(os.name != "posix", reason="the paths are those of POSIX")
def test_no_result_in_a_tree_replaces_another(tree, samples, monkeypatch):
    monkeypatch.chdir(tree / "b")
    inside = tree / "b" / str(tree).lstrip("/")
    inside.mkdir(parents=True)
    shutil.copy(samples[0], inside / "a.wav")
    shutil.copy(samples[0], "stdin")
    given = ["../a.wav", str((inside / "a.wav").relative_to(tree / "b")), "stdin", "-"]
    with open("a.wav", "rb") as file:
        run = subprocess.run([*COMMAND, "classify", *given, "-o", "out/", "--format", "jsonl"], stdin=file, check=False)
    assert run.returncode == 0
    assert sorted(lines(path)[0]["path"] for path in Path("out").rglob("*.jsonl")) == sorted(given)


@pytest.mark.parametrize("form", ["webvtt", "textgrid", "audacity"])
def test_a_failure_leaves_no_misleading_track(tree, form):
    suffix = {"webvtt": "vtt", "textgrid": "TextGrid", "audacity": "labels.txt"}[form]
    assert cli.main(["classify", "a.wav", "-o", f"a.{suffix}", "--format", form]) == 0
    assert cli.main(["classify", "a.wav", "-o", "out/", "--format", form]) == 0
    good = (tree / f"a.{suffix}").read_bytes()
    assert good == (tree / "out" / f"a.wav.{suffix}").read_bytes() != b""
    (tree / "a.wav").write_text("broken")
    assert cli.main(["classify", "a.wav", "-o", f"a.{suffix}", "--format", form]) == 1
    assert (tree / f"a.{suffix}").read_bytes() == good  # an empty track replaces nothing
    for _ in range(2):
        assert cli.main(["classify", "a.wav", "-o", "out/", "--format", form]) == 1
        assert list((tree / "out").iterdir()) == []
    assert not list(tree.rglob("*.part"))


def test_no_format_replaces_another_in_a_tree(tree):
    names = [name for name in FORMATS if name != "text-colour"]
    for name in names:
        assert cli.main(["classify", "a.wav", "-o", "out/", "--format", name]) == 0
    assert len(list((tree / "out").iterdir())) == len(names)


@pytest.mark.skipif(os.name != "posix", reason="links need rights on Windows")
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_link_to_the_output_stays_a_link(tree, suffix):
    (tree / "real").mkdir()
    (tree / f"link.{suffix}").symlink_to(f"real/answers.{suffix}")
    for _ in range(2):
        assert cli.main(["classify", "a.wav", "-o", f"link.{suffix}"]) == 0
        assert (tree / f"link.{suffix}").is_symlink()
        assert "a.wav" in (tree / "real" / f"answers.{suffix}").read_text()
    assert [path.name for path in (tree / "real").iterdir()] == [f"answers.{suffix}"]


@pytest.mark.parametrize(
    ("arguments", "name", "status"),
    [
        (["p.csv"], "p.csv.part", 0),
        (["p.jsonl"], "p.jsonl.part", 2),
        (["p.jsonl", "--resume"], "p.jsonl.part", 2),
        (["p.jsonl", "--resume"], "p.jsonl.resume", 2),
    ],
)
def test_files_of_other_programs_are_not_replaced(tree, capsys, arguments, name, status):
    (tree / name).write_text("mine")
    assert cli.main(["classify", "a.wav", "-o", *arguments]) == status
    assert len(capsys.readouterr().err.splitlines()) == bool(status)
    assert (tree / name).read_text() == "mine"


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such devices")
@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_device_is_written_directly(tree, form):
    command = [*COMMAND, "classify", "a.wav", "--format", form]
    expected = subprocess.run(command, capture_output=True, check=True).stdout
    assert subprocess.run([*command, "-o", "/dev/stdout"], capture_output=True, check=True).stdout == expected


# A run that ends before its time


@pytest.fixture
def many(tmp_path, samples):
    """60 files, one of them broken, and the records of an uninterrupted run."""
    (tmp_path / "in").mkdir()
    for number in range(60):
        shutil.copy(samples[number % len(samples)], tmp_path / "in" / f"{number:02}.wav")
    (tmp_path / "in" / "30.wav").write_text("broken")
    assert cli.main(["classify", "-q", str(tmp_path / "in"), "-o", str(tmp_path / "whole.jsonl")]) == 1
    return tmp_path


def resume(directory: Path, *options: str) -> tuple[int, list[str]]:
    """Run with --resume. Return the exit status and the names of the files that were classified."""
    inputs, output = str(directory / "in"), str(directory / "r.jsonl")
    status, paths = classified("-q", inputs, "-o", output, "--resume", *options)
    return status, [Path(path).name for path in paths]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the encoding of names is not the locale's")
@pytest.mark.parametrize(
    "locale",
    [
        pytest.param({"LC_ALL": "C"}, marks=pytest.mark.slow),
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},  # names are ASCII, as others are in Latin-1
        pytest.param({"LC_ALL": "C.UTF-8"}, marks=pytest.mark.slow),
    ],
    ids=["C", "ascii", "utf-8"],
)
def test_resume_is_the_same_in_every_locale(samples, tmp_path, locale):
    for name in ("été.wav", os.fsdecode(b"Latin-1 \xe9.wav")):
        shutil.copy(samples[0], tmp_path / name)
    (tmp_path / "list").write_bytes("été.wav\nà.wav\n".encode())

    def run(how: dict[str, str], *arguments: str) -> tuple[bytes, bytes]:
        done = subprocess.run(
            [*COMMAND, "classify", *arguments],
            cwd=tmp_path,
            env={name: value for name, value in os.environ.items() if name not in ("LANG", "PYTHONUTF8")} | how,
            capture_output=True,
            check=False,
        )
        assert done.returncode == (1 if "list" in arguments else 0), done.stderr
        return done.stdout, done.stderr

    known = {"LC_ALL": "C", "PYTHONUTF8": "1"}
    for arguments in (["--format", "csv", "."], ["--format", "jsonl", "--files-from", "list"], ["."]):
        assert run(locale, *arguments) == run(known, *arguments)
    run(known, ".", "-o", "r.jsonl")
    first = (tmp_path / "r.jsonl").read_bytes()
    assert rb"./\u00e9t\u00e9.wav" in first
    for path in tmp_path.glob("*.wav"):  # other audio with the same facts: it must not be read
        before = path.stat()
        path.write_bytes(path.read_bytes()[:44].ljust(before.st_size, b"\0"))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    run(locale, ".", "-o", "r.jsonl", "--resume")
    assert (tmp_path / "r.jsonl").read_bytes() == first


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the encoding of names is not the locale's")
@pytest.mark.parametrize("arguments", [["-c", "PROGRAM"], ["-"]])
def test_a_script_that_starts_the_program_runs_whole(arguments):
    """In a locale of another encoding, where the program starts again."""
    program = "from ms_edge.cli.main import command; command()"
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, *(program if argument == "PROGRAM" else argument for argument in arguments), "--version"]
    done = subprocess.run(command, input=program, env=os.environ | locale, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("ms-edge ")


def test_resuming_after_a_kill_changes_no_byte(many):
    command = [*COMMAND, "classify", str(many / "in"), "-o", str(many / "r.jsonl"), "-j", "2"]
    part = many / "r.jsonl.part"
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while not (part.exists() and part.read_bytes().count(b"\n") >= 5):
            assert process.poll() is None, "it was done before it could be killed"
            time.sleep(0.001)
        process.kill()
    assert not (many / "r.jsonl").exists()
    written = part.read_bytes().count(b"\n")
    assert 5 <= written < 60
    status, read = resume(many)
    assert status == 1
    assert len(read) in (60 - written, 60 - written + (written > 30))  # a failed file is tried again
    assert (many / "r.jsonl").read_bytes() == (many / "whole.jsonl").read_bytes()
    assert sorted(path.name for path in many.glob("r.jsonl*")) == ["r.jsonl"]


@pytest.mark.parametrize("cut", [0, 1, 700, 5_000, -1])
@pytest.mark.parametrize("name", ["r.jsonl", "r.jsonl.part", "r.jsonl.resume"])
def test_an_incomplete_last_line_is_dropped(many, cut, name):
    whole = (many / "whole.jsonl").read_bytes()
    torn = whole[:cut]
    (many / name).write_bytes(torn)
    _, read = resume(many)
    assert len(read) == 60 - sum(b'"label"' in line for line in torn.split(b"\n")[:-1])
    assert (many / "r.jsonl").read_bytes() == whole
    assert sorted(path.name for path in many.glob("r.jsonl*")) == ["r.jsonl"]


def test_a_run_may_be_killed_repeatedly(many):
    whole = (many / "whole.jsonl").read_bytes().splitlines(keepends=True)
    (many / "r.jsonl.resume").write_bytes(b"".join(whole[:10]))
    (many / "r.jsonl.part").write_bytes(b"".join(whole[5:20]) + whole[20][:50])
    _, read = resume(many)
    assert len(read) == 40
    assert (many / "r.jsonl").read_bytes() == b"".join(whole)


def test_garbage_in_an_earlier_output_is_ignored(many):
    whole = (many / "whole.jsonl").read_bytes()
    (many / "r.jsonl").write_bytes(
        b'\xff\n[]\nnull\n{"path": 1}\n{"path": "x", "file": 3}\n' + whole[:3_000] + b"\n" + b"[" * 100_000 + b"\n"
    )
    resume(many)
    assert (many / "r.jsonl").read_bytes() == whole


def test_a_changed_file_is_classified_again(many, samples):
    _, read = resume(many)
    assert len(read) == 60
    assert resume(many)[1] == ["30.wav"]
    shutil.copy(samples[5], many / "in" / "07.wav")
    (many / "in" / "00a.wav").write_bytes(samples[0].read_bytes())
    (many / "in" / "59.wav").unlink()
    assert resume(many)[1] == ["00a.wav", "07.wav", "30.wav"]
    assert len(lines(many / "r.jsonl")) == 60
    assert len(resume(many, "--hop", "0.25")[1]) == 60
    assert resume(many, "--hop", "0.25")[1] == ["30.wav"]
    assert len(resume(many, "--hop", "0.25", "--timeline")[1]) == 60
    assert len(resume(many, "--min-confidence", "0.5")[1]) == 60


def test_records_of_recordings_that_are_not_given_are_left_out_and_counted(tree, capsys):
    assert classified("-q", "a.wav", "b/a.wav", "-o", "r.jsonl")[0] == 0
    capsys.readouterr()
    assert classified("b/a.wav", "-o", "r.jsonl", "--resume") == (0, [])
    assert capsys.readouterr().err == (
        "ms-edge: left out the record of 1 recording of the earlier run that this run was not given.\n"
    )
    assert [record["path"] for record in lines(Path("r.jsonl"))] == ["b/a.wav"]
    assert classified("b/a.wav", "a.wav", "-o", "r.jsonl", "--resume") == (0, ["a.wav"])
    assert capsys.readouterr().err == ""


def test_another_raw_format_is_classified_again(tmp_path, capsys):
    (tmp_path / "a.raw").write_bytes(hostile.PCM * 4)
    command = ["classify", str(tmp_path / "a.raw"), "-o", str(tmp_path / "r.jsonl"), "--resume", "--raw"]
    for raw, rate in {"16000:1:s16le": 16_000, "8000:1:s16le": 8_000, "08000:1:s16le": 8_000}.items():
        assert cli.main([*command, raw]) == 0
        (record,) = lines(tmp_path / "r.jsonl")
        assert (record["sample_rate_hz"], record["settings"]["raw"]) == (rate, f"{rate}:1:s16le")


def test_records_rewritten_by_another_tool_are_redone(many):
    whole = (many / "whole.jsonl").read_bytes()
    shutil.copy(many / "in" / "00.wav", many / "in" / "é.wav")
    resume(many)
    expected = (many / "r.jsonl").read_bytes()
    rewritten = [json.dumps(record, ensure_ascii=False) for record in lines(many / "r.jsonl")]
    rewritten[1] = json.dumps(json.loads(rewritten[1]), separators=(",", ":"))
    rewritten[2] = rewritten[2].replace('"probability": ', '"probability": 1e999, "was": ')
    (many / "r.jsonl").write_text("\n".join(rewritten) + "\n", "utf-8")
    _, read = resume(many)
    assert sorted(read) == ["01.wav", "02.wav", "30.wav", "é.wav"]
    assert (many / "r.jsonl").read_bytes() == expected != whole


@pytest.mark.skipif(os.name != "posix", reason="Windows sends no SIGINT to one process")
def test_one_interrupt_names_the_option_to_resume(many):
    command = [*COMMAND, "classify", str(many / "in"), "-o", str(many / "r.jsonl"), "--resume", "-j", "2"]
    part = many / "r.jsonl.part"
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not (part.exists() and part.read_bytes().count(b"\n") >= 3):
            assert process.poll() is None
            time.sleep(0.001)
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate()
    assert process.returncode == 130
    assert "--resume" in complaints.splitlines()[-1]
    assert "Traceback" not in complaints
    content = part.read_bytes()
    assert content.endswith(b"\n")
    assert (many / "whole.jsonl").read_bytes().startswith(content)
    resume(many)
    assert (many / "r.jsonl").read_bytes() == (many / "whole.jsonl").read_bytes()


@pytest.mark.skipif(os.name != "posix", reason="Windows sends no SIGINT to one process")
@pytest.mark.parametrize(
    ("arguments", "given", "written"),
    [
        (["-"], b"", 0),
        (["a.wav", "-"], b"", 1),
        (["-j", "1", "--files-from", "-"], b"a.wav\n", 1),
        (["-j", "3", "--files-from", "-"], b"a.wav\nb/a.wav\n", 2),
        (["-j", "3", "--files-from", "-", "-0"], b"a.wav\0b/a.wav\0", 2),
    ],
)
def test_one_interrupt_ends_the_wait_for_input(tree, arguments, given, written):
    command = [*COMMAND, "classify", *arguments, "--format", "jsonl"]
    if not written:
        command += ["-v"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdin.write(given)
        process.stdin.flush()
        for _ in range(written):  # these arrive before the next input
            assert b'"label"' in process.stdout.readline()
        if not written:
            process.stderr.readline()  # the model is loaded
            time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        complaint = process.stderr.read()
        assert b"interrupted after %d results" % written in complaint
        assert b"Traceback" not in complaint
        assert b"Fatal" not in complaint
        assert process.stdout.read() == b""


@pytest.mark.skipif(os.name != "posix", reason="Windows sends no SIGINT to one process")
def test_an_interrupted_stream_that_ends_has_a_result(tmp_path):
    """Ctrl-C in `arecord | ms-edge classify -` goes to both programs."""
    command = [*COMMAND, "classify", "-v", "-", "--format", "jsonl"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdin.write(hostile.plain())
        process.stdin.flush()
        process.stderr.readline()
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        process.stdin.close()
        assert b'"label"' in process.stdout.readline()
        assert process.wait(20) == 0


def days_of_audio(folder: Path) -> Path:
    """Make a sparse recording that takes minutes."""
    path = folder / "days.wav"
    with open(path, "wb") as file:
        file.write(hostile.plain())
        file.truncate(4_000_000_000)
        file.seek(40)
        file.write((4_000_000_000 - 44).to_bytes(4, "little"))
    return path


@pytest.mark.skipif(os.name != "posix", reason="Windows sends no SIGINT to one process")
def test_two_interrupts_stop_at_once(tmp_path):
    hostile.CASES["plain"].make(tmp_path / "a.wav")
    days = days_of_audio(tmp_path)
    command = [*COMMAND, "classify", str(tmp_path / "a.wav"), str(days), "-j", "2", "--hop", "0.05"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert b"Traceback" not in process.stderr.read()


def test_a_failure_has_a_record():
    assert Failure("a", "b", "c").record() == {
        "schema": "ms-edge/1",
        "path": "a",
        "error": {"code": "b", "message": "c"},
    }


@pytest.mark.pty
@pytest.mark.skipif(os.name != "posix", reason="no pseudo-terminals on Windows")
def test_a_bar_needs_a_terminal_and_long_work(tmp_path, samples):
    import pty
    import termios

    def shown(*options: str, until: str = "x real time", seconds: float = 60) -> str:
        """Return what a terminal shows until the command ends, prints `until`, or times out."""
        ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (25, 120))
        command = [*COMMAND, "classify", *options, "--hop", "0.05", "-j", "1", "-o", str(tmp_path / "out.csv")]
        ends = time.monotonic() + seconds
        with subprocess.Popen(command, stderr=theirs, stdout=subprocess.DEVNULL) as process:
            os.close(theirs)
            text = ""
            while until not in text and select.select([ours], [], [], max(ends - time.monotonic(), 0))[0]:
                try:
                    text += os.read(ours, 1000).decode()
                except OSError:  # the terminal is closed
                    break
            else:
                process.kill()
            os.close(ours)
        return text

    long = str(days_of_audio(tmp_path))
    assert "of audio, " in shown(long)
    assert shown("-q", long, seconds=4) == ""
    assert shown(str(samples[0])) == ""
