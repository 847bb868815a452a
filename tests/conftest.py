"""What all tests share: where the sample recordings are."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# Machines differ and are busy: what has to end in time says so itself.
settings.register_profile("ms-edge", deadline=None)
settings.register_profile("nightly", deadline=None, max_examples=100 * settings.default.max_examples)
settings.load_profile("ms-edge")

ROOT = Path(__file__).parent.parent
SAMPLES = sorted((ROOT / "tests" / "data").glob("*.wav"))


def pytest_addoption(parser):
    parser.addoption(
        "--everything",
        action="store_true",
        help="the whole parity grid, not each pair of its values once; cut files of all formats, not of two for each "
        "container; 500 hours of streamed audio, not 8",
    )


@pytest.fixture(scope="session")
def everything(request) -> bool:
    """Whether everything was asked for (`make parity`, `make endurance`)."""
    return request.config.getoption("--everything")


@pytest.fixture(scope="session", autouse=True)
def _cache_of_its_own(tmp_path_factory):
    """What training keeps between runs is not kept between tests of it, nor in the tester's home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def samples() -> list[Path]:
    """The sample recordings, speech and music; their names begin with their label."""
    assert len(SAMPLES) >= 8
    return SAMPLES


@pytest.fixture(scope="session")
def copy_by_label(samples):
    """A function that copies the sample recordings into a folder, a sub-folder for each label, and returns the folder."""

    def copy(root: Path) -> Path:
        for path in samples:
            folder = root / path.name.partition("_")[0]
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder)
        return root

    return copy


@pytest.fixture(scope="session")
def leave_out_pictures() -> Callable[[pytest.MonkeyPatch], None]:
    """A function that lets pictures be composed but not rendered, which takes a third of a second each: files are empty."""

    def leave_out(patch: pytest.MonkeyPatch) -> None:
        from matplotlib.figure import Figure

        patch.setattr(Figure, "savefig", lambda self, path, **options: Path(path).write_bytes(b""))

    return leave_out


@pytest.fixture
def no_pictures(leave_out_pictures, monkeypatch):
    """Render no picture in one test."""
    leave_out_pictures(monkeypatch)


@pytest.fixture(scope="session")
def few_rooms():
    """Two booths of each split, from few rays: the hundred rooms that a training simulates take minutes."""
    from ms_train.augment import rooms

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rooms, "ROOMS", dict.fromkeys(rooms.ROOMS, 2))
        patch.setattr(rooms, "RAYS", 300)
        patch.setattr(rooms, "KINDS", dict.fromkeys(rooms.KINDS, rooms.KINDS["booth"]))
        yield
