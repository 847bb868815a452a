"""Rendered windows on disk: several processes render them once, and many epochs use them.

FOLDER/bank-DIGEST/LENGTH.spectra.f16 (windows, frames, bins), LENGTH.peaks.f32 (windows, 2),
LENGTH.targets.f32 (windows, labels), LENGTH.done (a byte for each chunk)

A window is stored as its spectrum (or mel bands) before the logarithm, where a gain is a factor.
Using it needs no transform, and 48 mel bands take a seventh of the space of the samples. A stored
window is some frames longer than a used one (SLACK_S) and is scaled to its own peak; the peaks of
its samples and of its spectrum are stored too. The folder's name is the digest of everything that
decides the windows, including the source code that renders them, so that a bank is never out of
date. An interrupted bank is completed by the next training. Two processes may write the same bank,
because they write the same bytes.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ms_edge.arrays import Float32
from ms_edge.errors import reason
from ms_edge.features import frontend
from ms_edge.features.frontend import FrontEnd
from ms_edge.features.spec import FrontEndSpec
from ms_train import signals
from ms_train.augment.scenes import Scenes, random_batch
from ms_train.augment.store import Shapes, Store
from ms_train.datasets import activity
from ms_train.errors import RunError
from ms_train.signals import Augment, Rng

SLACK_S = 0.1  # largest shift of a window when it is used
GAIN_DB = (-6.0, 6.0)  # random gain of a window when it is used
CHUNK_S = 256.0  # of windows in a chunk
PARALLEL_S = 2000.0  # of windows; with less, starting other processes takes longer than it saves
NAMES = ("spectra.f16", "peaks.f32", "targets.f32", "done")
Chunk = tuple[int, int, int, int]  # of windows: length in samples, number, first window and end
LIBRARIES = ("numpy", "scipy", "soxr", "soundfile")


@dataclass(frozen=True)
class Plan:
    """The content of a bank: windows of `scenes`, augmented by `augment`; `counts` by their length
    in samples.
    """

    scenes: Scenes
    augment: Augment
    counts: Mapping[int, int]
    seed: int

    @property
    def spec(self) -> FrontEndSpec:
        """The front end of the features."""
        return self.scenes.pool.spec

    @property
    def slack_frames(self) -> int:
        """The number of frames by which stored windows are longer than used ones."""
        return 0 if self.scenes.pool.apart else round(SLACK_S * self.spec.sample_rate_hz / self.spec.frame_step)

    @property
    def slack(self) -> int:
        """The number of samples by which stored windows are longer than used ones."""
        return self.slack_frames * self.spec.frame_step

    def chunks(self) -> Iterator[Chunk]:
        """Yield all chunks, length by length."""
        for length, count in self.counts.items():
            size = max(1, int(CHUNK_S * self.spec.sample_rate_hz / length))
            for number, first in enumerate(range(0, count, size)):
                yield length, number, first, min(count, first + size)

    def render(self, chunk: Chunk) -> tuple[Float32, Float32]:
        """Return the windows (end - first, length + slack) of a chunk and their targets, which
        follow from seed and number.
        """
        length, number, first, end = chunk
        rng = np.random.default_rng([self.seed, length, number])
        return random_batch(self.scenes, self.augment, length + self.slack, end - first, rng, self.slack)


def digest(facts: Mapping[str, Any]) -> str:
    """Return the SHA-256 of what decides a bank: facts about the data (JSON values), source code,
    and library versions.
    """
    code = sorted(Path(__file__).parent.glob("*.py"))
    code += [Path(str(module.__file__)) for module in (activity, signals, frontend)]
    versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
    found = hashlib.sha256(json.dumps([facts, versions], sort_keys=True, default=str).encode())
    for path in code:
        found.update(path.read_bytes())
    return found.hexdigest()


class Bank:
    """The windows of a plan in `folder`; missing ones are rendered.

    Without a folder, or if it cannot be written, one process renders them into an unnamed file
    under `other`. Raises RunError(`no-room`) if the disk is too full.
    """

    def __init__(self, folder: Path | None, plan: Plan, other: Path, processes: int | None = None) -> None:
        self.plan = plan
        self.counts = {length: count for length, count in plan.counts.items() if count}
        try:
            self._store = Store(folder, other, tuple(map(self._shapes, self.counts)))
            self._fill((processes or os.cpu_count() or 1) if self._store.folder else 1)
        except OSError as error:
            size = sum(2 * count * math.prod(self._stored(length)) for length, count in self.counts.items())
            raise RunError(
                "no-room",
                f"{folder or other}: {size / 1e9:.1f} GB of training windows cannot be written"
                f" ({reason(error)}); make room, or give --cache DIR where there is some.",
            ) from None
        self._maps = {length: [self._store.read(f"{length}.{name}") for name in NAMES] for length in self.counts}

    def _shapes(self, length: int) -> Shapes:
        count, labels = self.counts[length], len(self.plan.scenes.pool.labels)
        chunks = sum(one == length for one, *_ in self.plan.chunks())
        kinds = (
            (np.float16, (count, *self._stored(length))),
            (np.float32, (count, 2)),
            (np.float32, (count, labels)),
            (np.uint8, (chunks,)),
        )
        return {f"{length}.{name}": kind for name, kind in zip(NAMES, kinds, strict=True)}

    def _stored(self, length: int) -> tuple[int, int]:
        """Return the frames and bins of a stored window."""
        return self.plan.spec.frames(length) + self.plan.slack_frames, self.plan.spec.bins

    def _fill(self, processes: int) -> None:
        done = {length: self._store.read(f"{length}.done") for length in self.counts}
        todo = [chunk for chunk in self.plan.chunks() if not done[chunk[0]][chunk[1]]]
        windows = sum(end - first for *_, first, end in todo)
        seconds = sum((end - first) * length for length, _, first, end in todo) / self.plan.spec.sample_rate_hz
        with tqdm(total=windows, desc="rendering windows", unit="window", file=sys.stderr, disable=None) as bar:
            if processes < 2 or seconds < PARALLEL_S:
                for chunk in todo:
                    _render(self.plan, self._store, chunk)
                    bar.update(chunk[3] - chunk[2])
                return
            context = multiprocessing.get_context("spawn")  # a forked process may hang because of TensorFlow's threads
            with ProcessPoolExecutor(processes, context, _begin, (self.plan, self._store)) as pool:
                jobs = {pool.submit(_work, chunk): chunk for chunk in todo}
                try:
                    for job in as_completed(jobs):
                        job.result()
                        bar.update(jobs[job][3] - jobs[job][2])
                except BaseException:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise

    def features(self, length: int, rows: Sequence[int] | NDArray[np.int64], rng: Rng) -> tuple[Float32, Float32]:
        """Return features (n, frames, bins), or (n, bins, frames), float32 of windows by their
        numbers, and their targets.

        Each window gets a random shift and a random gain, which never clips its samples.
        """
        stored, peaks, targets, _ = self._maps[length]
        spec, frames = self.plan.spec, self.plan.spec.frames(length)
        shifts = rng.integers(0, self.plan.slack_frames + 1, len(rows))
        gains = np.minimum(10 ** (rng.uniform(*GAIN_DB, len(rows)) / 20), 1 / peaks[rows, 0])
        factors = (gains**2 if spec.magnitude == "power" else gains) * peaks[rows, 1]
        out = np.empty((len(rows), frames, spec.bins), np.float32)
        for at, (row, shift, factor) in enumerate(zip(rows, shifts, factors, strict=True)):
            np.multiply(stored[row, shift : shift + frames], np.float32(factor), out=out[at], dtype=np.float32)
        if spec.log_floor is not None:
            np.log(np.add(out, np.float32(spec.log_floor), out=out), out=out)
        return out.swapaxes(1, 2) if spec.layout == "bins_frames" else out, np.array(targets[rows])


_given: tuple[Plan, Store]  # set in each rendering process


def _begin(plan: Plan, store: Store) -> None:
    global _given
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one ends it
    _given = plan, store


def _work(chunk: Chunk) -> None:
    _render(*_given, chunk)


def _render(plan: Plan, store: Store, chunk: Chunk) -> None:
    """Render a chunk and write it; the mark that it is complete is written last."""
    length, number, first, _ = chunk
    windows, targets = plan.render(chunk)
    front_end = FrontEnd(replace(plan.spec, log_floor=None, layout="frames_bins"))
    spectra = np.stack([front_end.features(window) for window in windows])
    peaks = np.maximum([np.abs(windows).max(axis=1), spectra.max(axis=(1, 2))], 1e-6).T.astype(np.float32)
    whole = (spectra / peaks[:, 1, None, None]).astype(np.float16)
    for name, values in zip(NAMES, (whole, peaks, targets), strict=False):
        store.write(f"{length}.{name}", first, values)
    store.write(f"{length}.done", number, np.ones(1, np.uint8))
