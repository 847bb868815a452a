"""The page of the documentation site that classifies: as ms-edge does, on the reader's computer alone."""

from __future__ import annotations

import base64
import csv
import hashlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from looks import require_readable
from playwright.sync_api import Page
from watched import watched

from ms_edge.classifier import Classifier
from ms_edge.model.metadata import Decision
from ms_edge.model.session import WAVEFORM_NAME, Model
from ms_edge.report.sound import Peaks
from ms_edge.timeline import segments

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parent.parent.parent
SITE = ROOT / "build" / "docs-site"
RATE = 16_000
# Keeps what the worker tells the page.
LISTEN = """{
    const Plain = Worker;
    window.told = [];
    window.Worker = class extends Plain {
        constructor(...given) { super(...given); this.addEventListener("message", (event) => told.push(event.data)); }
    };
}"""
FOUND = """() => {
    const found = told.findLast((each) => each.label);
    return found && { ...found, windows: [...found.windows], peaks: [...found.peaks] };
}"""


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """The address of the documentation site, which is built first."""
    command = [sys.executable, "-m", "sphinx", "--quiet", "docs", str(SITE)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=300)
    handler = partial(Quiet, directory=str(SITE))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:  # as `python -m http.server` does
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    """Writes no log, and notes the hosts by which it is asked."""

    hosts: set[str | None] = set()  # noqa: RUF012

    def log_message(self, format: str, *args: Any) -> None:
        """Note the host."""
        self.hosts.add(self.headers.get("Host"))


def loaded(opened: Any, site: str, **options: Any) -> Page:
    """Return the page when its model is loaded."""
    page = opened(f"{site}/try.html", LISTEN, **options)
    page.wait_for_selector("#loading:has-text('is loaded')")
    return page


@pytest.fixture(scope="module")
def shared(chromium, site) -> Iterator[Page]:
    """A page that several tests use, since loading the model takes a second or more."""
    with watched(chromium) as opened:
        yield loaded(opened, site)


@pytest.fixture
def trial(opened, site):
    """A function that opens the page and waits until its model is loaded."""
    return partial(loaded, opened, site)


@pytest.fixture(scope="module")
def varied(programme) -> np.ndarray:
    """The programme, then speech over music, noise and silence, an odd number of samples at 16 kHz."""
    samples, _ = soundfile.read(programme, dtype="float32")
    mixed = samples[: 6 * RATE] + 0.5 * samples[6 * RATE : 12 * RATE]
    noise = np.random.default_rng(0).normal(0, 0.05, 4 * RATE)
    return np.concatenate([samples, mixed, noise, np.zeros(3 * RATE), samples[:33_333]]).astype(np.float32)


def classified(page: Page, recording: Path) -> dict[str, Any]:
    """Return what the page finds in a recording."""
    page.evaluate("told.length = 0")
    page.set_input_files("#file", recording)
    page.wait_for_selector("#work", state="hidden")
    assert page.locator("#failure").is_hidden(), page.locator("#failure").inner_text()
    return page.evaluate(FOUND)


def refusal(page: Page, recording: Path) -> str:
    """Return the sentence by which the page refuses a recording."""
    page.set_input_files("#file", recording)
    page.wait_for_selector("#failure:not([hidden])")
    assert page.locator("#work").is_hidden()
    return page.locator("#failure").inner_text()


