"""Pages fit narrow and wide windows, and can be read in light and dark. Pictures go to build/screenshots."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from looks import require_readable

from ms_edge.cli.main import main

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def folder(programme, tmp_path_factory) -> Path:
    """Pages of the programme with noise and silence after it, and of a file that is no audio."""
    folder = tmp_path_factory.mktemp("looks")
    samples, rate = soundfile.read(programme)
    noise = np.random.default_rng(0).normal(0, 0.05, 4 * rate)
    mixed = samples[: 6 * rate] + 0.5 * samples[6 * rate : 12 * rate]
    soundfile.write(folder / "programme.wav", np.concatenate([samples, mixed, noise, np.zeros(3 * rate)]), rate)
    (folder / "notes.wav").write_text("no audio")
    main(["report", "-q", str(folder), "-o", f"{folder}/out/"])
    return folder


@pytest.mark.parametrize("width", [400, 1600])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["index", "page", "page-without-javascript"])
def test_fits_and_can_be_read(opened, folder, name, scheme, width):
    (path,) = (folder / "out").rglob("index.html" if name == "index" else "programme.wav.html")
    page = opened(
        path,
        viewport={"width": width, "height": 900},
        color_scheme=scheme,
        java_script_enabled=not name.endswith("javascript"),
    )
    if name == "page":
        page.locator("#segments tbody tr").nth(2).click()
        page.keyboard.press("3")
        page.wait_for_timeout(200)
    require_readable(page, f"{name}-{scheme}-{width}", contrast=not name.endswith("javascript"))
