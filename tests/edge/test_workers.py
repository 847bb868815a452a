"""Work in processes of their own: the same answers, one dead process costs one item, and none outlives who began it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere files are worked on in threads")

SCRIPT = """
import os, signal, sys, time
from concurrent.futures import ThreadPoolExecutor
from ms_edge.errors import ModelError
from ms_edge.jobs.workers import WorkerError, Workers, can_fork

def answer(item, on_audio):
    on_audio(2.5)
    if item == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if item == "raises":
        raise ModelError("model-failed", "it could not.")
    if item == "endless":
        os.write(1, b"%d\\n" % os.getpid())
        while True:
            on_audio(1.0)
    if item == "asleep":
        os.write(1, b"%d\\n" % os.getpid())
        time.sleep(1000)
    return item.upper(), os.getpid()

heard = []
def ask_together(*items):
    found = workers(items, heard.append)
    assert len(found) == len(items)
    return [(f"{type(each).__name__}: {each}", None) if isinstance(each, Exception) else each for each in found]

def ask(item):
    return ask_together(item)[0]

assert can_fork()
with Workers(2, answer) as workers, ThreadPoolExecutor(2) as pool:
    found = list(pool.map(ask, sys.argv[1:]))
    assert os.getpid() not in {number for _, number in found}
    print(*[text for text, _ in found], len({number for _, number in found} - {None}), sum(heard), sep="|")
"""


BEGINNING = SCRIPT[: SCRIPT.index("assert can_fork()")]


def run(*items: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", SCRIPT, *items], stdout=subprocess.PIPE, text=True)


def printed(script: str, *arguments: str) -> str:
    """What a script prints, which ends well and without a word of trouble."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_process_that_dies_costs_its_item_alone():
    items = ["a", "killed", "b", "raises", *"cdefgh", "killed", "i"]
    output, _ = run(*items).communicate(timeout=60)
    *found, processes, heard = output.strip().split("|")
    died = "WorkerError: signal 9"
    assert found == ["A", died, "B", "ModelError: it could not.", *"CDEFGH", died, "I"]
    assert 1 <= int(processes) <= 4  # one may have answered all that did not kill the other
    assert float(heard) == 2.5 * (len(items) - 2)  # of what died nobody knows


def test_of_items_together_one_that_kills_costs_itself_alone():
    script = (
        BEGINNING
        + """
with Workers(1, answer) as workers:
    for items in ("ab", ["c", "killed", "d", "killed", "e"], ["killed"], "f", ["g", "raises", "h"]):
        print(*[text for text, _ in ask_together(*items)], sep="|")
    print(sum(heard))
"""
    )
    died, raised = "WorkerError: signal 9", "ModelError: it could not."
    assert printed(script).splitlines() == [
        "A|B",
        f"C|{died}|D|{died}|E",
        died,
        "F",
        f"G|{raised}|H",
        "22.5",  # of what was answered, once each
    ]


@pytest.mark.parametrize("item", ["endless", "asleep"])
def test_no_process_outlives_who_began_it(item):
    parent = run(item, item)
    try:
        workers = [int(parent.stdout.readline()) for _ in range(2)]
    finally:
        parent.kill()
        parent.wait()
    patience = time.monotonic() + 30
    while any(map(runs, workers)):
        assert time.monotonic() < patience, "a worker goes on for nobody"
        time.sleep(0.05)


def test_processes_and_threads_write_the_same_bytes(samples, tmp_path):
    missing, broken = tmp_path / "missing.wav", tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF\x00\x00")
    paths = [*map(str, samples), str(missing), str(broken)] * 3
    answers = []
    for jobs in (1, 2, 3):
        command = [sys.executable, "-m", "ms_edge.cli", "classify", "--format", "jsonl", "-j", str(jobs), *paths]
        done = subprocess.run(command, capture_output=True, timeout=120)
        assert done.returncode == 1
        answers.append((done.stdout, done.stderr))
    assert answers[0] == answers[1] == answers[2]
    assert answers[0][0].count(b"\n") == len(paths)


CRASH = """
import os, sys
from ms_edge.cli import main as cli
from ms_edge.classifier import Classifier

classify = Classifier.classify
def crash(self, path, **options):
    if path == sys.argv[1]:
        os.abort()
    return classify(self, path, **options)

Classifier.classify = crash
sys.exit(cli.main(["classify", "--format", "tsv", "-j", "2", *sys.argv[1:]]))
"""


