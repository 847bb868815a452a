"""Let system calls fail, in this process and in every process and thread that it starts.

A filter makes the kernel ask a supervisor before it runs a call (seccomp_unotify(2), Linux 5.5 and
newer on x86-64 and arm64). The supervisor lets the call run, or it returns an error in its place.
That needs no privileges and no compiler, and it reaches the calls of C libraries too.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import struct
from dataclasses import dataclass

# The numbers of the calls of each group on x86-64 and arm64 (the kernel's unistd.h).
GROUPS = {
    "open": ((2, 85, 257, 437), (56, 437)),  # open, creat, openat, openat2
    "read": ((0, 17, 19), (63, 67, 65)),  # read, pread64, readv
    "write": ((1, 18, 20), (64, 68, 66)),  # write, pwrite64, writev
    "rename": ((82, 264, 316), (38, 276)),  # rename, renameat, renameat2
    "fsync": ((74, 75), (82, 83)),  # fsync, fdatasync
    "fork": ((56, 57, 58, 435), (220, 435)),  # clone, fork, vfork, clone3: processes and threads
    "memory": ((9, 12, 25), (222, 214, 216)),  # mmap, brk, mremap
    "status": ((4, 5, 6, 262, 332), (79, 80, 291)),  # stat, fstat, lstat, newfstatat, statx
    # lseek, ftruncate, mkdir(at), unlink(at), dup, dup2, dup3, pipe, pipe2, socketpair, getdents64, fcntl
    "other": (
        (8, 77, 83, 258, 87, 263, 32, 33, 292, 22, 293, 53, 217, 72),
        (62, 46, 34, 35, 23, 24, 59, 199, 61, 25),
    ),
}
MACHINE = ("x86_64", "aarch64").index(platform.machine())
SECCOMP = (317, 277)[MACHINE]
SET_CHILD_SUBREAPER, SET_NO_NEW_PRIVS = 36, 38  # of prctl
SET_FILTER, NEW_LISTENER = 1, 8  # of seccomp
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06  # BPF, of linux/filter.h
ALLOW, ASK = 0x7FFF0000, 0x7FC00000
RECEIVE, SEND = 0xC0502100, 0xC0182101  # ioctls
CONTINUE = 1
libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Call:
    """A system call that waits for the supervisor. `thread` is the number of the calling thread."""

    key: int
    thread: int


def watch(group: str) -> int:
    """Let the calls of a group ask from now on. Return the descriptor of the supervisor.

    Raises OSError if the kernel refuses, because it is too old or itself in a sandbox.
    """
    numbers = GROUPS[group][MACHINE]
    program = [struct.pack("=HBBI", LOAD, 0, 0, 0)]  # the number of the call
    for left, number in zip(range(len(numbers), 0, -1), numbers, strict=True):
        program.append(struct.pack("=HBBI", JUMP_IF_EQUAL, left, 0, number))
    program += [struct.pack("=HBBI", RETURN, 0, 0, answer) for answer in (ALLOW, ASK)]
    code = ctypes.create_string_buffer(b"".join(program))
    described = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(code)))
    libc.prctl(SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    descriptor = libc.syscall(SECCOMP, SET_FILTER, NEW_LISTENER, described)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), f"seccomp: {os.strerror(ctypes.get_errno())}")
    return int(descriptor)


def next_call(descriptor: int) -> Call | None:
    """Return the call that waits; None if its process has ended meanwhile."""
    buffer = bytearray(80)
    try:
        fcntl.ioctl(descriptor, RECEIVE, buffer)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINTR):
            return None
        raise
    return Call(*struct.unpack_from("=QI", buffer))


def answer(descriptor: int, call: Call, error: int) -> None:
    """Let a call run, or fail with an error number that is not 0."""
    flags = 0 if error else CONTINUE
    try:
        fcntl.ioctl(descriptor, SEND, bytearray(struct.pack("=QqiI", call.key, 0, -error, flags)))
    except OSError as problem:
        if problem.errno != errno.ENOENT:  # its process has ended
            raise


def adopt_orphans() -> None:
    """Become the parent of the processes below that lose theirs, so that they can be waited for."""
    libc.prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)
