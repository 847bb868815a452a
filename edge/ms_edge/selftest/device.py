"""What `doctor` and `benchmark` have in common: the result of a device that cannot be used."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from ms_edge.errors import MsEdgeError


class DeviceResult(Protocol):
    """The result of one device."""

    @property
    def device(self) -> str:
        """The name of the device."""

    @property
    def ok(self) -> bool:
        """False if the device cannot be used or an answer is wrong."""


@dataclass(frozen=True)
class Problem:
    """An error's code and sentence."""

    code: str
    message: str


@dataclass(frozen=True)
class Unusable:
    """A device that cannot be used, or that cannot run the model."""

    device: str
    ok: bool
    error: Problem

    @classmethod
    def of(cls, device: str, error: MsEdgeError) -> Unusable:
        """Make the result for a device from the error that it raised."""
        return cls(device, False, Problem(error.code, error.message))


def all_ok(results: Iterable[DeviceResult], asked: str) -> bool:
    """Return whether all devices are right.

    A device may be unusable, unless it is the CPU or the device that the user asked for.
    """
    return all(found.ok or (isinstance(found, Unusable) and found.device not in (asked, "cpu")) for found in results)
