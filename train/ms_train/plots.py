"""Pictures of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path


def curves(history: Mapping[str, Sequence[float]], path: Path, title: str) -> None:
    """Loss and accuracy by epoch, training and validation, as a PNG."""
    from matplotlib.figure import Figure  # not pyplot: no state, no display

    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for key, label in ((name, "training"), (f"val_{name}", "validation")):
            axes.plot(
                range(1, len(history[key]) + 1),
                history[key],
                label=label,
                marker="." if len(history[key]) < 20 else None,
            )
        axes.set_xlabel("epoch")
        axes.set_ylabel(name)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(title)
    figure.savefig(path, dpi=120)
