"""The public datasets: their annotations, the outputs of other systems for them, and published
results.
"""

from __future__ import annotations

import csv
import io
import json
import subprocess
import tarfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from scipy.io import loadmat

from benchmarks.peers.systems import TVSM
from ms_edge.errors import UsageError
from ms_edge.scoring.measures import CLASSES, FRAME_S, frames_of, segments_of
from ms_edge.scoring.references import Part, read_references
from ms_train.datasets.origins import find_clone

Parts = dict[str, list[Part]]  # by stem of the recording
AVASPEECH_LABELS = "biboamy/AVASpeech_Music_Labels"
INAGVAD = "ina-foss/InaGVAD"


class Sources:
    """The folders that a user has: one with clones of repositories, and one with annotations."""

    def __init__(self, repositories: Path | None, annotations: Path | None) -> None:
        self.repositories, self._annotations = repositories, annotations

    @property
    def annotations(self) -> Path:
        """The folder of annotations. Raises UsageError if it was not given."""
        if self._annotations is None:
            raise UsageError("the annotations of this dataset are needed: give their folder with --annotations.")
        return self._annotations

    def texts(self, repository: str, folder: str) -> dict[str, str]:
        """Return the text of each file in a folder of a repository's newest commit, by its name
        without suffix.

        Raises UsageError if there is no clone.
        """
        clone = find_clone(repository, self.repositories) if self.repositories else None
        if clone is None:
            raise UsageError(
                f"a clone of github.com/{repository} is needed: give its parent folder with --repositories."
            )
        command = ["git", "--git-dir", str(clone), "archive", "HEAD", folder]
        done = subprocess.run(command, capture_output=True)
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines() or ["git failed"]
            raise UsageError(f"{clone}: {folder} cannot be read ({said[-1]}).")
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            return {
                PurePosixPath(member.name).stem: content.read().decode("utf-8")
                for member in archive
                if member.isfile() and (content := archive.extractfile(member))
            }


@dataclass(frozen=True)
class PublicSet:
    """One dataset.

    `references` reads its annotations. `outputs` reads what other systems found, by their names.
    `seconds` is the duration of its recordings; None if it is that of the audio, or, without audio,
    the end of the last annotation. `published` has the results of systems in percent, by class and
    measure, and `source` says where.
    """

    title: str
    audio: str
    classes: tuple[str, ...]
    measures: tuple[str, ...]
    references: Callable[[Sources], Parts]
    outputs: Mapping[str, Callable[[Sources], Parts]] = field(default_factory=dict)
    seconds: float | None = None
    collar_s: float = 0.0
    published: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    source: str = ""


def _rows(texts: Mapping[str, str], separator: str, keep: Iterable[str] = "ms") -> Parts:
    """Read rows of start, end and label (m or s), of the labels in `keep`."""
    return {
        name: [
            (float(start), float(end), label)
            for start, end, label in (line.strip().split(separator) for line in text.splitlines() if line.strip())
            if label in keep
        ]
        for name, text in texts.items()
    }


def _avaspeech(sources: Sources) -> Parts:
    """Read AVASpeech-SMAD: speech from the labels of AVA-Speech, music from those that were added.

    The files of speech also have rows of AVA-Speech's music, which these labels replace.
    """
    music = _rows(sources.texts(AVASPEECH_LABELS, "labels/music labels"), ",")
    speech = _rows(sources.texts(AVASPEECH_LABELS, "labels/speech labels"), "\t", "s")
    return {name: [*parts, *speech[name]] for name, parts in music.items()}


def _outputs(repository: str, folder: str) -> Callable[[Sources], Parts]:
    return lambda sources: _rows(sources.texts(repository, folder), "\t")


def _inagvad(sources: Sources) -> Parts:
    """Read the test part of InaGVAD. Rows of non-speech show how long a recording is."""
    part = sources.texts(INAGVAD, "annotations/filesplit")["testset"]
    found = _table(sources.texts(INAGVAD, "annotations/vad"))
    return {row["fileid"]: found[row["fileid"]] for row in csv.DictReader(part.splitlines())}


def _inagvad_outputs(folder: str) -> Callable[[Sources], Parts]:
    return lambda sources: _table(sources.texts(INAGVAD, f"automatic_baselines/{folder}"))


