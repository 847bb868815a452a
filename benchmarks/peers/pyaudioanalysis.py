"""Run pyAudioAnalysis' speech/music classifier `svm_rbf_sm` on WAV files (16 kHz mono): one pair of
probabilities per file.
"""

import json
import sys
from pathlib import Path

import pyAudioAnalysis
from pyAudioAnalysis.audioTrainTest import file_classification

MODEL = Path(pyAudioAnalysis.__file__).parent / "data" / "models" / "svm_rbf_sm"

for line in sys.stdin:
    _, probabilities, classes = file_classification(line.rstrip("\n"), str(MODEL), "svm_rbf")
    print(json.dumps(dict(zip(classes, map(float, probabilities), strict=True))), flush=True)
