"""The error of the export commands: it has a code of `ms_edge.errors.ERROR_CODES` and one sentence
for a person.
"""

from __future__ import annotations

from ms_edge.errors import MsEdgeError


class ExportError(MsEdgeError):
    """A network cannot be converted to a model file, or the file does not give the network's
    answers.
    """
