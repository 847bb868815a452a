"""Decode with PyAV in processes that decode one file after the other.

ms-edge starts a new process for every file, and most of its time is the import of PyAV. A fork of a
process that has only imported it is in the same state, and starts in some milliseconds; most of that
is its memory, which it has to copy. So a fork decodes up to INPUTS files, unless `Forked.fresh` is
set. It is also ended if it has needed much memory.
`python -I -S forking.py PACKAGES`, whose standard input is a socket, is the process that forks;
`Forked` stands for `subprocess.Popen` in `ms_edge.audio.media`.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import json
import os
import resource
import socket
import subprocess
import sys
import traceback
from pathlib import Path
from typing import IO, Any

MESSAGE_BYTES = 1 << 16
POPEN = subprocess.Popen  # the real one
HIGH = 100  # descriptors from here on are not those that a decoder gets
INPUTS = 100  # that a decoder decodes before another one takes its place
USUAL_BYTES = 16 << 20  # memory that a decoder may have needed more than the first one


class Server:
    """The process that has imported PyAV. It runs one decoder at a time."""

    def __init__(self, packages: str) -> None:
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-I", "-S", __file__, packages]
        self.process = POPEN(command, stdin=theirs, stdout=subprocess.DEVNULL)
        theirs.close()
        if not self.socket.recv(1):
            raise RuntimeError("PyAV cannot be imported")


class Forked:
    """A decoder process with the methods of `subprocess.Popen` that `media` uses."""

    server: Server | None = None
    fresh = False  # whether each decoder decodes one file
    peak_bytes = 0  # the most memory that a decoder has had since this was set to 0

    def __init__(
        self, arguments: list[str], *, pass_fds: tuple[int, ...], stdout: int = subprocess.PIPE, **_: Any
    ) -> None:
        from ms_edge.audio import media

        if arguments[0] != sys.executable:
            raise RuntimeError("only PyAV is run in forks")
        packages = arguments[media.PACKAGES]
        Forked.server = server = Forked.server or Server(packages)
        pipes = [os.pipe() for _ in range(3)]
        given = {
            "arguments": arguments[media.PACKAGES + 1 :],
            "descriptors": [0, 1, 2, *pass_fds],
            "memory": media.MEMORY_BYTES,
            "fresh": Forked.fresh,
        }
        theirs = [pipes[0][0], pipes[1][1] if stdout == subprocess.PIPE else stdout, pipes[2][1]]
        socket.send_fds(server.socket, [json.dumps(given).encode()], [*theirs, *pass_fds])
        for descriptor in (pipes[0][0], pipes[1][1], pipes[2][1]):
            os.close(descriptor)
        self.stdin: IO[bytes] = os.fdopen(pipes[0][1], "wb", 0)
        self.stdout: IO[bytes] = os.fdopen(pipes[1][0], "rb", 0)
        self.stderr: IO[bytes] = os.fdopen(pipes[2][0], "rb", 0)
        self.pid = int(server.socket.recv(20))
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            assert Forked.server
            Forked.server.socket.settimeout(timeout)
            try:
                status, most = Forked.server.socket.recv(40).split()
                self.returncode = int(status)
                Forked.peak_bytes = max(Forked.peak_bytes, int(most))
            except TimeoutError:
                raise subprocess.TimeoutExpired("decoder", timeout or 0.0) from None
            finally:
                Forked.server.socket.settimeout(None)
        return self.returncode


class _Decoder:
    """A fork of this process, and the socket to it."""

    def __init__(self, av: Any) -> None:
        self.link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.inputs = 0
        self.process = os.fork()
        if self.process == 0:
            try:
                self.link.close()
                _decode_each(theirs, av)
            finally:
                os._exit(1)
        os.setpgid(self.process, self.process)  # before `media` may kill the group
        theirs.close()

    def decode(self, message: bytes, descriptors: list[int]) -> None:
        """Begin with a file. Raises OSError if the process has ended."""
        socket.send_fds(self.link, [message], descriptors)
        self.inputs += 1

    def answer(self) -> tuple[int, int, bool]:
        """Return the status and the peak memory in bytes, and whether the process still lives."""
        with contextlib.suppress(OSError):
            if said := self.link.recv(40).split():
                return int(said[0]), int(said[1]), True
        return *self.end(), False

    def end(self) -> tuple[int, int]:
        """Wait for the end of the process. Return its status and its peak memory in bytes."""
        self.link.close()
        _, status, usage = os.wait4(self.process, 0)
        return os.waitstatus_to_exitcode(status), usage.ru_maxrss << 10


def serve(packages: str) -> None:
    """Let a decoder decode the file of each message.

    Answer with the decoder's number, then with its exit status and its peak memory.
    """
    import pyav_child

    av = pyav_child.imported(packages)
    link = socket.socket(fileno=0)
    link.sendall(b"+")
    gc.freeze()  # else each collection would visit all modules
    usual, decoder = 0, None
    while True:
        message, descriptors, _, _ = socket.recv_fds(link, MESSAGE_BYTES, 8)
        if not message:
            return
        fresh = json.loads(message)["fresh"]
        if decoder and (fresh or decoder.inputs >= INPUTS):
            decoder.end()
            decoder = None
        decoder = decoder or _Decoder(av)
        try:
            decoder.decode(message, descriptors)
        except OSError:  # `media` killed it after its last answer
            decoder.end()
            decoder = _Decoder(av)
            decoder.decode(message, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        link.sendall(str(decoder.process).encode())
        status, peak, lives = decoder.answer()
        usual = usual or peak
        if lives and (fresh or peak > usual + USUAL_BYTES):
            decoder.end()
            lives = False
        decoder = decoder if lives else None
        link.sendall(f"{status} {peak}".encode())


def _decode_each(link: socket.socket, av: Any) -> None:
    """Decode files until the other end of the socket is closed."""
    number = fcntl.fcntl(link.detach(), fcntl.F_DUPFD_CLOEXEC, 2 * HIGH)
    link, nothing = socket.socket(fileno=number), os.open(os.devnull, os.O_RDWR)
    nothing = fcntl.fcntl(nothing, fcntl.F_DUPFD_CLOEXEC, 2 * HIGH)
    os.closerange(0, HIGH)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while True:
        message, descriptors, _, _ = socket.recv_fds(link, MESSAGE_BYTES, 8)
        if not message:
            os._exit(0)
        given = json.loads(message)
        resource.setrlimit(resource.RLIMIT_AS, (given["memory"],) * 2)
        high = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, HIGH) for each in descriptors]
        for each in descriptors:
            os.close(each)
        for each, wanted in zip(high, given["descriptors"], strict=True):
            os.dup2(each, wanted)
            os.close(each)
        status = _status_of(av, given["arguments"])
        gc.collect()  # PyAV's objects refer to each other, and would close their file during a later one
        for each in given["descriptors"]:
            os.dup2(nothing, each) if each < 3 else os.close(each)
        link.sendall(f"{status} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10}".encode())


def _status_of(av: Any, arguments: list[str]) -> int:
    """Decode one file, and return the exit status that `pyav_child` has."""
    import pyav_child

    file, demuxer, track, samples, *options = arguments
    sys.stderr = os.fdopen(2, "w", 1, "utf-8", "backslashreplace", closefd=False)
    try:
        print(f"  PyAV {av.__version__}", file=sys.stderr, flush=True)
        with contextlib.suppress(BrokenPipeError):
            pyav_child.decode(av, file, demuxer, int(track), int(samples), dict(each.split("=", 1) for each in options))
        sys.stderr.flush()
    except SystemExit as error:
        print(error, file=sys.stderr, flush=True)
        return 1
    except Exception:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2] / "edge/ms_edge/audio"))
    serve(sys.argv[1])
