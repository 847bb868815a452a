"""Measure how long one clip and one streamed hop take, and each stage of them. benchmarks.speed
starts it in ms-edge's environment.

    python latency.py RUNS SECONDS MODEL FILE...

Times each FILE from its path to its label, and the hops of a stream (the first FILE's samples, in
blocks of one hop): percentiles of RUNS runs without instruments, then the mean of each stage over a
quarter as many runs with instruments. Each part takes at most SECONDS. Time outside the stages is
the rest. Prints JSON.
"""

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

import numpy as np

from ms_edge.audio.file import AudioFile, read_mono
from ms_edge.classifier import Classifier

STAGES = ("decode", "resample", "front_end", "network", "vote", "rest")
PERCENTILES = (50, 95, 99, 99.9)


class Stages:
    """Instruments of a classifier: `seconds` per stage since the last reset."""

    def __init__(self, classifier: Classifier) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        inner: Any = classifier
        inner._inputs = self._timed("front_end", inner._inputs)
        inner.model.scores = self._timed("network", inner.model.scores)
        if inner._features:  # for a model that takes runs of windows
            inner._features = self._timed("front_end", inner._features)
            inner.model.run_scores = self._timed("network", inner.model.run_scores)
        for name in ("_classification", "_window"):  # of a recording, and of a window of a stream
            setattr(inner, name, self._timed("vote", getattr(inner, name)))
        decoded = AudioFile._decoded

        def timed_blocks(source: AudioFile) -> Iterator[Any]:
            blocks = decoded(source)
            following = self._timed("decode", lambda: next(blocks, None))
            while (block := following()) is not None:
                yield block

        AudioFile._decoded = timed_blocks  # type: ignore[method-assign]
        AudioFile.__init__ = self._timed("decode", AudioFile.__init__)  # type: ignore[method-assign]
        import soxr

        stages, stream = self, soxr.ResampleStream

        class Timed:
            def __init__(self, *given: Any, **more: Any) -> None:
                stream_of = stages._timed("resample", stream)(*given, **more)
                self.resample_chunk = stages._timed("resample", stream_of.resample_chunk)

        soxr.ResampleStream = Timed

    def _timed(self, stage: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*given: Any, **more: Any) -> Any:
            began = time.perf_counter()
            try:
                return call(*given, **more)
            finally:
                self.seconds[stage] += time.perf_counter() - began

        return timed


def hops(classifier: Classifier, samples: Any, heard: Counter[str]) -> Iterator[float]:
    """Yield the seconds from the arrival of each hop of an endless stream to its line; count the
    labels.
    """
    spec = classifier.spec
    blocks = [samples[at : at + spec.hop_samples] for at in range(0, len(samples), spec.hop_samples)]
    windows = classifier.stream(cycle(blocks), spec.sample_rate_hz)
    next(windows)
    began = time.perf_counter()
    for window in windows:
        now = time.perf_counter()
        heard[window.label] += 1
        yield now - began
        began = time.perf_counter()


def clips(classifier: Classifier, path: str) -> Iterator[float]:
    """Yield the seconds from a path to its label, endlessly."""
    while True:
        began = time.perf_counter()
        classifier.classify(path)
        yield time.perf_counter() - began


def some(times: Iterator[float], most: int, patience_s: float) -> list[float]:
    """Return at most `count` values, and only as many as the time allows; at least one."""
    found: list[float] = []
    end = time.perf_counter() + patience_s
    for seconds in times:
        found.append(seconds)
        if len(found) == most or time.perf_counter() > end:
            break
    return found


def main() -> None:
    """Measure and print JSON."""
    runs, patience_s, model, paths = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3] or None, sys.argv[4:]
    classifier = Classifier(model, "cpu")
    samples = read_mono(paths[0], classifier.spec.sample_rate_hz)
    samples = samples[: len(samples) // classifier.spec.hop_samples * classifier.spec.hop_samples]
    heard: Counter[str] = Counter()
    works = {f"file {index}": (lambda path=path: clips(classifier, path)) for index, path in enumerate(paths)}
    works["hop"] = lambda: hops(classifier, samples, heard)
    found: dict[str, Any] = {name: {} for name in works}
    for name, work in works.items():
        some(work(), 3, patience_s)
        times = some(work(), runs, patience_s)
        found[name] |= {
            "runs": len(times),
            **{f"p{at:g}": float(np.percentile(times, at)) for at in PERCENTILES},
        }
    for index, path in enumerate(paths):
        found[f"file {index}"]["answer"] = classifier.classify(path).record()
    found["hop"]["answer"] = heard.most_common(1)[0][0]
    stages = Stages(classifier)
    for name, work in works.items():
        for stage in STAGES:
            stages.seconds[stage] = 0.0
        times = some(work(), max(3, runs // 4), patience_s / 2)
        stages.seconds["rest"] = max(0.0, sum(times) - sum(stages.seconds.values()))
        found[name]["stages"] = {stage: seconds / len(times) for stage, seconds in stages.seconds.items()}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
