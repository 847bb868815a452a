"""What makes a page readable: text with contrast, and nothing wider than the window."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page

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


def require_readable(page: Page, name: str, *, contrast: bool = True) -> None:
    """Take a picture of a page, and require contrast (which needs JavaScript) and that it fits its window."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}.png", full_page=True)
    if contrast:
        assert page.evaluate(f"({FAINT})({LEAST_CONTRAST})") == []
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
