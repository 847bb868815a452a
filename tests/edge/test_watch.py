"""`ms-edge watch`: each recording of a folder gets one record, whatever happens to it or to the process."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import hostile
import pytest
from test_interrupts import started, wait_until

from ms_edge.classifier import Classifier
from ms_edge.cli import main as cli
from ms_edge.errors import UsageError
from ms_edge.live.watch import Arrivals
from ms_edge.output import journal
from ms_edge.output.growing import GrowingOutput
from ms_edge.output.writers import JsonLines
from ms_edge.results import Failure

EXPECTED = {"settings": {"channels": "mix"}, "model": "m", "provider": "p"}
COMMAND = ["watch", "in", "-o", "r.jsonl", "--settle", "0.4", "-j", "2"]


def records(name: str = "r.jsonl") -> list[dict]:
    """Return the complete records of a file."""
    text = Path(name).read_text() if Path(name).exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n") and line.strip()]


def durations() -> dict[str, float | None]:
    """Return the duration in each path's record, `None` for an error record."""
    return {record["path"]: record.get("duration_s") for record in records()}


def counts() -> Counter[str]:
    """Return how many records each path has."""
    return Counter(record["path"] for record in records())


def recording(path: str, seconds: float = 2.0) -> None:
    """Write a recording at once."""
    Path(path).write_bytes(hostile.plain((hostile.PCM * int(seconds + 1))[: int(seconds * 2 * hostile.RATE)]))


@contextmanager
def watching(*options: str) -> Iterator:
    """Run `ms-edge watch` meanwhile, and end it as a terminal does; all that it had to say is in `.said`."""
    with started(*COMMAND, *options) as process:
        yield process
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        process.said = process.stderr.read().decode().splitlines()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """The working directory, with the empty folder `in`."""
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    return tmp_path


