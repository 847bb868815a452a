"""What all tests share: where the sample recordings are."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SAMPLES = sorted((ROOT / "tests" / "data").glob("*.wav"))


@pytest.fixture(scope="session")
def samples() -> list[Path]:
    """The sample recordings, speech and music; their names begin with their label."""
    assert len(SAMPLES) >= 8
    return SAMPLES