KINDS = ("PCM_16", "PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "stereo", "WAVEX", "short", "silence", "one window")


@pytest.mark.parametrize("kind", KINDS)
def test_scores_of_16_khz_wav_equal_ms_edge(shared, varied, tmp_path, kind):
    changed = {
        "short": varied[:5_000],
        "silence": np.zeros(2 * RATE, np.float32),
        "one window": varied[:RATE],
        "stereo": np.stack([varied, varied[::-1]], axis=1),
    }
    path = tmp_path / "a.wav"
    options = {"subtype": kind} if "_" in kind or kind in ("FLOAT", "DOUBLE") else {"subtype": "PCM_16"}
    soundfile.write(path, changed.get(kind, varied), RATE, format="WAVEX" if kind == "WAVEX" else "WAV", **options)
    peaks = Peaks(RATE)
    expected, windows = Classifier().analyse(path, on_samples=peaks.add)
    found = classified(shared, path)
    assert found["windows"] == pytest.approx(windows.scores.ravel().tolist(), abs=1e-4)
    assert found["peaks"] == pytest.approx(peaks.values().tolist(), abs=1)
    assert found["scores"] == pytest.approx(expected.scores, abs=1e-4)
    assert found["label"] == expected.label
    assert found["seconds"] == expected.seconds
    assert found["duration"] == expected.duration_s
    assert [(each["label"], each["start"], each["end"]) for each in found["segments"]] == [
        (each.label, each.start_s, each.end_s) for each in expected.segments
    ]
    for mine, theirs in zip(found["segments"], expected.segments, strict=True):
        assert mine["scores"] == pytest.approx(theirs.scores, abs=1e-4)
        assert mine["probability"] == pytest.approx(theirs.probability, abs=1e-4)


@pytest.mark.parametrize("kind", ["odd chunk", "size 0", "size of a pipe", "NaN"])
def test_unusual_wav_is_read_as_by_ms_edge(shared, varied, tmp_path, kind):
    samples, path = varied[: 9 * RATE + 1].copy(), tmp_path / "a.wav"
    if kind == "NaN":
        samples[1_000 : 2 * RATE] = np.nan
        samples[5 * RATE] = np.inf
    soundfile.write(path, samples, RATE, subtype="FLOAT" if kind == "NaN" else "PCM_16")
    wav = path.read_bytes()
    at = wav.index(b"data")
    chunk = b"LIST" + (3).to_bytes(4, "little") + b"abc\0"  # a byte that its size does not count follows
    size = {"size 0": bytes(4), "size of a pipe": b"\xff" * 4}.get(kind, wav[at + 4 : at + 8])
    path.write_bytes(wav[:at] + chunk * (kind == "odd chunk") + b"data" + size + wav[at + 8 :])
    expected, windows = Classifier().analyse(path)
    found = classified(shared, path)
    assert found["windows"] == pytest.approx(windows.scores.ravel().tolist(), abs=1e-4)
    assert found["duration"] == expected.duration_s == pytest.approx(9, abs=0.001)
    assert "by this page" in shared.locator("dl").text_content()
    assert shared.locator("#cut").is_hidden()


@pytest.mark.parametrize(("rate", "taken"), [(3_999, False), (4_000, True), (384_000, True), (384_001, False)])
def test_page_reads_wav_at_plausible_rates_only(shared, site, programme, rate, taken):
    """One sample at 1 Hz would become 16,000 at the rate of the model."""
    wav = bytearray(programme.read_bytes()[:1_000])
    wav[24:28] = rate.to_bytes(4, "little")
    found = shared.evaluate(
        """async ([address, bytes]) => {
            const { openWav } = await import(address);
            return (await openWav(new Blob([Uint8Array.from(bytes)])))?.rate ?? null;
        }""",
        [f"{site}/_static/try/wav.mjs", list(wav)],
    )
    assert found == (rate if taken else None)


@pytest.mark.parametrize("kind", ["44100.wav", "48000.wav", "44100.mp3", "48000.ogg", "44100.flac"])
def test_browser_decodes_to_the_same_labels(shared, varied, tmp_path, kind):
    rate, path = int(kind.partition(".")[0]), tmp_path / kind
    samples = soxr.resample(varied, RATE, rate)
    with soundfile.SoundFile(path, "w", rate, 2) as file:
        for at in range(0, len(samples), rate):
            file.write(np.stack([samples[at : at + rate], 0.7 * samples[at : at + rate]], axis=1))
    expected, found = Classifier().classify(path), classified(shared, path)
    assert found["label"] == expected.label
    assert found["scores"] == pytest.approx(expected.scores, abs=0.05)
    assert [each["label"] for each in found["segments"]] == [each.label for each in expected.segments]
    for mine, theirs in zip(found["segments"], expected.segments, strict=True):
        assert mine["scores"] == pytest.approx(theirs.scores, abs=0.05)
        assert mine["end"] == pytest.approx(theirs.end_s, abs=0.2)


DECISIONS = (Decision("independent", (0.5, 0.5)), Decision("independent", (0.3, 0.8)), Decision("exclusive", ()))


@pytest.mark.parametrize("decision", DECISIONS, ids=str)
@pytest.mark.parametrize("minimum_s", [0, 1, 2.5])
def test_same_scores_give_the_same_segments(shared, site, varied, decision, minimum_s):
    """Of the programme, and of thirty recordings whose scores wander at random."""
    chance = np.random.default_rng(1)
    steps = chance.normal(0, 1, (30, 300, 2)).cumsum(axis=1) + chance.normal(0, 1, (30, 300, 2))
    drawn = [(1 / (1 + np.exp(-each)), chance.random(300) < 0.1) for each in steps]
    _, windows = Classifier().analyse(varied, RATE)
    cases = []
    for scores, silent in [(windows.scores, windows.silent), *drawn]:
        silent = np.convolve(silent, np.ones(9), "same") > 2 if len(silent) == 300 else silent
        borders = np.concatenate(([0.0], np.round(np.cumsum(np.full(len(scores), 0.16)), 3)))
        cases.append((scores.astype(np.float32), silent, borders))
    page = shared
    rules = page.evaluate("JSON.parse(document.getElementById('data').textContent)")
    rules |= {"min_segment_s": minimum_s, "decision": {"kind": decision.kind, "thresholds": decision.thresholds}}
    given = [[scores.ravel().tolist(), silent.tolist(), borders.tolist()] for scores, silent, borders in cases]
    got = page.evaluate(
        """async ([address, cases, rules]) => {
            const { segments } = await import(address);
            return cases.map(([scores, silent, borders]) => segments(Float32Array.from(scores), silent, borders, rules));
        }""",
        [f"{site}/_static/try/timeline.mjs", given, rules],
    )
    for mine, (scores, silent, borders) in zip(got, cases, strict=True):
        theirs = segments(scores, silent, borders, tuple(rules["labels"]), decision, minimum_s)
        assert [(each["start"], each["end"], each["label"]) for each in mine] == [
            (each.start_s, each.end_s, each.label) for each in theirs
        ]
        for one, other in zip(mine, theirs, strict=True):
            assert one["scores"] == pytest.approx(other.scores, abs=1e-9)
            assert one["probability"] == pytest.approx(other.probability, abs=1e-9)


def test_site_has_the_model_of_the_package(site):
    """Its scores are compared with those of the bundled model in tests/export/test_bundled.py."""
    served = (SITE / "_static" / "try" / "music-speech-waveform.onnx").read_bytes()
    assert hashlib.sha256(served).hexdigest() == Model.load(WAVEFORM_NAME).sha256


def test_nothing_leaves_the_page(trial, opened, site, programme):
    """Neither page nor worker can reach another host, even one that would answer."""
    page = trial()
    other = site.replace("127.0.0.1", "localhost")
    Quiet.hosts.clear()
    send = f"fetch('{other}/index.html', {{mode: 'no-cors'}}).then(() => 'sent', (error) => String(error))"
    assert "Failed to fetch" in page.evaluate(send)
    assert "Failed to fetch" in page.workers[0].evaluate(send)
    assert all("Content Security Policy" in each for each in opened.problems)
    opened.problems.clear()
    opened.asked[:] = [each for each in opened.asked if not each.startswith(other)]  # refused before they were sent
    classified(page, programme)
    assert f"localhost:{site.rpartition(':')[2]}" not in Quiet.hosts
    assert all(each.startswith((f"{site}/", "blob:")) for each in opened.asked)


def test_works_without_network_once_loaded(trial, programme, varied, tmp_path):
    soundfile.write(tmp_path / "a.flac", varied, RATE)
    page = trial()
    page.context.set_offline(True)
    assert classified(page, programme)["label"] == "speech"
    assert len(classified(page, tmp_path / "a.flac")["segments"]) > 3


def test_page_shows_plays_and_corrects(trial, programme, tmp_path):
    page = trial()
    found = classified(page, programme)
    assert page.locator("#heading").inner_text() == "programme.wav"
    assert page.evaluate("document.activeElement.id") == "heading"
    assert "speech" in page.locator("#summary").inner_text()
    assert page.locator("#live").is_visible()
    labels = page.locator("#segments tbody td:nth-child(3)")
    assert [text.rpartition("\n")[2].removeprefix(text[0]) for text in labels.all_inner_texts()] == [
        each["label"] for each in found["segments"]
    ]
    page.locator("#segments tbody tr").nth(1).click()
    page.keyboard.press("Space")
    page.wait_for_timeout(500)
    page.keyboard.press("Space")
    assert page.evaluate("document.getElementById('audio').currentTime") > found["segments"][1]["start"]
    page.keyboard.press("3")
    with page.expect_download() as download:
        page.click("#csv")
    download.value.save_as(tmp_path / "got.csv")
    with (tmp_path / "got.csv").open(newline="", encoding="utf-8") as file:
        assert [(each["path"], each["label"]) for each in csv.DictReader(file)] == [("programme.wav", "speech+music")]


def test_next_recording_replaces_the_one_before(shared, programme, tmp_path):
    (tmp_path / "second.wav").write_bytes(programme.read_bytes())
    page = shared
    classified(page, programme)
    classified(page, tmp_path / "second.wav")
    assert page.locator("#heading").all_inner_texts() == ["second.wav"]
    page.locator("#segments tbody tr").nth(1).click()
    page.keyboard.press("s")  # at its start nothing can be split
    page.keyboard.press("ArrowRight")
    page.keyboard.press("s")
    assert page.locator("#segments tbody tr").count() == 4  # one split: the keys of the first page are gone


def test_keyboard_and_drop_choose_a_recording(trial, programme):
    page = trial()
    page.on("filechooser", lambda chooser: chooser.set_files(programme))
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "choose"
    page.keyboard.press("Enter")
    page.wait_for_selector("#heading")
    page.evaluate(
        """text => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([Uint8Array.from(atob(text), (each) => each.charCodeAt(0))], "dropped.wav"));
            document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true }));
        }""",
        base64.b64encode(programme.read_bytes()).decode(),
    )
    page.wait_for_selector("#heading:has-text('dropped.wav')")
    assert "dropped.wav is speech" in page.locator("#told").inner_text()


def test_cancel_ends_the_work(trial, programme, varied, tmp_path):
    soundfile.write(tmp_path / "long.wav", np.tile(varied, 100), RATE)
    page = trial()
    page.set_input_files("#file", tmp_path / "long.wav")
    page.wait_for_selector("#share[value]")
    assert page.locator("#told").inner_text() == "Classifying long.wav …"
    page.click("#cancel")
    assert page.locator("#told").inner_text() == "Cancelled."
    classified(page, programme)
    page.wait_for_timeout(300)
    assert page.locator("#heading").inner_text() == "programme.wav"
    assert [each["number"] for each in page.evaluate("told.filter((each) => each.label)")] == [3]


def test_incomplete_wav_is_said(shared, programme, tmp_path):
    (tmp_path / "cut.wav").write_bytes(programme.read_bytes()[:-50_000])
    expected = Classifier().classify(tmp_path / "cut.wav")
    assert classified(shared, tmp_path / "cut.wav")["duration"] == expected.duration_s
    assert shared.locator("#cut").is_visible()
    classified(shared, programme)
    assert shared.locator("#cut").is_hidden()


HOSTILE = "</script><img src=x onerror=alert(1)>\"'&amp;${1}=.wav".replace("/", "\N{DIVISION SLASH}")


def test_hostile_file_name_is_only_text(shared, programme, tmp_path):
    (tmp_path / HOSTILE).write_bytes(programme.read_bytes())
    page = shared
    classified(page, tmp_path / HOSTILE)
    assert page.locator("#heading").inner_text() == HOSTILE
    assert HOSTILE in page.locator("#told").inner_text()
    (tmp_path / HOSTILE).write_text("broken")
    assert HOSTILE in refusal(page, tmp_path / HOSTILE)
    assert page.locator("img").count() == 0


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("empty", "this browser cannot decode it"),
        ("text", "this browser cannot decode it"),
        ("header", "this browser cannot decode it"),
        ("mp3", "this browser cannot decode it"),
        ("no samples", "0.000 s of audio; at least 0.25 s are needed"),
        ("200 ms", "0.200 s of audio; at least 0.25 s are needed"),
    ],
)
def test_broken_files_get_a_sentence(shared, programme, tmp_path, kind, sentence):
    wav = programme.read_bytes()
    broken = {
        "empty": b"",
        "text": b"no audio at all\n" * 99,
        "header": wav[:30],
        "mp3": b"ID3" + np.random.default_rng(0).bytes(5_000),
        "no samples": wav[:40] + bytes(4),
        "200 ms": wav[: 44 + 6_400],
    }
    (tmp_path / "broken.wav").write_bytes(broken[kind])
    assert refusal(shared, tmp_path / "broken.wav").startswith(f"broken.wav: {sentence}")
    assert classified(shared, programme)["label"] == "speech"