@pytest.mark.skipif(os.name != "posix", reason="Windows sends no signal to one process")
def test_recordings_that_arrive_get_one_record_each():
    whole = hostile.plain(hostile.PCM * 3)
    recording("in/before.wav")
    recording("other.wav")
    with watching() as process:
        wait_until(records, process)
        with open("in/slow.wav", "wb") as slow:
            for start in range(0, len(whole), len(whole) // 10):
                slow.write(whole[start : start + len(whole) // 10])
                slow.flush()
                time.sleep(0.15)
        Path("in/new/deep").mkdir(parents=True)
        recording("in/new/deep/a.wav")
        shutil.copytree("in/new", "tree")
        Path("tree").rename("in/moved")
        Path("in/part.wav.part").write_bytes(whole)
        Path("in/part.wav.part").rename("in/part.wav")
        os.link("other.wav", "in/link.wav")
        Path("other.wav").rename("in/other.wav")
        Path("in/bad.wav").write_text("no audio")
        Path("in/.hidden.wav").write_bytes(whole)
        Path("in/notes.txt").write_text("no recording")
        wait_until(lambda: len(records()) >= 8, process)
        time.sleep(1)
    names = ["bad", "before", "link", "moved/deep/a", "new/deep/a", "other", "part", "slow"]
    assert counts() == {f"in/{name}.wav": 1 for name in names}
    found = {record["path"]: record for record in records()}
    assert found.pop("in/bad.wav")["error"]["code"] == "not-audio"
    assert {path: record["duration_s"] for path, record in found.items()} == {
        path: 6.0 if path in ("in/slow.wav", "in/part.wav") else 2.0 for path in found
    }
    assert not any(record["warnings"] for record in found.values())
    assert process.said[0] == "ms-edge: watching in; the records go to r.jsonl."
    assert process.said[-1].startswith("ms-edge: interrupted after ")
    assert sorted(os.listdir(".")) == ["in", "r.jsonl"]


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="Windows has no SIGKILL")
def test_twenty_kills_lose_and_double_nothing():
    chance = random.Random(0)
    for number in range(20):
        for name in ("a", "b"):
            recording(f"in/{number}{name}.wav", chance.uniform(1, 60))
        Path(f"in/{number}bad.wav").write_text("no audio")
        if number:
            recording("in/0a.wav", 2.0 + number)  # changed
        with started(*COMMAND, "--timeline", "--settle", str(chance.uniform(0, 0.1))) as process:
            before = Path("r.jsonl").read_bytes() if number else b""
            if chance.random() < 0.7:  # while the files are written, not during the start
                wait_until(lambda: Path("r.jsonl").exists() and Path("r.jsonl").read_bytes() != before, process)  # noqa: B023
            time.sleep(chance.uniform(0, 0.2))
            process.kill()
    recording("in/0a.wav", 2.0)
    with watching("--timeline") as process:
        wait_until(lambda: len(records()) >= 60 and durations().get("in/0a.wav") == 2.0, process)
        time.sleep(1)
    assert counts() == {f"in/{number}{name}.wav": 1 for number in range(20) for name in ("a", "b", "bad")}


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="Windows sends no signal to one process")
def test_next_start_finds_what_is_missing(monkeypatch):
    for name in ("kept", "changed", "removed", "repaired"):
        recording(f"in/{name}.wav")
    Path("in/repaired.wav").write_text("no audio")
    Path("in/bad.wav").write_text("no audio")
    with watching() as process:
        wait_until(lambda: len(records()) >= 5, process)
    before = {record["path"]: record for record in records()}
    lines = Path("r.jsonl").read_bytes().splitlines(keepends=True)
    recording("in/changed.wav", 3)
    recording("in/repaired.wav", 1)
    recording("in/new.wav")
    Path("in/removed.wav").unlink()
    with watching("-v") as process:
        wait_until(lambda: len(durations()) == 6 and durations().get("in/repaired.wav") == 1, process)
        wait_until(lambda: durations().get("in/changed.wav") == 3, process)
        time.sleep(1)
    found = {record["path"]: record for record in records()}
    assert counts() == dict.fromkeys([*before, "in/new.wav"], 1)
    assert {path for path in before if found[path] == before[path]} == {"in/kept.wav", "in/removed.wav", "in/bad.wav"}
    assert found["in/changed.wav"]["duration_s"] == 3
    assert found["in/repaired.wav"]["duration_s"] == 1
    # Blank lines are where the two outdated records were; the others did not move.
    now = Path("r.jsonl").read_bytes().splitlines(keepends=True)
    assert len(now) == 8
    assert [line.isspace() for line in now[:5]] == [line not in now for line in lines]
    assert sum(map(len, lines)) == sum(map(len, now[:5]))


@pytest.mark.skipif(os.name != "posix", reason="Windows sends no signal to one process")
def test_other_commands_read_and_respect_the_file(capsys):
    recording("in/a.wav")
    with watching() as process:
        wait_until(records, process)
        assert cli.main(["summary", "r.jsonl"]) == 0
        assert "1 recording." in capsys.readouterr().out
        for command in (["watch", "in"], ["classify", "in", "--resume"]):
            assert cli.main([*command, "-o", "r.jsonl"]) == 2
            assert "r.jsonl.part: another run is writing it" in capsys.readouterr().err
    assert cli.main(["classify", "in", "--resume", "-o", "r.jsonl"]) == 0
    assert counts() == {"in/a.wav": 1}


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="Windows sends no signal to one process")
def test_folder_may_be_gone_for_a_while():
    recording("in/a.wav")
    with watching() as process:
        wait_until(records, process)
        Path("in").rename("away")
        time.sleep(3)
        recording("away/b.wav")
        Path("away").rename("in")
        wait_until(lambda: len(records()) >= 2, process)
        Path("in").rename("away")
        time.sleep(1)
        Path("away").rename("in")
        time.sleep(1)
    assert counts() == {"in/a.wav": 1, "in/b.wav": 1}
    said = [line for line in process.said if "tried again" in line]
    assert set(said) == {"ms-edge: in: no such file or directory; it is tried again."}
    assert len(said) <= 2  # once for each time


@pytest.mark.parametrize("content", ["path,label\n", "RIFF", '{"schema": "other"}\n'])
def test_a_file_of_something_else_is_not_touched(content, capsys):
    Path("r.jsonl").write_text(content)
    assert cli.main(COMMAND) == 2
    assert "r.jsonl: is no file of records, so nothing is added to it" in capsys.readouterr().err
    assert Path("r.jsonl").read_text() == content
    assert sorted(os.listdir(".")) == ["in", "r.jsonl"]


