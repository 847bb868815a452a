"""Decode with PyAV in forks of a process that has imported it.

ms-edge starts a new process for every file, and most of its time is the import of PyAV. A fork of a
process that has only imported it is in the same state, and starts in a millisecond.
`python -I -S forking.py PACKAGES`, whose standard input is a socket, is that process; `Forked`
stands for `subprocess.Popen` in `ms_edge.audio.media`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import socket
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

MESSAGE_BYTES = 1 << 16
POPEN = subprocess.Popen  # the real one
HIGH = 100  # descriptors from here on are not those that a decoder gets


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
    peak_bytes = 0  # the most memory that a decoder has had

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


def serve(packages: str) -> None:
    """Fork a decoder for each message, and answer with its number, then its exit status and peak memory."""
    import pyav_child

    av = pyav_child.imported(packages)
    link = socket.socket(fileno=0)
    link.sendall(b"+")
    while True:
        message, descriptors, _, _ = socket.recv_fds(link, MESSAGE_BYTES, 8)
        if not message:
            return
        process = os.fork()
        if process == 0:
            _be_decoder(pyav_child, av, json.loads(message), descriptors)
        os.setpgid(process, process)  # before `media` may kill the group
        for descriptor in descriptors:
            os.close(descriptor)
        link.sendall(str(process).encode())
        _, status, usage = os.wait4(process, 0)
        link.sendall(f"{os.waitstatus_to_exitcode(status)} {usage.ru_maxrss << 10}".encode())


def _be_decoder(pyav_child: Any, av: Any, given: dict[str, Any], descriptors: list[int]) -> None:
    status = 1
    try:
        high = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, HIGH) for each in descriptors]
        for each, number in zip(high, given["descriptors"], strict=True):
            os.dup2(each, number)
            os.close(each)
        resource.setrlimit(resource.RLIMIT_AS, (given["memory"],) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        file, demuxer, track, samples, *options = given["arguments"]
        print(f"  PyAV {av.__version__}", file=sys.stderr, flush=True)
        with contextlib.suppress(BrokenPipeError):
            pyav_child.decode(av, file, demuxer, int(track), int(samples), dict(each.split("=", 1) for each in options))
        sys.stderr.flush()
        status = 0
    except SystemExit as error:
        print(error, file=sys.stderr, flush=True)
    finally:
        os._exit(status)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2] / "edge/ms_edge/audio"))
    serve(sys.argv[1])
