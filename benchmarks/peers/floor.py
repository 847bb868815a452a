"""Do the least that any system must do: read the file and transform each frame once. Print a JSON
line per file: the number of frames.

16-bit samples are read as integers. Audio with another rate or more channels is converted to 16 kHz
mono. The arguments are `frame_length`, `frame_step` and `fft_length` of a model, which define the
frames.
"""

import json
import sys

import numpy as np
import soundfile
from scipy.fft import rfft

RATE_HZ, BLOCK, FRAMES = 16_000, 1 << 16, 128
LENGTH, STEP, SIZE = map(int, sys.argv[1:4])


def blocks(path: str):
    """Yield mono float32 blocks at 16 kHz."""
    with soundfile.SoundFile(path) as file:
        kind = "int16" if file.subtype == "PCM_16" else "float32"
        buffer = np.empty((BLOCK // file.channels, file.channels), kind)
        resampler = None
        if file.samplerate != RATE_HZ:
            import soxr

            resampler = soxr.ResampleStream(file.samplerate, RATE_HZ, 1, dtype="float32", quality="HQ")
        while count := file.buffer_read_into(buffer, kind):
            part = buffer[:count].astype(np.float32)
            mono = part[:, 0] if file.channels == 1 else part @ np.full(file.channels, 1 / file.channels, np.float32)
            yield resampler.resample_chunk(mono) if resampler else mono


for line in sys.stdin:
    done, rest = 0, np.empty(0, np.float32)
    for block in blocks(line.rstrip("\n")):
        samples = np.concatenate([rest, block])
        count = max(0, 1 + (len(samples) - LENGTH) // STEP)
        frames = np.lib.stride_tricks.sliding_window_view(samples, LENGTH)[::STEP] if count else samples[:0]
        for start in range(0, count, FRAMES):
            rfft(frames[start : start + FRAMES], SIZE)
        done += count
        rest = samples[count * STEP :]
    print(json.dumps({"frames": done}), flush=True)