@pytest.mark.parametrize("name", ["r.jsonl.part", "r.jsonl.resume"])
def test_results_of_an_interrupted_classify_are_kept(name, capsys):
    Path(name).write_text('{"schema": "ms-edge/1", "path": "a"}\n')
    assert cli.main(COMMAND) == 2
    assert f"{name}: is of an interrupted run of classify; run that again with --resume" in capsys.readouterr().err
    assert Path(name).exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing", "-o", "r.jsonl"], "missing: there is no such folder."),
        (["a.wav", "-o", "r.jsonl"], "a.wav: is a file; watch takes folders."),
        (
            ["in", "-o", "in/a.wav"],
            "in/a.wav: has the suffix of a recording, and no output replaces one; give another name.",
        ),
        (["in", "-o", "in"], "in: is no regular file, so nothing can be added to it; give another name."),
        (["in", "-o", "none/r.jsonl"], "none/r.jsonl: cannot be written (no such file or directory)."),
        (["in", "-o", "r.jsonl", "--settle", "-1"], "--settle must be 0 seconds or more, not -1."),
        (["in", "-o", "r.jsonl", "-j", "0"], "--jobs must be 1 or more, not 0."),
    ],
)
def test_invalid_options_give_one_sentence(arguments, message, capsys):
    recording("a.wav")
    assert cli.main(["watch", *arguments]) == 2
    assert capsys.readouterr().err == f"ms-edge: {message}\n"
    assert sorted(os.listdir(".")) == ["a.wav", "in"]


# The file of records


@contextmanager
def growing(timeline: bool = False, **changes) -> Iterator[GrowingOutput]:
    output = GrowingOutput("r.jsonl", JsonLines(("speech", "music"), timeline), {**EXPECTED, **changes})
    try:
        yield output
    finally:
        output.finish()


def result(classifier, path: str, **changes):
    """Return a classification of a recording, with the settings of these tests."""
    return (replace(classifier.classify(path), **EXPECTED, **changes),)


@pytest.fixture(scope="module")
def classifier():
    return Classifier()


def test_a_line_cut_anywhere_is_written_again(classifier):
    for name in ("a", "b"):
        recording(f"in/{name}.wav")
    with growing() as output:
        output.write(result(classifier, "in/a.wav"))
        first = Path("r.jsonl").stat().st_size
        output.write(result(classifier, "in/b.wav"))
    whole = Path("r.jsonl").read_bytes()
    for size in range(first, len(whole) + 1):
        Path("r.jsonl").write_bytes(whole[:size])
        with growing() as output:
            assert output.done("in/a.wav")
            assert output.done("in/b.wav") is (size >= len(whole) - 1)  # only its line end may be missing
            if size < len(whole):
                output.write(result(classifier, "in/b.wav")) if size % 50 == 0 else None
                assert Path("r.jsonl").read_bytes() in (whole, whole[:first])


def test_a_kill_before_the_old_record_is_blank(classifier):
    recording("in/a.wav")
    old = result(classifier, "in/a.wav")
    recording("in/a.wav", 3)
    new = result(classifier, "in/a.wav")
    Path("r.jsonl").write_text("".join(JsonLines((), False).records(found) for found in (old, old, new)))
    with growing() as output:
        assert output.done("in/a.wav")
        assert [record["duration_s"] for record in records()] == [3.0]


@pytest.mark.parametrize("most", [1, 2, 1000])
def test_a_changed_recording_has_one_record(classifier, monkeypatch, most):
    monkeypatch.setattr(journal, "MOST_NEW", most)
    with growing() as output:
        for number in range(5):
            for name in ("a", "b"):
                recording(f"in/{name}.wav", 1 + number)
                assert not output.done(f"in/{name}.wav")
                output.write(result(classifier, f"in/{name}.wav"))
                assert output.done(f"in/{name}.wav")
            assert {record["path"]: record["duration_s"] for record in records()} == {
                "in/a.wav": 1 + number,
                "in/b.wav": 1 + number,
            }
        output.write(Failure("in/b.wav", "not-audio", "in/b.wav: is none."))
        assert not output.done("in/b.wav")
    assert counts() == {"in/a.wav": 1, "in/b.wav": 1}