def test_a_crash_in_a_library_is_one_sentence(samples):
    command = [sys.executable, "-c", CRASH, *map(str, samples)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == (
        f"ms-edge: {samples[0]}: the process that read it ended (signal 6), perhaps for want of memory, "
        "or by a crash in a decoder; -j 1 tries it in this process.\n"
    )
    assert len(done.stdout.splitlines()) == 1 + len(samples)


def runs(process: int) -> bool:
    """Whether a process is there, and not one that has ended and that nobody has asked for."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_an_idle_process_that_dies_costs_nothing():
    script = (
        BEGINNING
        + """
import time
with Workers(1, answer) as workers:
    seen = [ask(item) for item in "ab"]
    os.kill(seen[0][1], signal.SIGKILL)
    time.sleep(0.2)
    seen += [ask(item) for item in "cdde"]
    print(*[text for text, _ in seen], len({number for _, number in seen}), sep="|")
"""
    )
    assert printed(script) == "A|B|C|D|D|E|2\n"


def test_what_is_asked_of_a_process_that_has_died_is_worked_on_once():
    """However large it is: the process that comes next is asked, and not both."""
    script = """
import os, signal, time
from ms_edge.jobs.workers import Workers

def answer(item, on_audio):
    os.write(1, item[:1].encode())
    return item, os.getpid()

with Workers(1, answer) as workers:
    ((_, number),) = workers(["a"], lambda seconds: None)
    for _ in range(2):
        os.kill(number, signal.SIGKILL)
        time.sleep(0.2)
        names = [letter * 65_000 for letter in "bcdefgh"]
        found = workers(names, lambda seconds: None)
        assert [name for name, _ in found] == names
        number = found[0][1]
"""
    assert printed(script) == "abcdefghbcdefgh"


def test_a_process_may_die_idle_as_often_as_it_will():
    script = (
        BEGINNING
        + """
import pathlib, time
with Workers(1, answer) as workers:
    ((_, number),) = [ask("a")]
    parent = pathlib.Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[1]
    children = pathlib.Path(f"/proc/{parent}/task/{parent}/children")
    for _ in range(15):
        os.kill(number, signal.SIGKILL)
        while not (now := children.read_text().split()) or int(now[0]) == number:
            time.sleep(0.01)
        number = int(now[0])
    print(ask("b")[0])
"""
    )
    assert printed(script) == "B\n"


def test_what_hears_of_audio_may_fail_and_no_answer_goes_to_another_item():
    script = """
from ms_edge.jobs.workers import Workers

def answer(item, on_audio):
    on_audio(1000.0)
    return item

def deaf(seconds):
    raise OSError(5, "no terminal")

with Workers(1, answer) as workers:
    try:
        workers(["a"], deaf)
    except OSError as error:
        print(error.strerror)
    print(workers(["b"], lambda seconds: None), workers(["c"], lambda seconds: None))
"""
    assert printed(script) == "no terminal\n['b'] ['c']\n"


def test_where_no_other_process_can_be_had_what_went_with_the_last_is_told_and_the_rest_answered_here():
    script = (
        BEGINNING
        + """
from ms_edge.jobs import workers as module
module.FORK_S, fork, here, begun = 0.2, os.fork, os.getpid(), []

def fork_once():
    if os.getpid() != here:
        begun.append(True)
        if len(begun) > 1:
            raise BlockingIOError(11, "no more processes")
    return fork()

os.fork = fork_once
with Workers(1, answer) as workers:
    for items in ("ab", ["c", "killed"], "de", "f"):
        print(*[text for text, _ in ask_together(*items)], sep="|")
"""
    )
    killed = "WorkerError: killed"
    assert printed(script).splitlines() == ["A|B", f"{killed}|{killed}", "D|E", "F"]


def test_where_no_process_can_be_had_this_one_answers():
    script = (
        BEGINNING
        + """
import resource
spare = [os.open("/dev/null", os.O_RDONLY) for _ in range(8)]
resource.setrlimit(resource.RLIMIT_NOFILE, (spare[-1] + 1, spare[-1] + 1))
for descriptor in spare[:int(sys.argv[1])]:
    os.close(descriptor)
with Workers(4, answer) as workers, ThreadPoolExecutor(4) as pool:
    found = list(pool.map(ask, ["a", "b", "raises", "c"] * 5))
    here = os.getpid() in {number for _, number in found}
    print(*[text for text, _ in found[:4]], here, sep="|")
"""
    )
    for free in (0, 5):
        assert printed(script, str(free)) == "A|B|ModelError: it could not.|C|True\n"


FULL = """
import time
from ms_edge.cli import main as cli
from ms_edge.output.destination import Output
from ms_edge.jobs.workers import Workers

ask = Workers.__call__
def asked_late(self, item, on_audio):
    time.sleep(0.4)  # about to ask a process that is idle
    return ask(self, item, on_audio)

def full(self, result):
    time.sleep(0.2)
    raise OSError(28, "no space left")

Workers.__call__, Output.write = asked_late, full
assert cli.main(["classify", "-q", "-j", "2", *(f"missing-{number}" for number in range(40))]) == 1
"""


def test_an_output_that_fails_ends_the_run():
    """While threads are about to ask processes, which have ended when they do: that once lasted for ever."""
    done = subprocess.run([sys.executable, "-c", FULL], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert done.stderr == "ms-edge: the output cannot be written (no space left).\n"


def test_an_output_that_fails_does_not_wait_for_standard_input(samples):
    script = FULL[: FULL.index("assert cli.main")].replace("Workers.__call__, ", "").replace("asked_late, ", "")
    script += "import sys; sys.exit(cli.main(['classify', '-q', '-j', '2', sys.argv[1], '-']))"
    command = [sys.executable, "-c", script, str(samples[0])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.wait(30) == 1
        assert process.stderr.read() == b"ms-edge: the output cannot be written (no space left).\n"


def test_a_reader_that_goes_away_ends_the_run(samples):
    command = [sys.executable, "-m", "ms_edge.cli", "classify", "-j", "2", *map(str, samples * 20)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline()
        process.stdout.close()
        assert process.wait(60) == 0
        assert process.stderr.read() == b""


def test_what_other_systems_lack_is_not_imported():
    script = "import sys, multiprocessing.context as c; del c.ForkContext, c.ForkProcess; sys.platform = 'win32'; "
    script += "from ms_edge.jobs.workers import can_fork; print(can_fork())"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "False\n"
