"""The index of ten thousand recordings: sorted and filtered without delay, whatever they are called."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from ms_edge.report.index import Row, index_page

pytestmark = pytest.mark.browser

LABELS = ("speech", "music", "speech+music", "other", "silence")


def write_index(path: Path, count: int) -> Path:
    chance = random.Random(0)
    rows = []
    for number in range(count):
        name, label = f"archive/{number % 37:02}/recording <b>{number:05}</b>.wav", LABELS[number % 5]
        if number % 1000 == 999:
            rows.append(Row(name, notes="not audio."))
            continue
        seconds = {label: 60.0 + number, "silence" if label != "silence" else "other": 5.0}
        total = sum(seconds.values())
        rows.append(Row(name, f"pages/{number}.html", label, chance.random(), total, seconds, chance.random()))
    path.write_text(index_page(rows), "utf-8")
    return path


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> Path:
    return write_index(tmp_path_factory.mktemp("index") / "index.html", 10_000)


def column(page, number: int) -> list[str]:
    return page.eval_on_selector_all(
        "#recordings tbody tr:not(.space)", f"rows => rows.map(row => row.cells[{number}].textContent)"
    )


def test_few_rows_are_in_the_document_at_once(opened, index):
    page = opened(index)
    assert 20 < len(column(page, 0)) < 120
    assert column(page, 0)[0] == "00/recording <b>00000</b>.wav"
    page.evaluate("document.getElementById('scroll').scrollTop = 1e9")
    page.wait_for_timeout(300)
    assert column(page, 0)[-1].endswith("<b>09999</b>.wav")
    assert 20 < len(column(page, 0)) < 120
    assert page.locator("b").count() == 0


def test_sorts_by_each_column(opened, index):
    page = opened(index)
    page.click("#recordings th:has-text('Duration') button")
    assert column(page, 0)[0].endswith("00999</b>.wav")  # a failure has none
    page.click("#recordings th:has-text('Duration') button")
    assert page.locator("#recordings th[aria-sort='descending']").inner_text().startswith("Duration")
    assert column(page, 0)[0].endswith("09998</b>.wav")
    page.click("#recordings th:has-text('Least sure') button")
    sure = [int(each.rstrip("%")) for each in column(page, 5) if each]
    assert sure == sorted(sure)


def test_filters_by_words_and_label(opened, index):
    page = opened(index)
    page.fill("#text", "07/ <B>0")
    page.select_option("#label", "music")
    assert page.locator("#count").inner_text().endswith("of 10,000")
    assert set(column(page, 1)) == {"Mmusic"}
    assert all(each.startswith("07/") for each in column(page, 0))
    page.fill("#text", "not audio")
    page.select_option("#label", "error")
    assert len(column(page, 0)) == 10


def test_complete_without_javascript_and_in_print(opened, tmp_path):
    path = write_index(tmp_path / "index.html", 500)
    page = opened(path, java_script_enabled=False)
    assert page.locator("noscript tbody tr").count() == 500
    page = opened(path)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("#recordings tbody tr:not(.space)").count() == 500
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("#recordings tbody tr:not(.space)").count() < 120