def test_records_of_all_channels_are_replaced_together(classifier):
    recording("in/a.wav")
    each = {"settings": {"channels": "each"}}

    def of_channels(*numbers: int):
        return tuple(result(classifier, "in/a.wav", channels=2, channel=number)[0] for number in numbers)

    with growing() as output:
        output.write(result(classifier, "in/a.wav"))
    with growing(**each) as output:
        assert not output.done("in/a.wav")
        two = tuple(replace(found, **each) for found in of_channels(1, 2))
        output.write(two)
        assert output.done("in/a.wav")
    assert [record["channel"] for record in records()] == [1, 2]
    with growing() as output:
        assert not output.done("in/a.wav")
        output.write(result(classifier, "in/a.wav"))
    assert [record.get("channel") for record in records()] == [None]


@pytest.mark.parametrize("changes", [{"settings": {"channels": "mix", "hop_s": 1}}, {"model": "n"}, {"provider": "q"}])
def test_other_settings_need_new_records(classifier, changes):
    recording("in/a.wav")
    with growing() as output:
        output.write(result(classifier, "in/a.wav"))
    with growing(**changes) as output:
        assert not output.done("in/a.wav")
    with growing(timeline=True) as output:
        assert not output.done("in/a.wav")
    with growing() as output:
        assert output.done("in/a.wav")


def test_replaced_file_ends_the_run(classifier):
    recording("in/a.wav")
    with growing() as output:
        Path("r.jsonl").rename("old.jsonl")
        Path("r.jsonl").touch()
        with pytest.raises(UsageError, match=r"r\.jsonl: another program removed or replaced it"):
            output.write(result(classifier, "in/a.wav"))


# What is yielded, and when


def test_removed_recordings_have_no_record():
    recording("in/a.wav")
    with growing() as output:
        arrivals = iter(Arrivals(["in"], output, pytest.fail, settle_s=0.0))
        assert next(arrivals) == "in/a.wav"
        Path("in/a.wav").rename("a.wav")  # before it is read
        output.write(Failure("in/a.wav", "not-found", "in/a.wav: no such file or directory."))
        assert records() == []
        Path("a.wav").rename("in/a.wav")
        wait_until(lambda: next(arrivals) == "in/a.wav")


def test_recording_must_be_still_for_a_while(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    recording("in/a.wav")
    with growing() as output:
        arrivals = iter(Arrivals(["in"], output, pytest.fail, settle_s=10.0))
        yielded = []
        for second in range(80):
            now[0] = float(second)
            if second in (9, 18, 50):
                with open("in/a.wav", "ab") as file:
                    file.write(b"more")
            if second in (40,):
                os.utime("in/a.wav")
            yielded += [second for _ in range(3) if next(arrivals) == "in/a.wav"]
    assert [second // 2 for second in yielded] == [14, 30]  # listed every two seconds


def test_file_with_two_ways_to_it_is_yielded_once():
    Path("in/sub").mkdir()
    recording("in/sub/a.wav")
    os.mkfifo("in/pipe.wav") if hasattr(os, "mkfifo") else None
    with growing() as output:
        arrivals = iter(Arrivals(["in", "in/sub"], output, pytest.fail, settle_s=0.0))
        assert [next(arrivals) for _ in range(4)] == ["in/sub/a.wav", None, None, None]


@pytest.mark.skipif(os.name != "posix", reason="links need rights on Windows")
def test_a_link_to_a_folder_is_said_once(monkeypatch):
    now, said = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    Path("other").mkdir()
    recording("other/a.wav")
    Path("in/link").symlink_to("../other")
    with growing() as output:
        arrivals = iter(Arrivals(["in"], output, said.append, settle_s=0.0))
        for second in range(20):  # listed every two seconds
            now[0] = float(second)
            assert next(arrivals) is None
    assert said == ["in: links to directories are not followed."]