def test_recordings_too_long_to_decode_are_refused(shared, tmp_path):
    """Before the browser fills its memory. A-law is not read in pieces. The file is sparse: 2.5 hours at 8 kHz."""
    soundfile.write(tmp_path / "long.wav", np.zeros(8_000), 8_000, subtype="ALAW")
    start = (tmp_path / "long.wav").read_bytes()
    at, samples = start.index(b"data") + 4, 9_000 * 8_000
    with (tmp_path / "long.wav").open("wb") as file:
        file.write(start[:at] + samples.to_bytes(4, "little"))
        file.truncate(at + 4 + samples)
    said = refusal(shared, tmp_path / "long.wav")
    assert "long.wav: 2:30:00.0 is more than browsers can decode at once; at most 2:00:00.0" in said


def test_pieces_of_wav_join_without_a_seam(shared, varied, tmp_path):
    """Three minutes at 44.1 kHz are three pieces."""
    samples = np.tile(varied, 6)[: 185 * RATE]
    soundfile.write(tmp_path / "a.wav", soxr.resample(samples, RATE, 44_100), 44_100)
    _, windows = Classifier().analyse(tmp_path / "a.wav")
    found = classified(shared, tmp_path / "a.wav")["windows"]
    assert found == pytest.approx(windows.scores.ravel().tolist(), abs=0.05)


