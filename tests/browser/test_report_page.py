"""The page of a recording, in a real browser: it opens from a file, plays, and takes corrections."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ms_edge.cli.main import main
from ms_edge.report import page as page_module

pytestmark = pytest.mark.browser


@pytest.fixture
def report(programme, tmp_path) -> Path:
    path = tmp_path / "report.html"
    assert main(["report", str(programme), "-o", str(path)]) == 0
    return path


def rows(page) -> list[list[str]]:
    """The cells of the table of segments, without the signs of the labels."""
    return page.eval_on_selector_all(
        "#segments tbody tr",
        """rows => rows.map(row => [...row.cells].map(cell => {
            const copy = cell.cloneNode(true);
            copy.querySelectorAll(".swatch").forEach(each => each.remove());
            return copy.textContent;
        }))""",
    )


def until(page, condition: str) -> None:
    """Wait for a condition. The page's policy forbids the function of playwright that does."""
    for _ in range(200):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"after ten seconds, not {condition}")


def starts_of(page) -> list[float]:
    """Return where the segments of the page start, in seconds."""
    return page.evaluate("JSON.parse(document.getElementById('data').textContent).segments.map((each) => each[0])")


def time_of(page) -> float:
    return page.evaluate("document.getElementById('audio').currentTime")


def test_page_asks_only_for_its_recording(opened, report, programme):
    page = opened(report)
    until(page, "document.getElementById('audio').readyState >= 1")
    assert set(opened.asked) == {report.as_uri(), programme.as_uri()}
    assert page.evaluate("document.getElementById('audio').duration") == pytest.approx(18, abs=0.01)
    assert [row[2] for row in rows(page)] == ["speech", "music", "speech"]
    assert page.locator("#live").is_visible()
    assert page.locator("svg.timeline").is_hidden()


def test_readable_without_javascript(opened, report):
    page = opened(report, java_script_enabled=False)
    assert page.locator("svg.timeline").is_visible()
    assert page.locator("#segments tbody tr").count() == 3
    assert page.locator("#review li").count() == 3
    assert page.locator("#tools").is_hidden()
    assert page.locator("audio").is_visible()


def test_works_without_wavesurfer(opened, programme, tmp_path, monkeypatch):
    monkeypatch.setattr(page_module, "wavesurfer", list)
    report = tmp_path / "report.html"
    assert main(["report", str(programme), "-o", str(report)]) == 0
    page = opened(report)
    assert page.locator("svg.timeline").is_visible()
    assert page.locator("#zoom").is_hidden()
    page.locator("#segments tbody tr").nth(1).click()
    for key in ("+", "0", "ArrowRight", "1"):
        page.keyboard.press(key)
    assert time_of(page) == pytest.approx(7, abs=0.3)
    assert [row[2] for row in rows(page)] == ["speech", "speech ✓ was music", "speech"]
    assert page.locator("svg.timeline .l-music.bar").count() == 0


def test_print_shows_the_corrections(opened, report):
    page = opened(report)
    picture = page.locator("svg.timeline")
    shown = picture.evaluate("picture => [...picture.querySelectorAll('.bar')].map(bar => bar.outerHTML)")
    page.locator("#segments tbody tr").nth(1).click()
    page.keyboard.press("3")
    page.emulate_media(media="print")
    assert picture.is_visible()
    assert picture.locator(".bar.l-speech-music").count() == 2  # a bar in each row
    assert picture.locator(".bar.l-music").count() == 0
    page.keyboard.press("z")
    again = picture.evaluate("picture => [...picture.querySelectorAll('.bar')].map(bar => bar.outerHTML)")
    assert sorted(again) == sorted(shown)


def test_focus_stays_in_the_table(opened, report):
    page = opened(report)
    page.locator("#segments tbody button").nth(1).focus()
    page.keyboard.press("Enter")
    page.keyboard.press("3")
    assert page.evaluate("document.activeElement.closest('tr')?.dataset.index") == "1"


def test_plays_seeks_and_follows(opened, report):
    page = opened(report)
    starts = starts_of(page)
    page.locator("#segments tbody tr").nth(1).click()
    assert time_of(page) == pytest.approx(starts[1], abs=0.05)
    assert page.locator("tr.here").get_attribute("data-index") == "1"
    began = time_of(page)
    page.keyboard.press("Space")
    until(page, f"document.getElementById('audio').currentTime > {began + 0.3}")
    page.keyboard.press("Space")
    until(page, "document.getElementById('audio').paused")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert time_of(page) == pytest.approx(starts[2], abs=0.05)
    page.keyboard.press("ArrowLeft")
    assert time_of(page) == pytest.approx(starts[2] - 1, abs=0.05)


