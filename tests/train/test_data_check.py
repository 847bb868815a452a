"""`ms-train data check` finds what spoils a training, and nothing in good data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import butter, sosfilt

from ms_train.cli import main as cli
from ms_train.evaluation import data_report

RATE = 16_000
DRUMS = Path(__file__).parent.parent.parent / "docs" / "drums"


@pytest.fixture(autouse=True)
def _no_pictures(no_pictures):
    """Pictures are composed, not rendered."""


def check(folder: Path, out: Path) -> tuple[int, dict]:
    status = cli.main(["data", "check", f"folder:{folder}", "-o", str(out)])
    return status, json.loads((out / "report.json").read_text())


def noise(rng: np.random.Generator, seconds: float, level: float = 0.1) -> np.ndarray:
    """Noise whose level changes slowly, so that two pieces are not alike."""
    samples = rng.standard_normal(int(seconds * RATE))
    envelope = np.interp(np.arange(len(samples)), np.linspace(0, len(samples), 20), rng.uniform(0.05, 1, 20))
    shaped = samples * envelope
    return level * shaped / np.sqrt(np.mean(shaped**2))


def write(folder: Path, label: str, name: str, samples: np.ndarray) -> None:
    (folder / label).mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / label / name, np.clip(samples, -1, 1), RATE)


def test_good_folder_has_no_finding(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for number in range(12):
        for label in ("rain", "wind"):
            write(tmp_path / "good", label, f"{number}.wav", noise(rng, rng.uniform(1, 4), rng.uniform(0.05, 0.2)))
    status, found = check(tmp_path / "good", tmp_path / "out")
    assert (status, found["refused"], found["warnings"]) == (0, [], [])
    printed = capsys.readouterr().out
    assert "nothing found that spoils a training" in printed
    assert printed.splitlines()[1].split()[:2] == ["rain", "12"]
    written = {str(path) for path in (tmp_path / "out").iterdir()}
    assert written == {str(tmp_path / "out" / name) for name in ("report.md", "report.json", "classes.png")}
    assert set(printed.splitlines()[-1].split(", ")) == written


def test_what_fit_refuses_is_refused(tmp_path):
    """A class that no model can have, and a class of one recording, of which validation takes all."""
    rng = np.random.default_rng(0)
    for label, count, said in (("silence", 4, "no model can call a class 'silence'"), ("b", 1, "is left for training")):
        folder = tmp_path / label
        for number in range(4):
            write(folder, "a", f"{number}.wav", noise(rng, 2))
        for number in range(count):
            write(folder, label, f"{number}.wav", noise(rng, 2))
        status, found = check(folder, tmp_path / f"out-{label}")
        assert status == 1
        assert said in found["refused"][0]


def test_an_interrupted_report_can_be_written_again(tmp_path, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(data_report, "picture", interrupted)
        assert cli.main(["data", "check", f"folder:{DRUMS}", "-o", str(tmp_path / "out")]) == 130
    assert check(DRUMS, tmp_path / "out")[0] == 0


def test_files_of_others_are_not_replaced(tmp_path, capsys):
    (tmp_path / "report.md").write_text("mine")
    assert cli.main(["data", "check", f"folder:{DRUMS}", "-o", str(tmp_path)]) == 2
    assert "is not replaced" in capsys.readouterr().err
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_each_fault_of_a_bad_folder_is_named(tmp_path, capsys):
    rng, bad = np.random.default_rng(0), tmp_path / "bad"
    telephone = butter(8, 3400, output="sos", fs=RATE)
    for number in range(12):
        write(bad, "rain", f"{number}.wav", noise(rng, 2, 0.02))
        write(bad, "wind", f"{number}.wav", sosfilt(telephone, noise(rng, 2, 0.2)))
    write(bad, "wind", "clipped.wav", 30 * noise(rng, 2))
    write(bad, "rain", "silent.wav", np.concatenate([noise(rng, 0.5, 0.02), np.zeros(3 * RATE)]))
    quieter, _ = soundfile.read(bad / "rain" / "3.wav")
    soundfile.write(bad / "rain" / "copy.ogg", 0.5 * quieter, RATE)
    write(bad, "hail", "0.wav", noise(rng, 2))
    shutil.copy(bad / "wind" / "5.wav", bad / "hail" / "same.wav")
    (bad / "wind" / "broken.wav").write_bytes(b"RIFF no audio")
    status, found = check(bad, tmp_path / "out")
    assert status == 1
    (refused,) = found["refused"]
    assert {"hail/same.wav", "wind/5.wav"} < set(refused.replace(",", "").split())
    text = "\n".join(found["warnings"])
    for finding in (
        "1 recording is a copy: rain/3.wav = rain/copy.ogg.",
        "1 recording is clipped: wind/clipped.wav.",
        "1 recording is mostly silence: rain/silent.wav.",
        "hail has only 2 recordings",
    ):
        assert finding in text or finding.replace("rain/3.wav = rain/copy.ogg", "rain/copy.ogg = rain/3.wav") in text
    assert f"refused: {refused}" in capsys.readouterr().out


@pytest.mark.parametrize("spoiled", ["loudness", "bandwidth", "pauses"])
def test_property_that_tells_the_class_is_named(spoiled, tmp_path):
    rng = np.random.default_rng(1)
    telephone = butter(8, 3400, output="sos", fs=RATE)
    for number in range(15):
        for label in ("one", "two"):
            samples = noise(rng, 2, rng.uniform(0.05, 0.1))
            if label == "two" and spoiled == "loudness":
                samples /= 8
            elif label == "two" and spoiled == "bandwidth":
                samples = sosfilt(telephone, samples)
                samples *= rng.uniform(0.05, 0.1) / np.sqrt(np.mean(samples**2))
            elif label == "two":
                samples[RATE // 2 : 3 * RATE // 2] *= 0.02
                samples *= rng.uniform(0.05, 0.1) / np.sqrt(np.mean(samples**2))
            write(tmp_path / "data", label, f"{number}.wav", samples)
    _, found = check(tmp_path / "data", tmp_path / "out")
    assert [name for name, each in found["shortcuts"].items() if each["tells"]] == [spoiled]
    assert any(f"The {spoiled} of a recording alone tells its class" in each for each in found["warnings"])


def test_class_with_one_recording_is_unknown(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for name, label in (("0", "rain"), ("1", "rain"), ("0", "wind")):
        write(tmp_path / "data", label, f"{name}.wav", noise(rng, 2))
    _, found = check(tmp_path / "data", tmp_path / "out")
    assert {name: each["accuracy"] for name, each in found["shortcuts"].items()} == dict.fromkeys(found["shortcuts"])
    assert "NaN" not in (tmp_path / "out" / "report.json").read_text()
    assert ["loudness", "-", "50%"] in [line.split() for line in capsys.readouterr().out.splitlines()]


def test_class_without_sound_leaves_a_table(tmp_path, capsys):
    write(tmp_path / "data", "rain", "0.wav", noise(np.random.default_rng(0), 2))
    (tmp_path / "data" / "wind").mkdir()
    (tmp_path / "data" / "wind" / "broken.wav").write_bytes(b"RIFF no audio")
    status, found = check(tmp_path / "data", tmp_path / "out")
    assert (status, found["refused"]) == (1, ["No recording of wind can be read."])
    assert capsys.readouterr().out.splitlines()[1].split()[:2] == ["rain", "1"]


def test_sounds_of_the_tutorial_are_no_copies(tmp_path):
    _, found = check(DRUMS, tmp_path / "out")
    assert found["classes"] == ["hihat", "snare", "tom"]
    assert not [each for each in found["warnings"] if "cop" in each or "clipped" in each]
