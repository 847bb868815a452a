"""Worker processes: the same results as in one process, one file lost per death, no process left."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
import threading
import time
from multiprocessing import Pipe
from pathlib import Path
from types import SimpleNamespace

import pytest

from ms_edge.jobs import workers
from ms_edge.jobs.workers import Item, Workers
from ms_edge.results import Failure

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere files are worked on in threads")

BEGINNING = """
import os, signal, sys, time
from ms_edge.errors import ModelError
from ms_edge.results import Failure
from ms_edge.jobs.workers import Item, Workers, can_fork

def answer(path, on_audio):
    on_audio(200.0 if path == "long" else 2.5)
    if path == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if path == "raises":
        raise ModelError("model-failed", "it could not.")
    if path == "endless":
        os.write(1, b"%d\\n" % os.getpid())
        while True:
            on_audio(1.0)
    if path == "slow":
        time.sleep(0.5)
    if path == "asleep":
        os.write(1, b"%d\\n" % os.getpid())
        time.sleep(1000)
    return path.upper(), os.getpid()

heard, processes = [], set()

def shown(result):
    if isinstance(result, tuple):
        processes.add(result[1])
        return result[0]
    if isinstance(result, Failure):
        assert result.code == "worker-died"
        return result.message.split("(")[1].split(")")[0]

def ask(*tasks):
    "Return the results of lists of paths, up to the first error. Paths of one list may share a task."
    inputs, found = (Item(path, 1 / len(task)) for task in tasks for path in task), []
    try:
        for result in workers.results(inputs):
            found.append(shown(result))
    except ModelError as error:
        found.append(f"ModelError: {error}")
    return "|".join(found)

def kill_idle():
    number = processes.pop()
    processes.clear()
    os.kill(number, signal.SIGKILL)
    os.waitid(os.P_PID, number, os.WEXITED | os.WNOWAIT)

assert can_fork()
"""

SCRIPT = (
    BEGINNING
    + """
with Workers(answer, 2, heard.append, fork=True) as workers:
    print(ask(*([path] for path in sys.argv[1:])), len(processes), sum(heard), sep="|")
    assert os.getpid() not in processes
"""
)


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    """Let NumPy's BLAS start no threads, as the program does: a process with some is not forked."""
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")