def test_loop_returns_to_the_start_of_the_segment(opened, report):
    page = opened(report)
    page.locator("#segments tbody tr").nth(0).click()
    end = page.evaluate("JSON.parse(document.getElementById('data').textContent).segments[0][1]")
    page.keyboard.press("l")
    page.evaluate(f"document.getElementById('audio').currentTime = {end - 0.3}")
    page.keyboard.press("Space")
    until(page, "document.getElementById('audio').currentTime < 3")
    assert not page.evaluate("document.getElementById('audio').paused")


def test_click_on_the_waveform_seeks(opened, report):
    page = opened(report)
    box = page.locator("#wave").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 20)
    assert time_of(page) == pytest.approx(9, abs=0.2)
    page.keyboard.press("+")
    page.keyboard.press("+")
    page.wait_for_timeout(200)
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 20)
    assert time_of(page) == pytest.approx(9, abs=0.5)


def test_corrections_are_kept_and_downloaded(opened, report, programme, tmp_path):
    page = opened(report)
    page.locator("#segments tbody tr").nth(1).click()
    page.keyboard.press("3")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    assert [row[2] for row in rows(page)] == ["speech ✓", "speech+music ✓ was music", "speech"]
    page.reload()
    assert [row[2] for row in rows(page)] == ["speech ✓", "speech+music ✓ was music", "speech"]
    assert "2 segments reviewed" in page.locator("#status").inner_text()
    with page.expect_download() as download:
        page.click("#csv")
    assert download.value.suggested_filename == "programme.wav.corrections.csv"
    download.value.save_as(tmp_path / "got.csv")
    with (tmp_path / "got.csv").open(newline="", encoding="utf-8") as file:
        got = list(csv.DictReader(file))
    assert list(got[0]) == ["path", "start_s", "end_s", "label", "label_before"]
    assert [(each["path"], each["label"], each["label_before"]) for each in got] == [
        (str(programme), "speech", "speech"),
        (str(programme), "speech+music", "music"),
    ]
    assert float(got[0]["start_s"]) == 0
    assert got[0]["end_s"] == got[1]["start_s"]
    with page.expect_download() as download:
        page.click("#audacity")
    download.value.save_as(tmp_path / "labels.txt")
    lines = (tmp_path / "labels.txt").read_text("utf-8").splitlines()
    assert [line.split("\t")[2] for line in lines] == ["speech", "speech+music", "speech"]


def test_split_join_trim_and_undo(opened, report):
    page = opened(report)
    original = rows(page)
    page.locator("#segments tbody tr").nth(0).click()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("s")
    assert [row[0] for row in rows(page)[:2]] == ["0.000", "3.000"]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("[")
    assert [row[:2] for row in rows(page)[:2]] == [["0.000", "4.000"], ["4.000", original[0][1]]]
    page.keyboard.press("ArrowUp")
    page.keyboard.press("j")
    assert [row[:2] for row in rows(page)] == [row[:2] for row in original]
    for _ in range(3):
        page.keyboard.press("z")
    assert rows(page) == original


def test_drag_selects_a_stretch_for_a_label(opened, report):
    page = opened(report)
    page.locator("#segments tbody tr").nth(0).click()  # a part of the selected segment can be dragged, too
    box = page.locator("#wave").bounding_box()
    second = box["width"] / 18
    page.mouse.move(box["x"] + 2 * second, box["y"] + 30)
    page.mouse.down()
    page.mouse.move(box["x"] + 3 * second, box["y"] + 30, steps=4)
    page.mouse.move(box["x"] + 4 * second, box["y"] + 30, steps=4)
    page.mouse.up()
    assert re.match(r"[12]\.\d+ to [34]\.\d+ is selected", page.locator("#status").inner_text())
    page.click("#choices button[data-label='other']")
    assert [row[2] for row in rows(page)][:3] == ["speech", "other ✓ was speech", "speech"]
    start, end = (float(each) for each in rows(page)[1][:2])
    assert start == pytest.approx(2, abs=0.2)
    assert end == pytest.approx(4, abs=0.2)


def test_dragging_an_end_moves_the_border(opened, report):
    page = opened(report)
    border = float(rows(page)[0][1])
    page.locator("#segments tbody tr").nth(0).click()
    box = page.locator("#wave").bounding_box()
    second = box["width"] / 18
    page.mouse.move(box["x"] + border * second - 1, box["y"] + 30)
    page.mouse.down()
    page.mouse.move(box["x"] + (border - 1) * second, box["y"] + 30, steps=8)
    page.mouse.up()
    moved = rows(page)
    assert float(moved[0][1]) == pytest.approx(border - 1, abs=0.2)
    assert moved[0][1] == moved[1][0]
    assert [row[2] for row in moved] == ["speech ✓", "music", "speech"]