def _table(texts: Mapping[str, str]) -> Parts:
    """Read tables with columns start, stop and label."""
    return {
        name: [(float(row["start"]), float(row["stop"]), row["label"]) for row in csv.DictReader(text.splitlines())]
        for name, text in texts.items()
    }


def _openbmat(sources: Sources) -> Parts:
    """Read OpenBMAT's mapping to music and no music: music where most of its annotators hear it."""
    path = _only(sources.annotations, "MD_mapping.json")
    by_annotator = json.loads(path.read_text("utf-8"))["annotations"]
    found: dict[str, list[list[Part]]] = {}
    for recordings in by_annotator.values():
        for name, parts in recordings.items():
            of_one = [(float(part["start"]), float(part["end"]), part["class"]) for part in parts.values()]
            found.setdefault(name, []).append(of_one)
    return {name: majority(answers) for name, answers in found.items()}


def majority(answers: list[list[Part]]) -> list[Part]:
    """Return the music that more than half of the answers have."""
    seconds = max((end for parts in answers for _, end, _ in parts), default=0.0)
    music = CLASSES.index("music")
    votes = np.sum([frames_of(parts, seconds)[:, music] for parts in answers], axis=0)
    return [(start * FRAME_S, end * FRAME_S, "music") for start, end in segments_of(2 * votes > len(answers)).tolist()]


def _muspeak(sources: Sources) -> Parts:
    """Read MuSpeak's annotations: rows of start, duration and m or s. NAME_v2.csv replaces NAME.csv."""
    found: Parts = {}
    for path in sorted(sources.annotations.rglob("*.csv"), key=lambda path: path.stem):
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
        parts = [(float(row[0]), float(row[0]) + float(row[1]), row[2].strip()) for row in rows]
        found[path.stem.removesuffix("_v2")] = parts
    return found


def _seyerlehner(sources: Sources) -> Parts:
    """Read the labels of Seyerlehner's recordings, NAME.wav.ref.label. These are MATLAB files: `data`
    is 1 where there is music, `fs` times a second. Raises UsageError if there is none.
    """
    found: Parts = {}
    for path in sorted(sources.annotations.rglob("*.label")):
        label = loadmat(path)
        rate_hz, frames = float(label["fs"].squeeze()), label["data"].ravel() == 1
        parts = segments_of(frames).tolist()
        found[path.name.partition(".wav")[0]] = [(start / rate_hz, end / rate_hz, "music") for start, end in parts]
    if not found:
        raise UsageError(f"{sources.annotations}: holds no references: files NAME.wav.ref.label.")
    return found


def _any(sources: Sources) -> Parts:
    """Read annotations in a format of `ms-edge score`."""
    return read_references(str(sources.annotations))


def _only(folder: Path, name: str) -> Path:
    found = sorted(folder.rglob(name))
    if len(found) != 1:
        raise UsageError(f"{folder}: holds {len(found)} files {name}, and one is needed.")
    return found[0]


