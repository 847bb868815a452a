"""The speed benchmark checks answers, shows failures, and takes figures from the JSON. No times are
asserted.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

pytestmark = pytest.mark.skipif(not hasattr(__import__("os"), "sched_setaffinity"), reason="pins processes: Linux")

ROOT = Path(__file__).parent.parent
ANSWERS = """import json, sys
for index, line in enumerate(sys.stdin):
    label = "speech" if "-s-" in line else "music"
    scores = {"speech": 0.5, "music": 0.5} if "-sm-" in line else {name: float(name == label) for name in ("speech", "music")}
    {more}
    print(json.dumps({**scores, "scores": scores, "label": label, "seconds": {"speech": 5, "music": 5}}), flush=True)
"""


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))


def contender(name: str, more: str = ""):
    from benchmarks.speed.contenders import Contender, _check_scores

    command = (sys.executable, "-S", "-c", ANSWERS.replace("{more}", more))
    return Contender(name, command, _check_scores, versions={"python": "3"})


@pytest.fixture
def bench(monkeypatch, tmp_path):
    """Return a function that makes a Bench of contenders; the first one is called ms-edge."""
    from benchmarks.speed import bench as speed_cases

    def make(*systems, absent=()):
        monkeypatch.setattr(speed_cases, "contenders", lambda *_: (list(systems), dict(absent)))
        options = SimpleNamespace(model=None, no_peers=True, quick=True, repositories=None)
        return speed_cases.Bench(tmp_path, speed_cases.Scale(20.0, 20.0, 4, 3, 2, 3, 5.0), options)

    return make


def report(found):
    from benchmarks.speed.report import markdown

    found["machine"]["load_after"] = 0.0
    return markdown(found)


@pytest.mark.parametrize(
    ("kind", "rate_hz", "channels"), [("wav", 16_000, 1), ("stereo44", 44_100, 2), ("mp3", 16_000, 1)]
)
def test_recordings_are_half_speech_half_music(tmp_path, kind, rate_hz, channels):
    from benchmarks.speed.recordings import both

    recording = both(tmp_path, 20.0, kind)
    audio, rate = soundfile.read(recording.path, always_2d=True)
    assert (rate, audio.shape[1]) == (rate_hz, channels)
    assert len(audio) / rate == pytest.approx(20.0, abs=0.2)
    assert recording.sound >= 0.95
    assert np.sqrt(np.mean(audio**2)) > 0.01
    written = recording.path.stat().st_mtime_ns
    assert both(tmp_path, 20.0, kind) == recording
    assert recording.path.stat().st_mtime_ns == written


def test_recordings_differ_by_seed(tmp_path):
    from benchmarks.speed.recordings import one

    first, second = one(tmp_path, "speech"), one(tmp_path, "speech", seed=1)
    assert first.label == second.label == "speech"
    assert first.path.read_bytes() != second.path.read_bytes()


def test_memory_and_failure_of_a_command_are_reported():
    from benchmarks.speed.timing import BrokenError, environment, whole

    held = np.ones(30_000_000)  # 240 MB in this process, which must not count for the child
    done = whole([sys.executable, "-S", "-c", "print(input())"], "hello\n", [0], environment())
    assert (done.lines, done.wall_s > 0) == (["hello"], True)
    assert 1e6 < done.peak_bytes < 60e6 < held.nbytes
    with pytest.raises(BrokenError, match="exit status 1: ValueError: so be it"):
        whole([sys.executable, "-S", "-c", "raise ValueError('so be it')"], "", [0], environment())


def test_right_systems_are_timed_wrong_ones_reported(bench):
    """One system is wrong from the start, one on the fourth file; neither gets a time."""
    measured = bench(
        contender("ms-edge"),
        contender("wrong", "scores = {'speech': 0.1, 'music': 0.9}"),
        contender("broken", "if '-sm-' in line and index: sys.exit('no more')"),
        absent={"elsewhere": "cannot be installed: no such package"},
    )
    for case in ("10s", "10min"):
        measured.measure(case)
    cases = measured.found["cases"]
    assert cases["10s"]["ms-edge"]["whole"]["n"] == cases["10min"]["ms-edge"]["inside"]["n"] == 2
    assert cases["10s"]["ms-edge"]["peak_bytes"] > 0
    assert "whole" in cases["10s"]["broken"]
    assert cases["10min"]["broken"] == {"failed": "no more"}
    assert "wrong" not in cases["10s"]
    text = report(measured.found)
    assert "- elsewhere: absent, cannot be installed: no such package.\n" in text
    assert "- wrong: absent, wrong on ten seconds: says" in text
    assert "- broken, 10min: failed, no more.\n" in text
    assert text.count("| ms-edge |") >= 3


def test_start_counts_only_with_right_answer(bench):
    """One system is wrong of what a whole command is given, one cannot even begin: the others are
    measured.
    """
    from dataclasses import replace

    ours = contender("ms-edge")
    wrong = replace(contender("wrong"), command=lambda path: ["echo", '{"speech": 0.1, "music": 0.9}'])
    broken = replace(contender("broken"), command=lambda path: ["false"])
    measured = bench(ours, wrong, broken)
    measured.python = sys.executable
    measured.measure("start")
    start = measured.found["cases"]["start"]
    assert start["ms-edge, 10 s clip"]["whole"]["n"] == 1
    assert start["wrong, 10 s clip"]["failed"].startswith("says {")
    assert start["broken, 10 s clip"]["failed"].startswith("exit status 1")


def test_answer_without_scores_is_refused(bench):
    measured = bench(contender("ms-edge"), contender("empty", "scores = {}; print('{}', flush=True); continue"))
    assert "says {}" in report(measured.found)


def test_what_never_ends_is_a_failure(monkeypatch):
    from benchmarks.speed import timing

    monkeypatch.setattr(timing, "TIMEOUT_S", 0.2)
    sleep = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]
    with pytest.raises(timing.BrokenError, match="no end after 0"):
        timing.whole(sleep, "", [0], timing.environment())
    with timing.Worker(sleep, [0], timing.environment()) as worker, pytest.raises(timing.BrokenError):
        worker.ask("x")


@pytest.mark.parametrize("content", ["{", "[]", '{"schema": "x"}', None])
def test_foreign_file_gives_one_sentence(tmp_path, monkeypatch, capsys, content):
    from benchmarks.speed import report as speed_report

    path = tmp_path / "speed.json"
    if content:
        path.write_text(content)
    monkeypatch.setattr(sys, "argv", ["speed_report", str(path)])
    assert speed_report.main() == 2
    assert capsys.readouterr().err.startswith("speed_report: ")


def test_results_name_no_folder_of_the_machine(bench, tmp_path):
    measured = bench(contender("ms-edge"), absent={"other": f"{tmp_path}/environments/x: {ROOT}/a is missing"})
    text = json.dumps(measured.without_places())
    assert "DIR/environments/x: REPOSITORY/a is missing" in text
    assert str(tmp_path) not in text


def test_only_our_own_wrong_answer_ends_the_run(bench):
    from benchmarks.speed.timing import BrokenError

    with pytest.raises(BrokenError, match="ms-edge says"):
        bench(contender("ms-edge", "scores = {'speech': 0.1, 'music': 0.9}"))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"label": "music", "seconds": {"music": 10}}, None),
        ({"label": "speech", "seconds": {"speech": 10}}, "says speech"),
        ({"label": "music", "seconds": {"music": 10}, "warnings": ["truncated"]}, "truncated"),
        ({"error": {"code": "no-audio", "message": "x"}}, "no-audio"),
    ],
)
def test_a_record_is_checked(tmp_path, answer, said):
    from benchmarks.speed.contenders import _check_record
    from benchmarks.speed.recordings import one
    from benchmarks.speed.timing import BrokenError

    if said is None:
        _check_record(one(tmp_path, "music"), answer)
        return
    with pytest.raises(BrokenError, match=said):
        _check_record(one(tmp_path, "music"), answer)


def test_comparison_is_ratios_of_the_same_work(bench):
    from benchmarks.speed.report import comparison

    measured = bench(contender("ms-edge"))
    measured.measure("10s")
    old = json.loads(json.dumps(measured.found))
    old["cases"]["10s"]["ms-edge"]["whole"]["median"] *= 2
    assert "| 10s | ms-edge | whole | 0.50 |" in comparison(measured.found, old)
    old["cases"]["10s"]["ms-edge"]["audio_s"] = 20.0
    assert "ms-edge" not in comparison(measured.found, old)


def test_plots_need_not_have_all_cases(bench, tmp_path):
    from benchmarks.speed.report import write

    measured = bench(contender("ms-edge"))
    measured.measure("10s")
    measured.found["machine"]["load_after"] = 0.0
    write(measured.found, tmp_path)
    assert (tmp_path / "throughput.png").stat().st_size > 10_000
    assert not (tmp_path / "start.png").exists()


def test_unsteady_machine_is_reported_and_not_documented(bench, tmp_path, monkeypatch, capsys):
    from benchmarks.speed import report as speed_report

    measured = bench(contender("ms-edge"))
    measured.measure("10s")
    measured.measure("start")
    assert len(measured.found["machine"]["pace_s"]) == 3
    found = {**measured.found, "quick": False}
    for slowest, steady in ((1.2, True), (1.3, False)):
        found["machine"] |= {"load_before": 0.0, "pace_s": [1.0, 1.1, slowest, 1.0]}
        assert ("did not keep its pace" in report(found)) is not steady
    (tmp_path / "speed.json").write_text(json.dumps(found))
    monkeypatch.setattr(sys, "argv", ["speed_report", str(tmp_path / "speed.json"), "--docs"])
    assert speed_report.main() == 2
    assert "unsteady" in capsys.readouterr().err


def test_goals_are_also_ratios_to_peers(bench):
    measured = bench(contender("ms-edge"))
    once = {"audio_s": 600.0, "whole": {"n": 1, "median": 0.5, "q1": 0.5, "q3": 0.5}}
    twice = {"audio_s": 600.0, "whole": {"n": 1, "median": 1.0, "q1": 1.0, "q3": 1.0}}
    systems = {"ms-edge": {**once, "inside": once["whole"]}, "Opus analysis": twice, "YAMNet": twice}
    measured.found |= {"quick": False, "cases": {"10min": systems, "1h": systems}}
    text = report(measured.found)
    assert "| 10 min, whole command | 1.5 x | 2.0 x | 2.8 x | 2.0 x |" in text
    measured.found["cases"]["1h"].pop("YAMNet")
    assert "ratios to these peers" not in report(measured.found)


@pytest.mark.slow
def test_rebuilt_keras_network_gives_the_file_scores(tmp_path):
    """`rebuilt` compares scores itself, and refuses a file whose network is not its recipe's."""
    import onnx

    from benchmarks.speed.keras_model import rebuilt
    from ms_edge.model.session import BEFORE, BUNDLED, Model

    assert rebuilt(Model.load(BEFORE)).count_params() > 30_000
    assert rebuilt(Model.load()).count_params() > 100_000
    other = onnx.load(BUNDLED)
    kernel = next(tensor for tensor in other.graph.initializer if list(tensor.dims)[2:] == [1, 1])
    wrong = Model.load()
    kernel.raw_data = (1.1 * np.frombuffer(kernel.raw_data, np.float32)).astype(np.float32).tobytes()
    onnx.save(other, tmp_path / "other.onnx")
    wrong.path = str(tmp_path / "other.onnx")  # weights from one file, scores from another
    with pytest.raises(ValueError, match="scores differ"):
        rebuilt(wrong)


def test_page_matches_its_figures():
    from benchmarks.speed.report import page

    found = json.loads((ROOT / "docs" / "benchmarks" / "speed.json").read_text("utf-8"))
    assert (ROOT / "docs" / "benchmarks.md").read_text("utf-8") == page(found)


def test_time_of_a_clip_and_of_a_streamed_hop_is_split_into_stages(samples):
    """In a process of its own, whose classifier is instrumented."""
    code = f"import sys; sys.argv[1:] = ['3', '1', '', {str(samples[0])!r}]; from benchmarks.speed import latency; latency.main()"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(run.stdout)
    assert set(found) == {"file 0", "hop"}
    for each in found.values():
        assert each["runs"] == 3
        assert all(each["stages"][stage] > 0 for stage in ("front_end", "network", "vote"))
    assert found["file 0"]["stages"]["decode"] > 0
    assert found["file 0"]["answer"]["label"] == samples[0].stem.partition("_")[0]
