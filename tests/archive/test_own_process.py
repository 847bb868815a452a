"""What a function in a process of its own returns, raises, or leaves unsaid, its caller gets as an error."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

PROGRAM = """
import os, signal, sys, time
from ms_edge.archive.own_process import in_own_process
from ms_edge.errors import UsageError

ready, begun = os.pipe()
fork = os.fork

def interrupted_at_once():
    child = fork()
    if child:
        os.read(ready, 1)
        os.kill(os.getpid(), signal.SIGTERM)
    return child

def interrupted():
    try:
        print("begun", flush=True)
        os.write(begun, b".")
        time.sleep(60)
    except KeyboardInterrupt:
        time.sleep(0.7)  # a second interrupt would end this
        print("tidy", flush=True)
        return 130

def refused():
    raise UsageError("no")

class OddError(OSError):
    def __init__(self, *, text):
        super().__init__(5, text)

def odd():
    raise OddError(text="odd")

for number in (signal.SIGINT, signal.SIGTERM):  # the tests may run in the background, where SIGINT is ignored
    signal.signal(number, signal.default_int_handler)
RUNS = {
    "returns": lambda: 7,
    "refuses": refused,
    "fails": lambda: 1 / 0,
    "odd": odd,
    "exits": lambda: os._exit(1),
    "dies": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "waits": interrupted,
    "early": interrupted,
}
if sys.argv[1] == "early":
    os.fork = interrupted_at_once
try:
    print("status", in_own_process(RUNS[sys.argv[1]], "lost"))
except Exception as error:
    print(type(error).__name__, error)
"""


def printed(run: str) -> tuple[str, str]:
    done = subprocess.run([sys.executable, "-c", PROGRAM, run], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip(), done.stderr.strip()


def test_caller_gets_the_answer():
    assert printed("returns") == ("status 7", "")
    assert printed("refuses") == ("UsageError no", "")
    said, trace = printed("fails")
    assert said == "status 1"
    assert trace.endswith("ZeroDivisionError: division by zero")


def test_error_that_pickle_cannot_restore_is_printed():
    said, trace = printed("odd")
    assert said == "status 1"
    assert trace.endswith("OddError: [Errno 5] odd")


def test_end_without_an_answer_is_an_error():
    assert printed("exits") == ("DeviceError lost", "")
    assert printed("dies")[0].startswith("DeviceError The process of this run was ended (signal 9)")


@pytest.mark.parametrize("group", [False, True])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_both_processes_have_one_interrupt(number, group):
    """A terminal sends it to both, `kill` to the parent alone."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "waits"], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as running:
        assert running.stdout
        assert running.stdout.readline().startswith("begun")
        (os.killpg if group else os.kill)(running.pid, number)
        assert running.stdout.read().split("\n")[:2] == ["tidy", "status 130"]


def test_interrupt_between_fork_and_handlers_is_passed_on():
    assert printed("early") == ("begun\ntidy\nstatus 130", "")


def test_child_ends_with_its_parent():
    with subprocess.Popen([sys.executable, "-c", PROGRAM, "waits"], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout
        assert running.stdout.readline().startswith("begun")
        running.kill()
        until = time.monotonic() + 30
        assert running.stdout.read() == "tidy\n"  # the end comes when the child has ended, too
        assert time.monotonic() < until
