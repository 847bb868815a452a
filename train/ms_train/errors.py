"""The errors of the training commands: each has a code of `ms_edge.errors.ERROR_CODES` and one
sentence for a person.
"""

from __future__ import annotations

from ms_edge.errors import MsEdgeError


class DataError(MsEdgeError):
    """A dataset, a recording list or a corpus cannot be read, fetched or used."""


class RunError(MsEdgeError):
    """A run folder, its network or what a training writes cannot be used."""
