"""Pages fit narrow and wide windows, and can be read in light and dark. Pictures go to build/screenshots."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from ms_edge.cli.main import main

pytestmark = pytest.mark.browser

PICTURES = Path(__file__).parent.parent.parent / "build" / "screenshots"
LEAST_CONTRAST = 4.5  # WCAG 2.2, 1.4.3
# The contrast of each text with the nearest background below it, as WCAG defines it.
FAINT = r"""least => {
    const numbers = colour => colour.match(/[\d.]+/g).map(Number);
    const light = colour => numbers(colour).slice(0, 3).map(value => value / 255)
        .map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
        .reduce((sum, value, place) => sum + value * [0.2126, 0.7152, 0.0722][place], 0);
    const ground = element => {
        for (let at = element; at; at = at.parentElement) {
            const colour = getComputedStyle(at).backgroundColor;
            if (numbers(colour).length < 4 || numbers(colour)[3] === 1) return colour;
        }
    };
    const faint = [];
    for (const element of document.body.querySelectorAll("*")) {
        const text = [...element.childNodes].some(each => each.nodeType === 3 && each.data.trim());
        if (!text || !element.checkVisibility() || ["SCRIPT", "OPTION"].includes(element.tagName)) continue;
        const style = getComputedStyle(element);
        const colour = element instanceof SVGElement ? style.fill : style.color;
        const [low, high] = [light(colour), light(ground(element))].sort((a, b) => a - b);
        const contrast = (high + 0.05) / (low + 0.05);
        if (contrast < least) faint.push(`${element.tagName} ${element.textContent.slice(0, 30)}: ${contrast.toFixed(2)}`);
    }
    return faint;
}"""


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
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}-{scheme}-{width}.png", full_page=True)
    if not name.endswith("javascript"):
        assert page.evaluate(f"({FAINT})({LEAST_CONTRAST})") == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
