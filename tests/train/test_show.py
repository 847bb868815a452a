from __future__ import annotations

import shutil
import struct

import numpy as np
import pytest
import soundfile

from ms_edge.errors import MsEdgeError
from ms_train import plots
from ms_train.augment.augmentations import AUGMENTATIONS, MASKS
from ms_train.cli.main import main
from ms_train.datasets.folder import folder
from ms_train.evaluation.show import show_panels
from ms_train.recipes.by_name import get_recipe


def size(png) -> tuple[int, int]:
    data = png.read_bytes()
    assert data.startswith(b"\x89PNG")
    assert b"atplotlib" not in data
    return struct.unpack(">II", data[16:24])


@pytest.fixture
def classes(tmp_path, copy_by_label):
    """Write a folder of two classes with six recordings each."""
    return copy_by_label(tmp_path / "classes")


def test_files_of_one_name_get_separate_pictures(tmp_path, samples, capsys):
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        shutil.copy(samples[0], tmp_path / place / "x.wav")
    shutil.copy(samples[1], tmp_path / "X.wav")
    (tmp_path / "short.wav").write_bytes(b"")
    soundfile.write(tmp_path / "tiny.wav", np.zeros(100), 22_050)
    names = ["a/x.wav", "missing.wav", "b/x.wav", "short.wav", "tiny.wav", "X.wav"]
    out = tmp_path / "out"
    assert main(["show", *(str(tmp_path / name) for name in names), "-o", str(out)]) == 1
    printed = capsys.readouterr()
    assert printed.out.split() == [str(out / name) for name in ("x.png", "x-2.png", "X-3.png")]
    errors = printed.err.strip().splitlines()
    assert len(errors) == 3
    assert errors[0] == f"ms-train: {tmp_path / 'missing.wav'}: no such file or directory."
    assert errors[2].endswith("tiny.wav: 0.005 s of audio is less than one frame of logstft_cnn (0.093 s).")
    assert sorted(path.name for path in out.iterdir()) == ["X-3.png", "x-2.png", "x.png"]
    assert (out / "x.png").stat().st_size != (out / "X-3.png").stat().st_size


