"""`python -m benchmarks.public`: published annotations and outputs, in small imitations of their repositories."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.io import savemat

ROOT = Path(__file__).parent.parent
DATA = ROOT / "tests" / "data"


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))


def clone(folder, name, files):
    """Commit files to a repository, as a clone that --repositories finds."""
    place = folder / name.replace("/", "+")
    for path, text in files.items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_text(text, "utf-8", newline="")
    git = ["git", "-C", str(place), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *command], check=True)


@pytest.fixture
def repositories(tmp_path):
    """Clones of AVASpeech-SMAD, TVSM and InaGVAD, each with two recordings."""
    folder = tmp_path / "repositories"
    clone(
        folder,
        "biboamy/AVASpeech_Music_Labels",
        {
            # The rows m of the speech labels are AVA-Speech's own and do not count.
            "labels/speech labels/-a.csv": "0.0\t100.0\ts\n400.0\t900.0\tm\n",
            "labels/music labels/-a.csv": "50,150,m\r\n880,1034.3,m\r\n",
            "labels/speech labels/b.csv": "",
            "labels/music labels/b.csv": "0,10,m\n",
            **{
                f"evaluation/{system}/avaspeech/{name}.csv": text
                for system in ("synth-audio-seg", "inaSpeechSegmenter")
                for name, text in (("-a", "0.0\t50.0\ts\n100.0\t150.0\tm\n"), ("b", "0.0\t20.0\tm\n"))
            },
        },
    )
    clone(
        folder,
        "biboamy/TVSM-dataset",
        {
            "Evaluation_Output/AVASpeech/TVSM-cuesheet/-a.csv": "0.0\t100.0\ts\n50.0\t150.0\tm\n880.0\t900.0\tm\n",
            "Evaluation_Output/AVASpeech/TVSM-cuesheet/b.csv": "0.0\t10.0\tm\n",
        },
    )
    systems = (
        "inaspeechsegmenter",
        "liumspkdiarization_csv",
        "pyannote_vad",
        "rvad_csv",
        "silero_vad",
        "speechbrain_vad",
    )
    clone(
        folder,
        "ina-foss/InaGVAD",
        {
            "annotations/filesplit/testset.csv": "fileid,media\nx,tv\n",
            "annotations/vad/x.csv": "start,stop,label\n0,10,speech\n10,60,nonspeech\n",
            "annotations/vad/y.csv": "start,stop,label\n0,60,speech\n",
            **{
                f"automatic_baselines/{system}/{name}.csv": "label,start,stop\nmale,1,5\nfemale,5,20\nmusic,30,50\n"
                for system in systems
                for name in "xy"
            },
        },
    )
    return folder


def run(monkeypatch, capsys, *arguments):
    from benchmarks.public.__main__ import main

    monkeypatch.setattr(sys, "argv", ["public", *map(str, arguments)])
    code = main()
    return code, *capsys.readouterr()


def test_avaspeech_is_scored_with_both_sets_of_labels(repositories, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    code, printed, _ = run(monkeypatch, capsys, "avaspeech", "--repositories", repositories, "-o", out)
    assert code == 0
    found = json.loads((out / "avaspeech.json").read_text("utf-8"))
    perfect, other, _ = found["systems"].values()
    assert perfect["speech"]["frames"]["f1"] == perfect["music"]["frames"]["f1"] == 1.0
    assert perfect["music"]["seconds"] == 130.0  # nothing after minute 30
    assert other["speech"]["frames"] == {
        "precision": 1.0,
        "recall": 0.5,
        "f1": 0.666667,
        "accuracy": pytest.approx(0.972, abs=1e-3),
    }
    assert other["music"]["frames"]["f1"] == pytest.approx(2 * 60 / (130 + 70), abs=1e-6)
    assert "| TVSM, trained on cue sheets | 100.0 (88.4) | 100.0 (85.4) |" in printed


def test_inagvad_leaves_out_collars_and_the_other_part(repositories, monkeypatch, capsys):
    code, printed, _ = run(monkeypatch, capsys, "inagvad", "--repositories", repositories)
    assert code == 0
    # Of 60 s, 0.15 s are left out at 0 s and 0.3 s at 10 s: right 8.85 s, false 9.85 s, missed 0.85 s, rest 40 s.
    row = next(line for line in printed.splitlines() if line.startswith("| Silero"))
    assert [cell.split(" ")[0] for cell in row.split("| ")[2:]] == ["82.0", "47.3", "91.2", "62.3"]
    assert "Recordings: 1." in printed


def test_openbmat_is_music_where_most_annotators_hear_it(tmp_path):
    from benchmarks.public.sets import SETS, Sources

    one = {"0": {"start": 0, "end": 20, "class": "music"}, "1": {"start": 20, "end": 60, "class": "no-music"}}
    two = {"0": {"start": 10.0, "end": 60.0, "class": "music"}}
    three = {"0": {"start": 0.0, "end": 60.0, "class": "no-music"}}
    annotations = {"annotations": {str(number): {"Spain_1": each} for number, each in enumerate((one, two, three))}}
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "MD_mapping.json").write_text(json.dumps(annotations), "utf-8")
    assert SETS["openbmat"].references(Sources(None, tmp_path)) == {"Spain_1": [(10.0, 20.0, "music")]}


def test_muspeak_has_corrected_annotations(tmp_path):
    from benchmarks.public.sets import SETS, Sources

    (tmp_path / "theconcert2.csv").write_text("0,10,m\n", "utf-8")
    (tmp_path / "theconcert2_v2.csv").write_text("0,9,m\n\n9.5,2, s\n", "utf-8-sig")
    (tmp_path / "eatmycountry.csv").write_text("1.5,2,s\n", "utf-8")
    assert SETS["muspeak"].references(Sources(None, tmp_path)) == {
        "theconcert2": [(0.0, 9.0, "m"), (9.5, 11.5, "s")],
        "eatmycountry": [(1.5, 3.5, "s")],
    }


def test_seyerlehner_labels_are_read_from_matlab(tmp_path):
    from benchmarks.public.sets import SETS, Sources
    from ms_edge.errors import UsageError

    with pytest.raises(UsageError, match="holds no references"):
        SETS["seyerlehner"].references(Sources(None, tmp_path))
    frames = np.r_[np.zeros(100), np.ones(250), np.zeros(50), np.ones(100)]
    savemat(tmp_path / "Show 1.wav.ref.label", {"fs": 100, "data": frames}, appendmat=False)
    assert SETS["seyerlehner"].references(Sources(None, tmp_path)) == {
        "Show 1": [(1.0, 3.5, "music"), (4.0, 5.0, "music")]
    }


def test_audio_is_classified_and_compared(tmp_path, monkeypatch, capsys):
    annotations, audio, out = (tmp_path / name for name in ("labels", "audio", "out"))
    for folder in (annotations, audio):
        folder.mkdir()
    for name, label in (("speech_italian_man", "s"), ("music_zaz", "m")):
        samples, rate_hz = soundfile.read(DATA / f"{name}.wav")
        soundfile.write(audio / f"{name}.wav", samples, rate_hz)
        # MuSpeak's rows are start, duration and class.
        (annotations / f"{name}.csv").write_text(f"0.0,{len(samples) / rate_hz},{label}\n", "utf-8")
    (annotations / "gone.csv").write_text("0,1,m\n", "utf-8")
    arguments = ("muspeak", "--annotations", annotations, "--audio", audio, "-o", out)
    code, printed, messages = run(monkeypatch, capsys, *arguments)
    assert code == 0
    assert "| ms-edge | 100.0 | 100.0 | 100.0 | 100.0 | 100.0 | 100.0 |" in printed
    assert "2 recordings; 1 have no audio here." in messages
    assert (out / "records.jsonl").is_file()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("avaspeech",), "a clone of github.com/biboamy/AVASpeech_Music_Labels is needed"),
        (("openbmat",), "give their folder with --annotations"),
        (("openbmat", "--annotations", "."), "holds 0 files MD_mapping.json"),
        (("seyerlehner", "--annotations", "."), "holds no reference"),
    ],
)
def test_what_is_missing_is_one_sentence(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, printed, messages = run(monkeypatch, capsys, *arguments)
    assert (code, printed, messages.count("\n")) == (1, "", 1)
    assert said in messages


def test_audio_that_is_not_cut_is_refused(monkeypatch):
    from benchmarks.public.__main__ import compared
    from benchmarks.public.sets import SETS
    from ms_edge.errors import UsageError

    with pytest.raises(UsageError, match="a is 5400 s long, and 900 s"):
        compared(SETS["avaspeech"], {"a": []}, {"a": []}, {"a": 5400.0})