def run(*items: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", SCRIPT, *items], stdout=subprocess.PIPE, text=True)


def printed(script: str, *arguments: str) -> str:
    """Return what a script prints; it must succeed and print nothing to standard error."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_worker_death_costs_one_item():
    items = ["a", "killed", "b", *"cdefgh", "killed", "i", "raises"]
    output, _ = run(*items).communicate(timeout=60)
    *found, processes, heard = output.strip().split("|")
    assert found == ["A", "signal 9", "B", *"CDEFGH", "signal 9", "I", "ModelError: it could not."]
    assert 1 <= int(processes) <= 4  # one worker may have done all items that killed no worker
    assert float(heard) == 2.5 * (len(items) - 2)  # killed workers report no audio


def test_a_death_costs_one_item_of_a_task():
    script = (
        BEGINNING
        + """
with Workers(answer, 1, heard.append, fork=True) as workers:
    for task in ("ab", ["c", "killed", "d", "killed", "e"], ["killed"], "f", ["g", "raises", "h"], ["long", "killed"]):
        print(ask(task))
    print(sum(heard))
"""
    )
    assert printed(script).splitlines() == [
        "A|B",
        "C|signal 9|D|signal 9|E",
        "signal 9",
        "F",
        "G|ModelError: it could not.",
        "LONG|signal 9",
        "222.5",  # each item with a result, once
    ]


@pytest.mark.parametrize("item", ["endless", "asleep"])
def test_no_worker_outlives_its_parent(item):
    parent = run(item, item)
    try:
        workers = [int(parent.stdout.readline()) for _ in range(2)]
    finally:
        parent.kill()
        parent.wait()
    patience = time.monotonic() + 30
    while any(map(runs, workers)):
        assert time.monotonic() < patience, "a worker goes on without its parent"
        time.sleep(0.05)


def test_the_number_of_workers_changes_no_byte(samples, tmp_path):
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


def test_a_crash_in_a_decoder_is_one_sentence(samples):
    command = [sys.executable, "-c", CRASH, *map(str, samples)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == (
        f"ms-edge: {samples[0]}: the process that read it ended (signal 6), perhaps for want of memory, "
        "or by a crash in a decoder; -j 1 tries it in this process.\n"
    )
    assert len(done.stdout.splitlines()) == 1 + len(samples)


def runs(process: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_the_death_of_an_idle_worker_costs_nothing():
    script = (
        BEGINNING
        + """
with Workers(answer, 1, heard.append, fork=True) as workers:
    for tasks in (["a"], "bc", [["d", "d", "e"], "f"]):
        print(ask(*tasks))
        kill_idle()
"""
    )
    assert printed(script) == "A\nB|C\nD|D|E|F\n"


def test_audio_of_a_dead_idle_worker_still_counts():
    """It is found dead while another worker reads a file."""
    script = (
        BEGINNING
        + """
with Workers(answer, 2, heard.append, fork=True) as workers:
    for result in workers.results(map(Item, ("a", "slow"))):
        if shown(result) == "A":
            kill_idle()
    print(sum(heard))
"""
    )
    assert printed(script) == "5.0\n"


def test_a_dead_workers_task_is_done_once():
    """Also if it is larger than what a pipe holds."""
    script = (
        BEGINNING
        + """
def answer(path, on_audio):
    os.write(1, path[:1].encode())
    return path, os.getpid()

with Workers(answer, 1, heard.append, fork=True) as workers:
    ask("a")
    for _ in range(2):
        kill_idle()
        paths = [letter * 65_000 for letter in "bcdefgh"]
        assert ask(paths) == "|".join(paths)
"""
    )
    assert printed(script) == "abcdefghbcdefgh"


def test_a_worker_may_die_idle_many_times():
    """More often than it is tried to start one that begins: each success counts."""
    script = (
        BEGINNING
        + """
from ms_edge.jobs import workers as module
module.ATTEMPTS = 3
with Workers(answer, 1, heard.append, fork=True) as workers:
    for _ in range(15):
        assert ask("a") == "A"
        kill_idle()
    print(ask("b"))
"""
    )
    assert printed(script) == "B\n"


def test_an_error_that_cannot_be_pickled_is_raised():
    script = (
        BEGINNING
        + """
class OddError(Exception):
    def __init__(self, one, other):  # pickle would call it with the message alone
        super().__init__("odd")

def answer(path, on_audio):
    raise OddError(1, 2)

with Workers(answer, 1, heard.append, fork=True) as workers:
    try:
        ask("a")
    except RuntimeError as error:
        print(str(error).splitlines()[-1])
"""
    )
    assert printed(script) == "OddError: odd\n"


def test_a_module_that_cannot_be_read_in_a_worker_is_said_in_a_sentence():
    """It is an OSError, but not one of the output."""
    script = (
        BEGINNING
        + """
def answer(path, on_audio):
    raise OSError(5, "Input/output error", "numpy/fft")

with Workers(answer, 1, heard.append, fork=True) as workers:
    try:
        ask("a")
    except Exception as error:
        print(error)
"""
    )
    assert printed(script) == "a library cannot be loaded ([Errno 5] Input/output error: 'numpy/fft').\n"


def test_an_error_while_progress_is_shown_is_raised():
    script = (
        BEGINNING
        + """
def closed(seconds):
    raise OSError(5, "no terminal")

try:
    with Workers(answer, 1, closed, fork=True) as workers:
        ask("a")
except OSError as error:
    print(error.strerror)
try:
    os.waitpid(-1, 0)
except ChildProcessError:
    print("no process is left")
"""
    )
    assert printed(script) == "no terminal\nno process is left\n"


def test_without_a_replacement_this_process_does_the_rest():
    """But not the item that killed the last worker."""
    script = (
        BEGINNING
        + """
fork, begun = os.fork, []

def fork_once():
    begun.append(True)
    if len(begun) > 1:
        raise BlockingIOError(11, "no more processes")
    return fork()

os.fork = fork_once
with Workers(answer, 1, heard.append, fork=True) as workers:
    for task in ("ab", ["c", "killed", "d", "e"], "f"):
        print(ask(task))
"""
    )
    assert printed(script).splitlines() == ["A|B", "C|signal 9|D|E", "F"]


def test_workers_that_never_begin_cost_nothing():
    """The inputs come back in another order than that of the results."""
    script = (
        BEGINNING
        + """
from ms_edge.jobs import workers as module
module._serve = lambda *_: None
with Workers(answer, 2, heard.append, fork=True) as workers:
    print(ask("abc", "def", "ghi", "jkl"))
"""
    )
    assert printed(script) == "A|B|C|D|E|F|G|H|I|J|K|L\n"


def test_a_task_that_cannot_be_sent_is_sent_again():
    script = (
        BEGINNING
        + """
from multiprocessing.connection import Connection
send, parent, tried = Connection.send, os.getpid(), []

def fail_once(self, message):
    if os.getpid() == parent:
        tried.append(message)
        if len(tried) == 1:
            raise OSError(5, "input/output error")
    send(self, message)

Connection.send = fail_once
with Workers(answer, 2, heard.append, fork=True) as workers:
    print(ask("ab", "cd"))
"""
    )
    assert printed(script) == "A|B|C|D\n"


def test_workers_that_all_die_are_given_up():
    script = (
        BEGINNING
        + """
from ms_edge.jobs import workers as module
started = []

class Killed(module.Worker):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        os.kill(self.process, signal.SIGKILL)
        os.waitid(os.P_PID, self.process, os.WEXITED | os.WNOWAIT)
        started.append(self)

module.Worker = Killed
with Workers(answer, 2, heard.append, fork=True) as workers:
    print(ask("a", "b"), len(started) <= module.ATTEMPTS)
"""
    )
    assert printed(script) == "A|B True\n"


BUDGET = (
    BEGINNING
    + """
from ms_edge.jobs import workers as module
module.BUDGET_S = 1.0

def answer(path, on_audio):
    for _ in range(30 if path == "slow" else path == "stops"):
        on_audio(20.0)
        time.sleep(0.1)
    if path in ("hangs", "stops"):
        time.sleep(1_000)
    return path

inputs = (Item(path, share=0.25, left_s=1.0) for path in sys.argv[2:])
with Workers(answer, 2, heard.append, fork=sys.argv[1] == "fork") as workers:
    for result in workers.results(inputs):
        print(result if isinstance(result, str) else f"{result.code} {result.path}", end="|")
print(sum(heard))
"""
)


@pytest.mark.parametrize("kind", ["fork", "threads"])
def test_a_worker_that_hangs_costs_one_file(kind):
    """Also after some audio; a slow file is read for as long as it takes."""
    paths = ["a", "hangs", "b", "slow", "stops", "c", "hangs", "d", "e"]
    found = printed(BUDGET, kind, *paths)
    assert found == "a|too-long hangs|b|slow|too-long stops|c|too-long hangs|d|e|600.0\n"


def test_standard_input_may_pause_longer_than_a_file(samples):
    script = (
        "import sys; from ms_edge.cli import main as cli; from ms_edge.jobs import classify, workers\n"
        "classify.BUDGET_S = workers.BUDGET_S = 0.2\n"
        "sys.exit(cli.main(['classify', '-j', '2', '-', *sys.argv[1:]]))"
    )
    command = [sys.executable, "-c", script, str(samples[0])]
    content = samples[0].read_bytes()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=False) as process:
        process.stdin.write(content[:20_000])
        process.stdin.flush()
        time.sleep(2)
        process.stdin.write(content[20_000:])
        process.stdin.close()
        first = process.stdout.read().splitlines()[1]
    assert first.split()[0] == samples[0].name.split("_")[0].encode()


def test_time_while_stopped_is_not_counted(monkeypatch):
    """Ctrl-Z and fg: the clock jumps."""
    monkeypatch.setattr(workers, "time", SimpleNamespace(monotonic=itertools.count(0.0, 1_000.0).__next__))
    end = threading.Event()
    polls = []

    def give_up(path):
        polls.append(path)
        if len(polls) == 10:
            end.set()
        return False

    with Workers(lambda path, on_audio: end.wait(), 1, lambda seconds: None, fork=False) as some:
        found = some.results(iter([Item("a", left_s=100.0)]), give_up=give_up)
        assert list(found) == [True]


@pytest.mark.parametrize("free", [0, 1, 2, 3, 5])
def test_few_open_files_are_enough(free):
    script = (
        BEGINNING
        + """
import multiprocessing.connection, resource
spare = [os.open("/dev/null", os.O_RDONLY) for _ in range(8)]
resource.setrlimit(resource.RLIMIT_NOFILE, (spare[-1] + 1, spare[-1] + 1))
for descriptor in spare[:int(sys.argv[1])]:
    os.close(descriptor)
with Workers(answer, 4, heard.append, fork=True) as workers:
    print(ask(*[[path] for path in ["a", "b", "c", "d"] * 5]), os.getpid() in processes, sep="|")
"""
    )
    here = free < 2  # a pipe has two ends
    assert printed(script, str(free)) == "A|B|C|D|" * 5 + f"{here}\n"


def test_workers_work_while_child_signals_are_ignored():
    script = (
        BEGINNING
        + """
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
with Workers(answer, 2, heard.append, fork=True) as workers:
    print(ask("a", ["killed"], "b"))
"""
    )
    assert printed(script) == "A|killed|B\n"


FULL = """
import sys, time
from ms_edge.cli import main as cli
from ms_edge.output.destination import Output

def full(self, result):
    time.sleep(0.2)
    raise OSError(28, "no space left")

Output.write = full
sys.exit(cli.main(["classify", "-q", "-j", "2", *sys.argv[1:]]))
"""


@pytest.mark.parametrize("last", ["missing", "-"])
def test_an_output_that_fails_ends_the_run(samples, last):
    """Also while a worker waits for standard input."""
    command = [sys.executable, "-c", FULL, str(samples[0]), *["missing"] * 40, last]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.wait(30) == 1
        assert process.stderr.read() == b"ms-edge: the output cannot be written (no space left).\n"


def test_a_closed_pipe_ends_the_run(samples):
    command = [sys.executable, "-m", "ms_edge.cli", "classify", "-j", "2", *map(str, samples * 20)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline()
        process.stdout.close()
        assert process.wait(60) == 0
        assert process.stderr.read() == b""


@pytest.mark.native
def test_thread_that_python_does_not_count_prevents_fork():
    """Beside three busy threads, one forked copy in ten waited forever."""
    script = "import _thread, time; from ms_edge.jobs.workers import can_fork; print(can_fork()); "
    script += "_thread.start_new_thread(time.sleep, (60,)); print(can_fork())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=50)
    assert done.stdout == "True\nFalse\n"


@pytest.mark.native
def test_program_has_one_thread(samples, monkeypatch):
    """Otherwise it could not fork. The environment may ask for more threads of NumPy's BLAS."""
    script = "import os; from ms_edge.cli import main; end = os._exit\n"
    script += "os._exit = lambda status: print(len(os.listdir('/proc/self/task')), flush=True) or end(status)\n"
    command = [sys.executable, "-c", f"{script}main.command()", "classify", "-j", "1", str(samples[0])]
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "4")
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert done.stdout.splitlines()[2] == "1"


def test_other_systems_import_no_fork():
    # soundfile first, because Python 3.13 itself imports modules of Windows if it finds this platform.
    script = "import soundfile, sys, multiprocessing.context as c; del c.ForkContext, c.ForkProcess; sys.platform = 'win32'; "
    script += "from ms_edge.jobs.workers import can_fork; print(can_fork())"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "False\n"


def test_late_file_is_blamed_though_next_began():
    late, following = Item("late", left_s=-1.0), Item("following")
    begun = iter([late, following])
    ours, theirs = Pipe()
    worker = SimpleNamespace(
        task=[late, following],
        pipe=ours,
        heard_s=0.0,
        audio_s=lambda: 0.0,
        in_progress=lambda: next(begun),
        end=lambda: "",
    )
    some = Workers(lambda path, on_audio: path, 1, lambda audio_s: None, fork=False)
    some._workers.append(worker)
    some._receive(())
    theirs.close()
    assert isinstance(late.result, Failure)
    assert (late.result.path, late.result.code, following.result) == ("late", "too-long", None)
    assert list(some._todo) == [following]
