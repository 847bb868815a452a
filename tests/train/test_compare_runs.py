"""Comparison of systems on the same recordings: the table holds the metrics of their runs, and
other runs are refused.
"""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from ms_edge.errors import MsEdgeError
from ms_train.augment.augmentations import parse_chain
from ms_train.cli import main as cli
from ms_train.evaluation.compare import Spread, compare


@pytest.fixture(scope="module")
def runs(tmp_path_factory, copy_by_label, leave_out_pictures, small_networks) -> Path:
    """Train two systems on two folds of the sample recordings through the command line."""
    root = tmp_path_factory.mktemp("runs")
    copy_by_label(root / "data")
    with pytest.MonkeyPatch.context() as patch:
        leave_out_pictures(patch)
        train_all(root)
    return root / "runs"


def train_all(root: Path) -> None:
    for seed in (1, 2):
        for name, augment in (("plain", []), ("masked", ["--augment", "gain", "--augment", "time_mask:0.5"])):
            out = root / "runs" / f"{name}-{seed}"
            arguments = [
                "--recipe",
                "resized_cnn",
                "--data",
                f"folder:{root / 'data'}",
                "--out",
                str(out),
                "--epochs",
                "1",
            ]
            chosen = ["--seed", str(seed), "--fold", f"{seed}/2", "--cache", str(root / "cache")]
            assert cli.main(["fit", *arguments, *chosen, *augment]) == 0


def test_report_has_a_line_for_each_system(runs, tmp_path, capsys):
    assert cli.main(["compare", str(runs), "-o", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    numbers = json.loads((tmp_path / "out" / "report.json").read_text())
    assert {system["name"] for system in numbers["systems"]} == {
        "resized_cnn, 1 epoch",
        "resized_cnn, 1 epoch, gain 1, time_mask 0.5",
    }
    for system in numbers["systems"]:
        folders = sorted(runs.glob("masked-*" if "gain" in system["name"] else "plain-*"))
        tested = [json.loads((folder / "metrics.json").read_text())["test"] for folder in folders]
        for level in ("clip", "file"):
            values = [found[f"{level}_accuracy"] for found in tested]
            assert system[level]["mean"] == pytest.approx(np.mean(values))
            assert system[level]["deviation"] == pytest.approx(np.std(values, ddof=1))
        assert system["name"] in printed
        assert system["name"] in (tmp_path / "out" / "report.md").read_text()
    for hard in numbers["hard"]:
        assert (
            1 <= hard["wrong"] <= hard["of"] <= 4
        )  # one test in two folds of two systems, or two where the seeds agree
    assert (tmp_path / "out" / "comparison.png").stat().st_size > 5000


@pytest.mark.usefixtures("no_pictures")
def test_an_augmented_run_can_be_repeated(runs, tmp_path):
    """Masks follow from the number of the batch, windows from the seed."""
    written = json.loads((runs / "masked-1" / "recipe.json").read_text())
    assert written["augment"] == "gain 1, time_mask 0.5"
    again = [
        "--data",
        f"folder:{runs.parent / 'data'}",
        "--out",
        str(tmp_path / "again"),
        "--epochs",
        "1",
        "--seed",
        "1",
    ]
    augment = ["--augment", "gain", "--augment", "time_mask:0.5", "--fold", "1/2", "--cache", "none"]
    assert cli.main(["fit", "--recipe", "resized_cnn", *again, *augment]) == 0
    assert (tmp_path / "again" / "history.csv").read_text() == (runs / "masked-1" / "history.csv").read_text()
    plain = (runs / "plain-1" / "history.csv").read_text()
    assert (tmp_path / "again" / "history.csv").read_text() != plain


def test_runs_of_other_recordings_are_refused(runs, tmp_path):
    shutil.copytree(runs, tmp_path / "runs")
    data = tmp_path / "runs" / "plain-2" / "data.json"
    changed = json.loads(data.read_text())
    data.write_text(json.dumps(dict.fromkeys(changed, "0" * 64)))
    with pytest.raises(MsEdgeError, match="other recordings"):
        compare([tmp_path / "runs"])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda root: shutil.copytree(root / "plain-1", root / "copy"), "second run"),
        (lambda root: (root / "plain-1" / "recipe.json").write_text("{"), "not a complete run"),
        (lambda root: shutil.rmtree(root), "no such folder"),
        (lambda root: [path.unlink() for path in root.rglob("metrics.json")], "no complete run"),
    ],
)
def test_incomparable_runs_give_one_sentence(runs, tmp_path, spoil, said, capsys):
    shutil.copytree(runs, tmp_path / "runs")
    spoil(tmp_path / "runs")
    assert cli.main(["compare", str(tmp_path / "runs")]) == 1
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_an_unfinished_run_is_named_and_left_out(runs, tmp_path, capsys):
    shutil.copytree(runs, tmp_path / "runs")
    (tmp_path / "runs" / "masked-2" / "metrics.json").unlink()
    found = compare([tmp_path / "runs"])
    assert sorted(len(system.runs) for system in found.systems) == [1, 2]
    assert "masked-2: is not trained to its end" in capsys.readouterr().err