@pytest.mark.parametrize(("recipe", "height"), [("logstft_cnn", 888), ("resized_cnn", 888), ("mel_dscnn", 1200)])
def test_page_has_expected_pictures_and_same_bytes(recipe, height, tmp_path, samples):
    for place in ("a", "b"):
        assert main(["show", "--recipe", recipe, str(samples[0]), "-o", str(tmp_path / place)]) == 0
    name = f"{samples[0].stem}.png"
    assert size(tmp_path / "a" / name) == (1440, height)
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("recipe", ["logstft_cnn", "resized_cnn", "mel_dscnn"])
def test_tone_and_click_are_drawn_in_place(recipe):
    from matplotlib.figure import Figure

    from ms_edge.features.frontend import FrontEnd

    spec = get_recipe(recipe).spec
    time_s = np.arange(3 * spec.sample_rate_hz) / spec.sample_rate_hz
    samples = (0.1 * np.sin(2 * np.pi * 2_000 * time_s) * ((time_s > 1) & (time_s < 1.5))).astype(np.float32)
    values, unit = plots.view(FrontEnd(spec).features(samples), spec)
    image = plots.spectrogram(Figure().subplots(), values, spec, spec.mel)
    left, right, bottom, top = image.get_extent()
    loud = values > values.min() + 0.8 * np.ptp(values)
    frames = np.flatnonzero(loud.any(axis=0))
    edges = [left + (right - left) * place / values.shape[1] for place in (frames[0], frames[-1] + 1)]
    step_s = spec.frame_step / spec.sample_rate_hz
    assert edges == pytest.approx([1.0, 1.5], abs=2 * step_s)
    bin_ = values[:, frames[len(frames) // 2]].argmax()
    height = bottom + (top - bottom) * (bin_ + 0.5) / len(values)
    hz = 700 * np.expm1(height / 1127) if spec.mel else height
    assert hz == pytest.approx(2_000, abs=100)
    assert unit.startswith("ln(")


def test_long_waveform_shows_every_peak():
    from matplotlib.figure import Figure

    samples = np.zeros(1_000_003, np.float32)
    samples[777_777] = 0.9
    axes = Figure().subplots()
    plots.waveform(axes, samples, 16_000)
    corners = axes.collections[0].get_paths()[0].vertices
    peak = corners[corners[:, 1].argmax()]
    assert peak == pytest.approx([777_777 / 16_000, 0.9], abs=0.05)


def test_long_audio_is_shown_from_its_start(tmp_path, monkeypatch, samples, capsys):
    monkeypatch.setattr("ms_train.evaluation.show.PAGE_S", 2.0)
    assert main(["show", str(samples[0]), "-o", str(tmp_path)]) == 0
    assert size(tmp_path / f"{samples[0].stem}.png") == (1440, 888)


def test_unusual_file_names_are_drawn(tmp_path, samples):
    name = b"$\\frac{$ \xff \xe6\x97\xa5.wav".decode("utf-8", "surrogateescape")
    shutil.copy(samples[0], tmp_path / name)
    assert main(["show", str(tmp_path / name), "-o", str(tmp_path / "out")]) == 0
    assert len(list((tmp_path / "out").iterdir())) == 1


@pytest.mark.slow
def test_same_seed_gives_the_same_panels(tmp_path, classes, capsys):
    pictures = []
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        out = tmp_path / name
        assert main(["show", "--data", f"folder:{classes}", "--seed", seed, "-o", str(out)]) == 0
        assert size(out / "panels.png") == (1752, 720)
        pictures.append((out / "panels.png").read_bytes())
    assert pictures[0] == pictures[1] != pictures[2]
    assert capsys.readouterr().out.split()[0] == str(tmp_path / "a" / "panels.png")


def test_panels_leave_out_unreadable_recordings(tmp_path, classes, capsys):
    for path in sorted((classes / "music").iterdir())[1:]:
        path.write_bytes(b"no audio")
    recipe = get_recipe("mel_dscnn")
    assert size(show_panels(folder(classes), recipe, tmp_path / "out", 0)) == (1752, 720)
    assert capsys.readouterr().err.count("left out: ") == 5
    next(iter(sorted((classes / "music").iterdir()))).write_bytes(b"none at all")
    with pytest.raises(MsEdgeError, match="No recording of music can be read"):
        show_panels(folder(classes), recipe, tmp_path / "out", 0)


@pytest.mark.slow
def test_every_augmentation_has_picture_and_sound(tmp_path, samples, capsys):
    file, other = str(samples[0]), str(samples[-1])
    out = tmp_path / "out"
    assert main(["show", "--augment", file, "--mix-with", other, "--recipe", "mel_dscnn", "-o", str(out)]) == 0
    stem = samples[0].stem
    names = [*AUGMENTATIONS, *MASKS, "mixing"]
    assert len(capsys.readouterr().out.splitlines()) == len(names)
    assert {path.name for path in out.glob("*.png")} == {f"{stem}-{name}.png" for name in names}
    assert {path.name for path in out.glob("*.wav")} == {f"{stem}-{name}.wav" for name in names if name not in MASKS}
    seconds = soundfile.info(file).duration
    for path in out.iterdir():
        if path.suffix == ".png":
            assert size(path) == (1440, 768)
        else:
            info = soundfile.info(path)
            assert (info.samplerate, info.channels, info.subtype) == (16_000, 1, "PCM_16")
            assert info.duration == pytest.approx(seconds, abs=0.001)
    found = {path.name: path.read_bytes() for path in out.iterdir()}
    assert (
        found.pop(f"{stem}-codec.wav") in found.values()
    )  # one of the others; with this seed, one without random parameters
    assert len(set(found.values())) == len(found)


@pytest.mark.slow
def test_pictures_and_sounds_replace_no_file(tmp_path, samples):
    """A sound could be a recording that has the name."""
    mine = tmp_path / f"{samples[0].stem}-gain.wav"
    mine.write_bytes(b"RIFF")
    assert main(["show", str(samples[0]), "--augmentation", "gain", "-o", str(tmp_path)]) == 0
    assert mine.read_bytes() == b"RIFF"
    assert {path.name for path in tmp_path.iterdir()} == {
        mine.name,
        f"{samples[0].stem}-gain-2.png",
        f"{samples[0].stem}-gain-2.wav",
    }


def test_augmentation_does_not_depend_on_the_others(tmp_path, samples):
    shutil.copy(samples[0], tmp_path / "x.wav")
    shutil.copy(samples[1], tmp_path / "x-gain.wav")
    kept = (tmp_path / "x-gain.wav").read_bytes()
    files = [str(tmp_path / name) for name in ("x.wav", "x-gain.wav")]
    chosen = ["--augmentation", "gain", "--augmentation", "noise"]
    assert main(["show", "--augment", *files, *chosen, "-o", str(tmp_path)]) == 0
    assert (tmp_path / "x-gain.wav").read_bytes() == kept
    assert (tmp_path / "x-gain-2.wav").exists()
    assert main(["show", "--augment", files[0], "--augmentation", "noise", "-o", str(tmp_path / "alone")]) == 0
    assert (tmp_path / "alone" / "x-noise.wav").read_bytes() == (tmp_path / "x-noise.wav").read_bytes()


@pytest.mark.parametrize("arguments", [["show"], ["show", "--summary", "--recipe", "logstft_cnn"]])
def test_the_summary_is_keras_table(arguments, capsys):
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert 'Model: "logstft_cnn"' in printed
    assert "Param #" in printed
    assert "2,552,705" in printed


def test_an_unknown_recipe_is_named(capsys, tmp_path):
    with pytest.raises(SystemExit) as ended:
        main(["show", "x.wav", "--recipe", "resnet", "-o", str(tmp_path / "out")])
    assert ended.value.code == 2
    assert "there is no recipe 'resnet'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--augment"], "--augment needs a recording to change; name a FILE."),
        (["x.wav", "--summary"], "show takes one of FILE..., --data and --summary at a time."),
        (["x.wav", "--augmentation", "echo"], "There is no augmentation 'echo'; there are gain, noise"),
        (
            ["x.wav", "--augmentation", "mixing"],
            "--augmentation mixing needs a second recording; give --mix-with FILE.",
        ),
        (["x.wav", "--archive", "y"], "--archive goes with --data gtzan."),
    ],
)
def test_conflicting_options_give_one_sentence(arguments, says, capsys, tmp_path):
    assert main(["show", *arguments, "-o", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"ms-train: {says}")
    assert printed.err.count("\n") == 1
    assert not printed.out
    assert not (tmp_path / "out").exists()


def test_folder_that_cannot_be_made_is_named(tmp_path, samples, capsys):
    (tmp_path / "file").write_text("")
    assert main(["show", str(samples[0]), "-o", str(tmp_path / "file" / "out")]) == 2
    assert "cannot be made" in capsys.readouterr().err
