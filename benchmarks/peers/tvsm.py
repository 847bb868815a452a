"""Run TVSM's CRNN on WAV files (16 kHz mono) and print a JSON line per file: the mean over its
answers, one every 0.192 s.

The first argument is a git directory of github.com/biboamy/TVSM-dataset (Apache-2.0), which holds
the weights. The front end is that of its `inference/`, without torchaudio: power spectra of 1,024
samples every 512 (periodic Hann windows, reflected ends), 128 HTK mel bands, and PCEN. Its PCEN
smooths from band to band and not over time, because it was trained so. Chunks of 20 s are
independent. The probabilities of six frames are pooled by their maximum. Denormal numbers, of which
the weights have many, count as zero: this is 40 times as fast, and the answers are the same.

With the argument `timeline`, print those answers.
"""

import io
import json
import subprocess
import sys

import numpy as np
import soundfile
import torch
from torch import nn

COMMIT = "1ddf789ce895ed6db795db34f3f9e2bc83f4f347"
WEIGHTS = "inference/models/TVSM-pseudo/epoch=28-step=67192.ckpt.torch.pt"
RATE_HZ, SIZE, STEP, BANDS, POOL = 16_000, 1024, 512, 128, 6
CHUNK = RATE_HZ * 20 // STEP  # frames


class CRNN(nn.Module):
    """The network, from (1, bands, frames) to logits of music and speech (1, 2, frames); its names
    are those of the weights.
    """

    def __init__(self) -> None:
        super().__init__()

        def block(before: int, after: int, size: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(before, after, size, 1, size // 2), nn.ReLU(), nn.MaxPool2d((2, 1)), nn.BatchNorm2d(after)
            )

        self.c1, self.c2, self.c3 = block(1, 64, 3), block(64, 64, 11), block(64, 16, 11)
        self.lstm1 = nn.Sequential(nn.GRU(16 * BANDS // 8, 80, bidirectional=True, batch_first=True))
        self.b1 = nn.BatchNorm1d(160)
        self.lstm2 = nn.Sequential(nn.GRU(160, 40, bidirectional=True, batch_first=True))
        self.b2 = nn.BatchNorm1d(80)
        self.last = nn.Linear(80, 2)

    def forward(self, features: torch.Tensor) -> torch.Tensor:  # noqa: D102
        found = self.c3(self.c2(self.c1(features.unsqueeze(1)))).flatten(1, 2)  # (1, 256, frames)
        found = self.b1(self.lstm1(found.transpose(1, 2))[0].transpose(1, 2))
        found = self.b2(self.lstm2(found.transpose(1, 2))[0].transpose(1, 2))
        return self.last(found.transpose(1, 2)).transpose(1, 2)


def mel_bands() -> np.ndarray:
    """Return the mel filters (bins, bands): triangles, evenly spaced on HTK's mel scale."""
    hz = np.linspace(0, RATE_HZ / 2, SIZE // 2 + 1)
    top = 2595 * np.log10(1 + RATE_HZ / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, BANDS + 2) / 2595) - 1)
    rising = (hz[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hz[:, None]) / (edges[2:] - edges[1:-1])
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)


def pcen(mel: np.ndarray) -> np.ndarray:
    """Normalise a spectrogram (bands, frames) by PCEN."""
    smooth = mel.copy()
    for band in range(1, len(mel)):
        smooth[band] = 0.975 * smooth[band - 1] + 0.025 * mel[band]
    return np.sqrt(mel / (smooth + 1e-6) ** 0.98 + 2) - np.sqrt(2)


def features_of(audio: np.ndarray) -> np.ndarray:
    """Return features (bands, 1 + samples // STEP) of samples (n,), at least half a window."""
    padded = np.pad(audio, SIZE // 2, "reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, SIZE)[::STEP]
    window = np.hanning(SIZE + 1)[:-1].astype(np.float32)
    power = np.abs(np.fft.rfft(frames * window)).astype(np.float32) ** 2
    return pcen((power @ mel_bands()).T).astype(np.float32)


def main() -> None:
    """Read paths from standard input and print an answer for each."""
    command = ["git", "--git-dir", sys.argv[1], "show", f"{COMMIT}:{WEIGHTS}"]
    weights = io.BytesIO(subprocess.run(command, capture_output=True, check=True).stdout)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    network = CRNN()
    network.load_state_dict(torch.load(weights, weights_only=True, map_location="cpu"))
    network.eval()
    for line in sys.stdin:
        audio, _ = soundfile.read(line.rstrip("\n"), dtype="float32")
        features = torch.from_numpy(features_of(audio))[None]
        with torch.inference_mode():
            chunks = [network(features[..., at : at + CHUNK]) for at in range(0, features.shape[-1], CHUNK)]
            scores = torch.max_pool1d(torch.sigmoid(torch.cat(chunks, -1)), POOL, POOL)[0].numpy()
        music, speech = scores.astype(float)
        if "timeline" in sys.argv[2:]:
            step_s = POOL * STEP / RATE_HZ
            times = {"first_s": step_s / 2, "step_s": step_s}
            answer: dict = {"scores": {**times, "speech": speech.tolist(), "music": music.tolist()}}
        else:
            answer = {"speech": float(speech.mean()), "music": float(music.mean())}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
