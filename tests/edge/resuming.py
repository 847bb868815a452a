"""Run `ms-edge classify` in this process, and see which recordings it classifies."""

from __future__ import annotations

import pytest

from ms_edge.classifier import Classifier
from ms_edge.cli import main as cli


def classified(*arguments: str) -> tuple[int, list[str]]:
    """Run `ms-edge classify -j 1`. Return the exit status and the paths that were classified."""
    paths, analyses = [], Classifier._analyses

    def recorded(self, source, *others):
        paths.append(source)
        return analyses(self, source, *others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Classifier, "_analyses", recorded)
        status = cli.main(["classify", "-j", "1", *arguments])
    return status, paths
