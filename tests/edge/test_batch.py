"""Many files: which, in what order, where the answers go, and what is left when something ends the run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import hostile
import pytest

from ms_edge import cli
from ms_edge.batch import in_order, usable_cores
from ms_edge.errors import UsageError
from ms_edge.inputs import Inputs, parse_shard
from ms_edge.outputs import mirrored
from ms_edge.results import Failure

COMMAND = [sys.executable, "-m", "ms_edge.cli"]


@pytest.fixture
def tree(tmp_path, samples, monkeypatch):
    """a.wav, b/a.wav, b/c/a.flac (a WAV file in truth), b/.hidden/a.wav, notes.txt; the working directory lies there."""
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


def test_directories_are_read_sorted_and_deep_if_asked(tree):
    assert list(Inputs(["."])) == ["./a.wav"]
    assert list(Inputs(["b", "."], recursive=True))[:4] == ["b/a.wav", "b/c/a.flac", "./a.wav", "./b/a.wav"]
    assert list(Inputs(["."], recursive=True, pattern="*.txt")) == ["./notes.txt"]
    assert list(Inputs(["a.wav", "missing.wav", "-"])) == ["a.wav", "missing.wav", "-"]
    (failure,) = Inputs(["empty"])
    assert (failure.path, failure.code) == ("empty", "no-audio")


@pytest.mark.skipif(os.name != "posix", reason="links need rights on Windows")
def test_links_in_circles_end(tree):
    (tree / "b" / "up").symlink_to("..")
    assert list(Inputs(["."], recursive=True)) == ["./a.wav", "./b/a.wav", "./b/c/a.flac"]


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


def test_shards_are_stable_and_share_all_between_them():
    paths = [f"recordings/{number}.wav" for number in range(1000)]
    shards = [list(Inputs(paths, shard=(index, 3))) for index in (1, 2, 3)]
    assert sorted(path for shard in shards for path in shard) == sorted(paths)
    assert all(250 < len(shard) < 420 for shard in shards)
    # On every machine, in every version:
    assert shards[0][:3] == ["recordings/29.wav", "recordings/30.wav", "recordings/33.wav"]
    assert list(Inputs(paths[::-1], shard=(2, 3))) == shards[1][::-1]
    for text in ("", "0/2", "3/2", "1", "a/b", "-1/2", "1/0"):
        with pytest.raises(UsageError):
            parse_shard(text)


# Order and parallel work


@pytest.mark.parametrize("jobs", [1, 2, 7])
def test_results_come_in_order_and_little_is_begun_ahead(jobs):
    begun = []

    def work(item):
        begun.append(item)
        time.sleep(0.002 * (item % 3))
        return item * item

    taken = 0
    for number, result in enumerate(in_order(work, iter(range(100)), jobs, lambda: False)):
        assert result == number * number
        taken += 1
        assert len(begun) <= taken + 5 * jobs
    assert taken == 100


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_stop_finishes_what_is_begun_and_begins_no_more(jobs):
    begun, stop = [], []

    def work(item):
        begun.append(item)
        if item == 10:
            stop.append(True)
        return item

    found = list(in_order(work, range(1000), jobs, lambda: bool(stop)))
    assert found == list(range(len(found)))
    assert sorted(begun) == found
    assert 11 <= len(found) < 11 + 5 * jobs


@pytest.mark.parametrize("jobs", [1, 3])
def test_an_error_of_ours_is_not_swallowed(jobs):
    with pytest.raises(ZeroDivisionError):
        list(in_order(lambda item: 1 // (item - 20), range(100), jobs, lambda: False))


def test_jobs_change_no_byte(samples, tmp_path):
    outputs = []
    for jobs in (1, 2, 5):
        outputs.append(tmp_path / f"{jobs}.jsonl")
        paths = [*map(str, samples), str(tmp_path / "missing.wav"), *map(str, samples)]
        assert cli.main(["classify", "-q", "-j", str(jobs), "-o", str(outputs[-1]), *paths]) == 1
    assert outputs[0].read_bytes() == outputs[1].read_bytes() == outputs[2].read_bytes()
    assert [record["path"] for record in lines(outputs[0])] == paths
    assert usable_cores() >= 1


# Outputs


def test_a_tree_of_answers_mirrors_the_inputs(tree):
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


@pytest.mark.skipif(os.name != "posix", reason="of paths with /")
def test_where_in_the_tree_an_input_belongs(monkeypatch, tmp_path):
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


def test_a_file_appears_whole_or_not_at_all(tree, capsys):
    (tree / "answers.csv").write_text("old")
    assert cli.main(["classify", "a.wav", "b/a.wav", "-o", "answers.csv"]) == 0
    assert capsys.readouterr().out == ""
    assert len((tree / "answers.csv").read_text().splitlines()) == 3
    assert not (tree / "answers.csv.part").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only here is there a device that is always full")
def test_a_full_disk_is_one_sentence_and_keeps_what_was_there(tree):
    run = subprocess.run(
        [*COMMAND, "classify", "a.wav", "-o", "/dev/full"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert run.stderr == "ms-edge: the output cannot be written (no space left on device).\n"


# A run that ends before its time


@pytest.fixture
def many(tmp_path, samples):
    """60 recordings and the records of a run over them that nothing interrupted."""
    (tmp_path / "in").mkdir()
    for number in range(60):
        shutil.copy(samples[number % len(samples)], tmp_path / "in" / f"{number:02}.wav")
    (tmp_path / "in" / "30.wav").write_text("broken")
    assert cli.main(["classify", "-q", str(tmp_path / "in"), "-o", str(tmp_path / "whole.jsonl")]) == 1
    return tmp_path


def resume(directory: Path, *options: str) -> tuple[int, list[str]]:
    """Run with --resume; its exit status, and the files that were really read."""
    from ms_edge.classifier import Classifier

    read = []
    original = Classifier.classify

    def classify(self, source, *rest, **options):
        read.append(Path(source).name)
        return original(self, source, *rest, **options)

    Classifier.classify = classify
    try:
        status = cli.main(
            ["classify", "-q", str(directory / "in"), "-o", str(directory / "r.jsonl"), "--resume", "-j", "1", *options]
        )
    finally:
        Classifier.classify = original
    return status, read


def test_after_a_kill_only_what_is_missing_is_done_and_no_byte_differs(many):
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
    assert len(read) in (60 - written, 60 - written + (written > 30))  # what failed is tried again
    assert (many / "r.jsonl").read_bytes() == (many / "whole.jsonl").read_bytes()
    assert sorted(path.name for path in many.glob("r.jsonl*")) == ["r.jsonl"]


@pytest.mark.parametrize("cut", [0, 1, 700, 5_000, -1])
@pytest.mark.parametrize("name", ["r.jsonl", "r.jsonl.part", "r.jsonl.resume"])
def test_a_torn_end_is_dropped(many, cut, name):
    whole = (many / "whole.jsonl").read_bytes()
    torn = whole[:cut]
    (many / name).write_bytes(torn)
    _, read = resume(many)
    assert len(read) == 60 - sum(b'"label"' in line for line in torn.split(b"\n")[:-1])
    assert (many / "r.jsonl").read_bytes() == whole
    assert sorted(path.name for path in many.glob("r.jsonl*")) == ["r.jsonl"]


def test_it_may_be_killed_again_and_again(many):
    whole = (many / "whole.jsonl").read_bytes().splitlines(keepends=True)
    (many / "r.jsonl.resume").write_bytes(b"".join(whole[:10]))
    (many / "r.jsonl.part").write_bytes(b"".join(whole[5:20]) + whole[20][:50])
    _, read = resume(many)
    assert len(read) == 40
    assert (many / "r.jsonl").read_bytes() == b"".join(whole)


def test_garbage_in_an_earlier_output_is_no_obstacle(many):
    whole = (many / "whole.jsonl").read_bytes()
    (many / "r.jsonl").write_bytes(
        b'\xff\n[]\nnull\n{"path": 1}\n{"path": "x", "file": 3}\n' + whole[:3_000] + b"\n" + b"[" * 100_000 + b"\n"
    )
    resume(many)
    assert (many / "r.jsonl").read_bytes() == whole


def test_what_changed_is_done_again(many, samples):
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


@pytest.mark.skipif(os.name != "posix", reason="Windows sends no SIGINT to one process")
def test_one_interrupt_finishes_flushes_and_says_how_to_go_on(many):
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
def test_two_interrupts_stop_at_once(tmp_path):
    hostile.CASES["plain"].make(tmp_path / "a.wav")
    command = [*COMMAND, "classify", str(tmp_path / "a.wav"), "-", "-j", "2"]  # the second input never comes
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert b"Traceback" not in process.stderr.read()


def test_a_failure_is_a_result_like_others():
    assert Failure("a", "b", "c").record() == {
        "schema": "ms-edge/1",
        "path": "a",
        "error": {"code": "b", "message": "c"},
    }


@pytest.mark.skipif(os.name != "posix", reason="no pseudo-terminals on Windows")
@pytest.mark.parametrize(("options", "bar"), [([], True), (["-q"], False)])
def test_a_bar_is_for_terminals_and_long_work(tmp_path, samples, options, bar):
    import pty
    import termios

    (tmp_path / "in").mkdir()
    for number in range(120):
        (tmp_path / "in" / f"{number}.wav").symlink_to(samples[0])

    def shown(*inputs: str) -> str:
        ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (25, 80))
        command = [*COMMAND, "classify", *options, *inputs, "--hop", "0.02", "-j", "1", "-o", str(tmp_path / "out.csv")]
        with subprocess.Popen(command, stderr=theirs, stdout=subprocess.DEVNULL) as process:
            os.close(theirs)
            text = b""
            try:
                while piece := os.read(ours, 1000):
                    text += piece
            except OSError:
                pass
            os.close(ours)
        assert process.wait() == 0
        return text.decode()

    long = shown(str(tmp_path / "in"))
    assert ("of audio" in long) is bar
    assert ("x real time" in long) is bar
    assert shown(str(samples[0])) == ""