def test_embedded_recording_plays_without_its_file(opened, programme, tmp_path):
    copy = tmp_path / "copy.wav"
    copy.write_bytes(programme.read_bytes())
    report = tmp_path / "report.html"
    assert main(["report", str(copy), "-o", str(report), "--embed"]) == 0
    copy.unlink()
    page = opened(report)
    until(page, "document.getElementById('audio').readyState >= 1")
    assert [url for url in opened.asked if url.startswith("file:")] == [report.as_uri()]
    page.keyboard.press("Space")
    until(page, "document.getElementById('audio').currentTime > 0.2")


def test_missing_recording_is_said(opened, programme, tmp_path):
    copy = tmp_path / "copy.wav"
    copy.write_bytes(programme.read_bytes())
    report = tmp_path / "report.html"
    assert main(["report", str(copy), "-o", str(report)]) == 0
    copy.unlink()
    page = opened(report)
    page.wait_for_selector("#trouble:not([hidden])")
    opened.problems.clear()  # the browser says that the file is not there
    page.locator("#segments tbody tr").nth(1).click()
    page.keyboard.press("2")
    assert [row[2] for row in rows(page)] == ["speech", "music ✓", "speech"]


HOSTILE = "</script><img src=x onerror=alert(1)>\"'&amp;${1}=.wav"


def test_hostile_file_name_is_only_text(opened, programme, tmp_path):
    (tmp_path / "audio").mkdir()
    recording = tmp_path / "audio" / HOSTILE.replace("/", "\N{DIVISION SLASH}")
    recording.write_bytes(programme.read_bytes())
    assert main(["report", f"{tmp_path}/audio", "-o", f"{tmp_path}/out/"]) == 0
    index = opened(tmp_path / "out" / "index.html")
    assert recording.name in index.locator("tbody a").inner_text()
    index.locator("tbody a").click()
    until(index, "document.getElementById('audio')?.readyState >= 1")
    assert index.locator("h1").inner_text() == recording.name
    assert index.locator("img").count() == 0
    index.locator("#segments tbody tr").nth(1).click()
    index.keyboard.press("Enter")
    with index.expect_download() as download:
        index.click("#csv")
    download.value.save_as(tmp_path / "got.csv")
    with (tmp_path / "got.csv").open(newline="", encoding="utf-8") as file:
        assert [each["path"] for each in csv.DictReader(file)] == [str(recording)]


def test_formulas_get_an_apostrophe_in_csv(opened, programme, tmp_path, monkeypatch):
    """As in CSV of `ms-edge classify`: spreadsheets would run them."""
    monkeypatch.chdir(tmp_path)
    Path("=1+1,2.wav").write_bytes(programme.read_bytes())
    assert main(["report", "=1+1,2.wav", "-o", "report.html"]) == 0
    page = opened(tmp_path / "report.html")
    page.locator("#segments tbody tr").nth(1).click()
    page.keyboard.press("Enter")
    with page.expect_download() as download:
        page.click("#csv")
    download.value.save_as("got.csv")
    assert Path("got.csv").read_text("utf-8").splitlines()[1].startswith('"\'=1+1,2.wav",')


def test_level_of_the_music_has_a_curve_and_a_column(opened, programme, tmp_path):
    samples, rate_hz = soundfile.read(programme)
    both = samples[: 6 * rate_hz] + 0.5 * samples[6 * rate_hz : 12 * rate_hz]
    soundfile.write(tmp_path / "both.wav", np.concatenate([samples[: 6 * rate_hz], both]), rate_hz)
    path = tmp_path / "both.html"
    assert main(["report", "--model", "music-speech-level", str(tmp_path / "both.wav"), "-o", str(path)]) == 0
    page = opened(path)
    (*_, (_, _, label, _, level)) = rows(page)
    assert label == "speech+music"
    assert re.fullmatch(r"[+-]\d+ dB \([+-]\d+ to [+-]\d+\)", level)
    assert page.locator(".names .levels").inner_text() == "music level"
    height = "document.getElementById('canvas').clientHeight"
    assert page.evaluate(height) == 2 * (22 + 4) + (64 + 4) + (56 + 4) + 20
    page.locator("#segments tbody tr").last.click()
    page.keyboard.press("1")  # another label has no level
    assert rows(page)[-1][2:] == ["speech ✓ was speech+music", "by hand", ""]