def test_run_without_held_out_part_is_left_out(runs, tmp_path, capsys):
    shutil.copytree(runs, tmp_path / "runs")
    for name in ("masked-1", "plain-1"):
        path = tmp_path / "runs" / name / "metrics.json"
        path.write_text(
            json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != "test"})
        )
    assert cli.main(["compare", str(tmp_path / "runs")]) == 0
    said = capsys.readouterr()
    for name in ("masked-1", "plain-1"):
        sentence = f"left out: {tmp_path / 'runs' / name}: held nothing out to be tested on; train it with --fold I/N."
        assert said.err.splitlines().count(sentence) == 1
    assert [line.split()[-6] for line in said.out.splitlines()[1:]] == ["1", "1"]  # runs
    for name in ("masked-2", "plain-2"):
        shutil.rmtree(tmp_path / "runs" / name)
    assert cli.main(["compare", str(tmp_path / "runs")]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("ms-train: No run held anything out to be tested on;")


def test_means_are_over_tests_of_all_systems(runs, tmp_path, capsys):
    shutil.copytree(runs, tmp_path / "runs")
    shutil.rmtree(tmp_path / "runs" / "masked-2")
    for name, value in (("plain-1", 1.0), ("plain-2", 0.0)):
        path = tmp_path / "runs" / name / "metrics.json"
        metrics = json.loads(path.read_text())
        metrics["test"]["file_accuracy"] = value
        path.write_text(json.dumps(metrics))
    found = {system.name: system for system in compare([tmp_path / "runs"]).systems}
    plain = found["resized_cnn, 1 epoch"]
    assert (plain.count, len(plain.runs), plain.file) == (1, 2, Spread(1.0, None))
    assert "left out of the means: 1 of the 2 runs of resized_cnn, 1 epoch:" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "runs" / "plain-1")
    with pytest.raises(MsEdgeError, match="No seed and fold was run by all 2 systems"):
        compare([tmp_path / "runs"])


def test_search_trials_are_compared_only_if_named(runs, tmp_path, capsys):
    shutil.copytree(runs / "plain-1", tmp_path / "runs" / "search" / "trial-1")
    shutil.copytree(runs / "plain-1", tmp_path / "runs" / "search" / "best")
    (tmp_path / "runs" / "search" / "study.log").touch()
    assert [len(system.runs) for system in compare([tmp_path / "runs"]).systems] == [1]
    assert "search: the trials of a search; name one to compare it" in capsys.readouterr().err
    assert compare([tmp_path / "runs" / "search" / "trial-1"]).systems


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("name", [pytest.param("plain-1", marks=pytest.mark.slow), "masked-1"])
def test_recorded_command_repeats_the_training(runs, tmp_path, name):
    command = shlex.split(json.loads((runs / name / "run.json").read_text())["command"])
    assert command[:2] == ["ms-train", "fit"]
    assert command[-2:] == ["--out", str(runs / name)]
    assert cli.main([*command[1:-1], str(tmp_path / "again")]) == 0
    for file in ("history.csv", "split.json", "data.json", "recordings.json", "recipe.json"):
        assert (tmp_path / "again" / file).read_bytes() == (runs / name / file).read_bytes()


@pytest.mark.parametrize("text", ["nois", "noise:x", "noise:2", "none:1"])
def test_unknown_augmentations_are_refused(text):
    with pytest.raises(MsEdgeError):
        parse_chain([text])


def test_none_cannot_be_combined():
    with pytest.raises(MsEdgeError, match="none stands alone"):
        parse_chain(["none", "gain"])


def test_none_is_an_empty_chain():
    samples = np.ones(8, np.float32)
    chain = parse_chain(["none"])
    np.testing.assert_array_equal(chain(samples, np.random.default_rng(0), 8000), samples)
    assert str(chain) == "none"
