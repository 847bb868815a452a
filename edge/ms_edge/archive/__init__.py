"""Archives: millions of recordings, in directories or object stores, classified by a cluster of Ray.

`run` ties the steps together. `listing` finds the recordings and divides them into tasks, `actor` is
what every actor of Ray does with a task, `memory` keeps it small, `output` writes the rows and knows
what earlier runs have written, and `stores` opens files wherever they are. `cluster` starts Ray or
joins it, `own_process` survives its loss, and `progress` counts. Ray is imported when a function is
called. These modules may import everything in `ms_edge` except `report`, `scoring`, `live` and
`cli`. To add a column to the tables, begin with `ms_edge/output/parquet.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ms_edge.archive.run import archive as archive
    from ms_edge.archive.run import classify as classify

__all__ = ["archive", "classify"]


def __getattr__(name: str) -> Any:
    # Imported on first use: the packages of the extra `ray` may be missing.
    if name not in __all__:
        raise AttributeError(f"module 'ms_edge.archive' has no attribute {name!r}")
    from ms_edge.archive import run

    return getattr(run, name)
