"""A command that is killed at any point leaves a file that `--resume` completes, byte for byte."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faults import CORPUS, RECORDINGS

CLASSIFY = [sys.executable, "-m", "ms_edge.cli", "classify", "-q", "-o", "out.jsonl"]
INPUTS = [str(CORPUS / name) for name in RECORDINGS] * 3
KILLS = 25
LIMIT_S = 120


def run(folder: Path, *options: str) -> bytes:
    """Run the command to its end, and return the file that it writes."""
    subprocess.run([*CLASSIFY, *options, *INPUTS], cwd=folder, check=True, timeout=LIMIT_S)
    assert [path.name for path in folder.iterdir()] == ["out.jsonl"]
    return (folder / "out.jsonl").read_bytes()


def killed(folder: Path, written: int, alone: bool, *options: str) -> bool:
    """Start the command, and kill it when it has written so many bytes: `alone`, or its workers too.

    Return whether it was killed before its end.
    """
    part = folder / "out.jsonl.part"
    with subprocess.Popen([*CLASSIFY, *options, *INPUTS], cwd=folder, start_new_session=True) as process:
        until = time.monotonic() + LIMIT_S
        while process.poll() is None and (not part.exists() or part.stat().st_size < written):
            assert time.monotonic() < until
            time.sleep(0.001)
        (process.kill if alone else lambda: os.killpg(process.pid, signal.SIGKILL))()
    return process.returncode == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_resume_completes_what_a_kill_left(tmp_path, jobs):
    chance, kills = random.Random(jobs), 0
    (tmp_path / "whole").mkdir()
    whole = run(tmp_path / "whole", "-j", jobs)
    for attempt in range(2 * KILLS):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        if killed(folder, chance.randrange(len(whole)), attempt % 2 == 0, "-j", jobs):
            kills += 1
            assert not (folder / "out.jsonl").exists()
            assert run(folder, "-j", jobs, "--resume") == whole
        if kills == KILLS:
            break
    assert kills == KILLS
