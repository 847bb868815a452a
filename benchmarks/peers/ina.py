"""Run inaSpeechSegmenter (its detector of speech, music and noise, not that of gender) on WAV files
(16 kHz mono).

It gives segments, not probabilities. Print a JSON line per file: the shares of its time that are
called speech and music. With the argument `timeline`, print the segments.

The code is version 0.8.0, which downloads its weights. This program takes them from the wheel of
version 0.6.8 instead, downloads them once, and keeps them in this environment.
"""

import gc
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

WEIGHTS = "keras_speech_music_noise_cnn.hdf5"
LABELS = ("speech", "music")


def prepared() -> str:
    """Return the folder where Keras keeps downloads, after the weights are in it."""
    home = Path(sys.prefix) / "keras"
    folder = home / "inaSpeechSegmenter"
    if not (folder / WEIGHTS).exists():
        pip = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary",
            ":all:",
            "-d",
            str(home),
        ]
        subprocess.run([*pip, "inaSpeechSegmenter==0.6.8"], check=True)
        with zipfile.ZipFile(next(home.glob("*0.6.8*.whl"))) as wheel:
            (home / "new").write_bytes(wheel.read(f"inaSpeechSegmenter/{WEIGHTS}"))
        folder.mkdir(exist_ok=True)
        (home / "new").rename(folder / WEIGHTS)
    return str(home)


os.environ |= {"KERAS_HOME": prepared(), "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # Keras prints its progress

from inaSpeechSegmenter import Segmenter  # noqa: E402 (it reads the environment)

segmenter = Segmenter(vad_engine="smn", detect_gender=False, ffmpeg=None, batch_size=256)
gc.freeze()  # it collects garbage after each file, half of the time for a short one
for line in sys.stdin:
    try:
        found = segmenter(line.rstrip("\n"))
    except UnboundLocalError:  # it makes no patch from 67 frames, one less than this
        found = [("noEnergy", 0.0, 0.68)]
    parts = [(start_s, end_s, label) for label, start_s, end_s in found]
    if "timeline" in sys.argv[1:]:
        answer = {"segments": parts}
    else:
        total_s = parts[-1][1]
        answer = {
            label: sum(end_s - start_s for start_s, end_s, name in parts if name == label) / total_s for label in LABELS
        }
    print(json.dumps(answer), file=answers, flush=True)
