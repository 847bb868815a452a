"""The driver notices what it looks for, and a selection of its runs finds nothing."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import faults
import pytest
from faults import FAULTS, MODES, Run, problem_of

DRIVER = Path(faults.__file__)
TEXT = b"LABEL  PROBABILITY  SHARE  PATH\nspeech  99.0%  100%  in/a.wav\nmusic  98.0%  90%  in/b.wav\n"
GOOD = Run(0, TEXT, "", {}, 10, False, False, None, "")
FAILED = TEXT.replace(b"speech  99.0%  100%  in/a.wav", b"error            -       -  in/a.wav (cannot-read)")
SENTENCE = "ms-edge: in/a.wav: cannot be read (input/output error).\n"


def driven(*arguments: str, status: int = 0, before: str = "pass") -> str:
    """Return what the driver prints. It runs by itself, since it forks, and pytest has threads.

    `before` is a statement that changes the driver.
    """
    program = (
        f"import sys; sys.path.insert(0, {str(DRIVER.parent)!r}); import faults; {before}; sys.exit(faults.main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, None),
        ({"stdout": FAILED, "stderr": SENTENCE, "status": 1}, None),
        ({"stdout": TEXT[:60], "stderr": "ms-edge: the output cannot be written.\n", "status": 1}, None),
        ({"stdout": b"", "stderr": "ms-edge: not enough memory.\n", "status": 3}, None),
        ({"stdout": TEXT[:60], "status": -9, "killed": True}, None),
        ({"stdout": TEXT[:60]}, "status 0, but 2 lines in place of 3"),
        ({"stdout": TEXT.replace(b"99.0", b"97.0")}, "status 0, but other"),
        ({"stdout": FAILED, "status": 1}, "status 1 without a sentence"),
        ({"stdout": FAILED, "stderr": SENTENCE}, "status 0, but errors"),
        ({"stdout": FAILED, "stderr": "ms-edge: in/b.wav: no.\n", "status": 1}, "half: no sentence about in/a.wav"),
        ({"stderr": "Traceback (most recent call last):\n", "status": 1}, "died: status 1"),
        ({"status": -11}, "died: status -11"),
        ({"stderr": "loaded a library\n"}, "stderr: 'loaded a library'"),
        ({"files": {"a.txt": b""}}, "status 0, but files left: ['a.txt']"),
        ({"problem": "hang"}, "hang"),
    ],
    ids=str,
)
def test_rules_tell_right_from_wrong(changes, problem):
    found = problem_of(MODES["text"], FAULTS["read"], replace(GOOD, **changes), GOOD)
    assert found == problem or (problem and found.startswith(problem))


def test_a_list_whose_end_cannot_be_read_may_have_had_more():
    found = replace(GOOD, stderr="ms-edge: list: the list of files cannot be read.\n", status=2)
    assert problem_of(MODES["list"], FAULTS["read"], found, GOOD) is None
    assert problem_of(MODES["text"], FAULTS["read"], found, GOOD) == "status 2, but all results are there"


def test_a_folder_that_cannot_be_read_is_one_error():
    error = b'{"path": "in", "error": {"code": "cannot-open"}}\n'
    found = replace(GOOD, stdout=error, stderr="ms-edge: in: input/output error.\n", status=1)
    assert problem_of(MODES["walk"], FAULTS["stat"], found, GOOD) is None
    assert "half: " in str(problem_of(MODES["walk"], FAULTS["stat"], replace(found, stdout=b"{}\n"), GOOD))


def test_incomplete_file_needs_a_name_that_says_so():
    good = replace(GOOD, stdout=b"", files={"out.csv": b"path\na\nb\n"})
    sentence = {"status": 1, "stderr": "ms-edge: the output cannot be written.\n"}
    for name, problem in (("ms-edge-0.part", False), ("out.csv", True)):
        found = replace(good, files={name: b"path\na\n"}, **sentence)
        assert bool(problem_of(MODES["csv-file"], FAULTS["write"], found, good)) == problem


def test_nth_call_fails_in_every_process():
    """The result is an error for one recording, or nothing if the call was none of a recording."""
    printed = driven("--mode", "media-j2", "--fault", "open", "--runs", "4", "--jobs", "1")
    assert "4 runs" in printed
    assert " 0 findings" in printed


@pytest.mark.slow
def test_each_of_several_processes_tells_its_findings():
    planted = "faults.problem_of = lambda mode, fault, found, good: 'planted' if found.fired else None"
    chosen = ("--mode", "csv", "--fault", "open", "--runs", "4", "--jobs")
    alone, together = (driven(*chosen, jobs, status=1, before=planted) for jobs in ("1", "2"))
    assert alone.count(": planted\n") == 4
    # The same runs in another order; the last line has the time.
    assert sorted(together.splitlines()[:-1]) == sorted(alone.splitlines()[:-1])


@pytest.mark.slow
def test_faults_of_every_kind_in_every_mode():
    printed = driven("--runs", "150", "--jobs", "2")
    assert all(f"\n{name} " in printed for name in (*(set(MODES) - {"start-version"}), *FAULTS))


@pytest.mark.slow
def test_no_failed_read_changes_a_result():
    assert " 0 findings" in driven("--mode", "csv", "--fault", "read", "--jobs", "2")
