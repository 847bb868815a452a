"""Run WebRTC's voice activity detector (`webrtcvad-wheels`) in its strictest mode on WAV files (16
kHz mono).

The answer is the share of voiced frames of 30 ms. It separates sound from quiet, and takes much
music for speech.
"""

import json
import sys

import soundfile
import webrtcvad

FRAME = 480  # samples in 30 ms

for line in sys.stdin:
    audio, rate_hz = soundfile.read(line.rstrip("\n"), dtype="int16")
    detector, samples = webrtcvad.Vad(3), audio.tobytes()
    size = 2 * FRAME
    voiced = [detector.is_speech(samples[at : at + size], rate_hz) for at in range(0, len(samples) - size + 1, size)]
    print(json.dumps({"speech": sum(voiced) / len(voiced)}), flush=True)
