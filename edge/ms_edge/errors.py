"""What can go wrong, in the user's terms: each error has a stable `code` and one sentence for a person."""

from __future__ import annotations


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