def test_unreachable_model_is_said(opened, site):
    page = opened(f"{site}/try.html")
    page.wait_for_selector("#loading:has-text('is loaded')")
    page.route("**/*.onnx", lambda route: route.abort())
    page.reload()
    page.wait_for_selector("#failure:not([hidden])")
    assert "The model cannot be loaded" in page.locator("#failure").inner_text()
    assert page.locator("#choose").is_disabled()
    opened.problems.clear()


@pytest.mark.parametrize("width", [400, 1600])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fits_and_can_be_read(trial, varied, tmp_path, scheme, width):
    page = trial(viewport={"width": width, "height": 900}, color_scheme=scheme)
    require_readable(page, f"try-{scheme}-{width}")
    (tmp_path / "notes.wav").write_text("no audio")
    refusal(page, tmp_path / "notes.wav")
    require_readable(page, f"try-refused-{scheme}-{width}")
    soundfile.write(tmp_path / "programme.wav", varied, RATE)
    classified(page, tmp_path / "programme.wav")
    page.wait_for_timeout(200)
    require_readable(page, f"try-result-{scheme}-{width}")


def test_readable_without_javascript(opened, site):
    page = opened(f"{site}/try.html", java_script_enabled=False)
    assert "JavaScript, which is off" in page.locator("main").inner_text()
    assert page.locator("#drop").is_hidden()
