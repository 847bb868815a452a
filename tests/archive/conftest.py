"""One small cluster of Ray for the tests of a module: starting it takes seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ms_edge.archive.cluster import joined


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray = joined(None, verbose=False)
    yield
    ray.shutdown()
