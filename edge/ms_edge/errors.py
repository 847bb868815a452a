"""What can go wrong, in the user's terms: each error has a stable `code` and one sentence for a person."""

from __future__ import annotations

import errno


class MsEdgeError(Exception):
    """Something ms-edge can name went wrong; `code` is stable, the message says what to do."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return self.message


class UsageError(MsEdgeError):
    """The command or call was given arguments that do not fit together."""


class AudioError(MsEdgeError):
    """An audio input cannot be read or used."""


class ModelError(MsEdgeError):
    """A model file cannot be read, trusted or run."""


class DeviceError(MsEdgeError):
    """The device or the software asked for is not to be had on this machine."""


def resource_error(error: BaseException) -> DeviceError | None:
    """Return the DeviceError for a process that lacks memory, open files or a library; None for any other error."""
    if isinstance(error, MemoryError):
        lack = "not enough memory; allow this process more (ulimit -v), or work on fewer files at once (-j 1)."
    elif isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        reason = (error.strerror or str(error)).lower()
        lack = f"{reason}; allow this process more (ulimit -a shows its limits), or work on fewer files at once (-j 1)."
    elif isinstance(error, ImportError) or (type(error) is OSError and error.errno is None):  # the second: cffi's
        # The cause says it in a line where NumPy gives advice on a page.
        reason = str(error.__cause__ or error).strip().partition("\n")[0][:200].rstrip(".")
        lack = f"a library cannot be loaded ({reason})."
    else:
        return None
    return DeviceError("no-resources", lack)