TVSM_PAPER = "Hung et al. 2022, doi.org/10.1186/s13636-022-00253-8"
SETS = {
    "avaspeech": PublicSet(
        title="AVASpeech-SMAD: minutes 15 to 30 of 160 films (Hung et al. 2021, arxiv.org/abs/2111.01320)",
        audio="from YouTube, by process.py of its repository: ID.wav",
        classes=("speech", "music"),
        measures=("f1",),
        references=_avaspeech,
        outputs={
            "TVSM, trained on cue sheets": _outputs(TVSM, "Evaluation_Output/AVASpeech/TVSM-cuesheet"),
            "Venkatesh et al. 2021": _outputs(AVASPEECH_LABELS, "evaluation/synth-audio-seg/avaspeech"),
            "inaSpeechSegmenter": _outputs(AVASPEECH_LABELS, "evaluation/inaSpeechSegmenter/avaspeech"),
        },
        seconds=900.0,
        published={
            "TVSM, trained on cue sheets": {"speech f1": 88.4, "music f1": 85.4},
            "Venkatesh et al. 2021": {"speech f1": 77.6, "music f1": 80.3},
            "inaSpeechSegmenter": {"speech f1": 79.0, "music f1": 62.3},
        },
        source=TVSM_PAPER,
    ),
    "inagvad": PublicSet(
        title="InaGVAD, test part: 217 minutes of French television and radio (Doukhan et al. 2024, aclanthology.org/2024.lrec-main.785)",
        audio="on request, from ina.fr/institut-national-audiovisuel/research/dataset-project",
        classes=("speech",),
        measures=("accuracy", "precision", "recall", "f1"),
        references=_inagvad,
        outputs={
            "inaSpeechSegmenter": _inagvad_outputs("inaspeechsegmenter"),
            "LIUM_SpkDiarization": _inagvad_outputs("liumspkdiarization_csv"),
            "pyannote": _inagvad_outputs("pyannote_vad"),
            "rVAD": _inagvad_outputs("rvad_csv"),
            "Silero": _inagvad_outputs("silero_vad"),
            "SpeechBrain": _inagvad_outputs("speechbrain_vad"),
        },
        collar_s=0.15,  # on each side: its evaluation gives pyannote.metrics 0.3 s for both
        published={
            "inaSpeechSegmenter": {"speech accuracy": 93.0, "speech precision": 91.7, "speech recall": 97.0},
            "LIUM_SpkDiarization": {"speech accuracy": 83.9, "speech precision": 81.0, "speech recall": 95.5},
            "pyannote": {"speech accuracy": 88.8, "speech precision": 84.9, "speech recall": 98.8},
            "rVAD": {"speech accuracy": 69.8, "speech precision": 67.4, "speech recall": 95.9},
            "Silero": {"speech accuracy": 84.4, "speech precision": 80.5, "speech recall": 97.6},
            "SpeechBrain": {"speech accuracy": 90.9, "speech precision": 88.4, "speech recall": 97.7},
        },
        source="Doukhan et al. 2024, table 9",
    ),
    "openbmat": PublicSet(
        title="OpenBMAT: 1,647 minutes of television (Meléndez-Catalán et al. 2019, doi.org/10.5334/tismir.29)",
        audio="on request, from zenodo.org/record/3381249; --annotations is the folder with json/MD_mapping.json",
        classes=("music",),
        measures=("precision", "recall", "f1"),
        references=_openbmat,
        outputs={
            "TVSM, trained on pseudo labels": _outputs(TVSM, "Evaluation_Output/OpenBMAT/TVSM-pseudo"),
            "TVSM, trained on cue sheets": _outputs(TVSM, "Evaluation_Output/OpenBMAT/TVSM-cuesheet"),
            "Venkatesh et al. 2021": _outputs(TVSM, "Evaluation_Output/OpenBMAT/T2"),
        },
        seconds=60.0,
    ),
    "muspeak": PublicSet(
        title="MuSpeak: seven radio programmes and lectures (MIREX 2015, Music/Speech Classification and Detection)",
        audio="from mirg.city.ac.uk/datasets/muspeak/muspeak-mirex2015-detection-examples.zip; --annotations is its folder",
        classes=("speech", "music"),
        measures=("precision", "recall", "f1"),
        references=_muspeak,
    ),
    "tvsm-test": PublicSet(
        title="TVSM-test: human labels of television (Hung et al. 2022, doi.org/10.1186/s13636-022-00253-8)",
        audio="not published: zenodo.org/record/7025971 has labels and features; --annotations is TVSM-test/labels",
        classes=("speech", "music"),
        measures=("precision", "recall", "f1"),
        references=_any,
        outputs={
            "TVSM, trained on pseudo labels": _outputs(TVSM, "Evaluation_Output/TVSM-test/TVSM-pseudo"),
            "TVSM, trained on cue sheets": _outputs(TVSM, "Evaluation_Output/TVSM-test/TVSM-cuesheet"),
            "Venkatesh et al. 2021": _outputs(TVSM, "Evaluation_Output/TVSM-test/T2"),
        },
    ),
    "seyerlehner": PublicSet(
        title="Seyerlehner: nine hours of Austrian television (Seyerlehner et al. 2007, DAFx, music detection in television productions)",
        audio="from its authors; --annotations is the folder with its files NAME.wav.ref.label",
        classes=("music",),
        measures=("precision", "recall", "f1"),
        references=_seyerlehner,
    ),
}
