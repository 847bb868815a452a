"""The trials of a search."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ms_train.recipes.ranges import Value


@dataclass(frozen=True)
class Trial:
    """One training of a search.

    `val_loss` is None if it failed; `metrics` are those of its run folder.
    """

    number: int  # from 1 on
    settings: dict[str, Value]
    val_loss: float | None
    metrics: dict[str, Any]

    @property
    def rank(self) -> tuple[float, int]:
        """The sort key: the smallest loss first, failed trials last."""
        return math.inf if self.val_loss is None else self.val_loss, self.number
