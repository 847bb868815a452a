"""Networks that answer runs of windows: they compute once what several windows share.

Such a network ends in the mean of its layer `window_scores` (`ms_train.scores.outputs`). That layer
takes any number of frames and gives one window every few frames. The model file ends in that layer:
features (batch, frames, bins) to scores (batch, windows, labels).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import keras
import numpy as np

from ms_edge.features.frontend import FrontEnd
from ms_edge.model.session import Model
from ms_edge.selftest.deviation import deviation
from ms_export.cases import Real, synthetic_signals
from ms_export.errors import ExportError
from ms_export.implementations import OnnxNetwork
from ms_export.parity import Finding, Report
from ms_export.reference import BATCH, batches, in_batches
from ms_export.source import Run
from ms_export.tolerances import NETWORK_TOLERANCES, STEPS_TOLERANCE, TOLERANCES
from ms_train.scores.outputs import of_windows

RUNS, RUNS_OF_KERAS = "runs of windows", "runs of windows, Keras"
# Lengths of runs, in steps after the first window: none, one, some, and the length of a batch as
# served.
RUN_STEPS = (0, 1, 3, 38, 388)


@dataclass(frozen=True)
class Stepped:
    """`network` takes any number of frames and gives logits and scores (batch, windows, ...), one
    every `step_frames` frames, and the level if the run has one.
    """

    network: keras.Model
    step_frames: int


def stepped(run: Run) -> Stepped | None:
    """Return a run's network as one that answers runs of windows, or None if it is not a mean over
    windows.

    Raises ExportError(`bad-network`) if its windows are not those of the run's spec at a constant
    step.
    """
    network = of_windows(run.level.network if run.level else run.network)
    if network is None:
        return None
    clip, bins = run.spec.feature_shape

    def windows(frames: int) -> int:
        return int(network(np.zeros((1, frames, bins), np.float32), training=False)[1].shape[1])

    # A window may leave out the last frames of its clip, so the second window may come before a
    # whole step.
    second, third = (
        next((more for more in range(1, 2 * clip) if windows(clip + more) == count), 0) for count in (2, 3)
    )
    step = third - second
    if run.spec.layout != "frames_bins" or step < 1 or any(windows(clip + n * step) != n + 1 for n in (0, 1, 2, 10)):
        raise ExportError(
            "bad-network",
            f"{run.recipe}: its layer window_scores must give one answer for {clip} frames, and another one every so many more.",
        )
    return Stepped(network, step)


def check(model: Model, content: bytes, run: Run, signals: Mapping[str, Real]) -> list[Report]:
    """Compare a model's runs of windows with its single windows, and with Keras; return a report of
    each.

    Return no report if the model answers no runs, or is a variant in lower precision, whose
    rounding makes larger differences.
    """
    step, spec = model.metadata.step_frames, model.metadata.spec
    found = stepped(run)
    if step is None or found is None or "variant" in model.metadata.parity:
        return []
    clip = spec.frames(spec.clip_samples)
    front_end, network = FrontEnd(spec), OnnxNetwork(content, batch=1)
    single: list[Finding] = []
    of_keras: list[Finding] = []
    count = 0
    for frames in (*(clip + steps * step for steps in RUN_STEPS), clip + step - 1):
        length = spec.frame_length + (frames - 1) * spec.frame_step
        made = {name: make() for name, make in synthetic_signals(spec, length).items()}
        made |= {name: real.of(length, spec.sample_rate_hz) for name, real in signals.items()}
        starts = range(0, frames - clip + 1, step)
        runs = {name: front_end.features(samples.astype(np.float32)) for name, samples in made.items()}
        whole = np.stack([features[: starts[-1] + clip] for features in runs.values()])
        answers = in_batches(lambda rows: found.network(rows, training=False)[:2], whole)
        for row, (name, features) in enumerate(runs.items()):
            case = f"{name}, {frames:,} frames"
            alone = np.stack([features[start : start + clip] for start in starts])
            expected = np.concatenate([model.scores(batch) for batch in batches(alone, BATCH)])
            together = model.run_scores(features)
            single.append(Finding(case, "scores", False, deviation(together, expected, STEPS_TOLERANCE), True))
            count += len(starts)
            for stage, mine, theirs in zip(
                ("logits", "scores"),
                network(whole[row : row + 1]),
                (answer[row] for answer in answers),
                strict=True,
            ):
                allowed = (NETWORK_TOLERANCES if name in signals else TOLERANCES)[stage]
                scale = max(1.0, float(np.abs(theirs).max())) if stage == "logits" else 1.0
                of_keras.append(Finding(case, stage, False, deviation(mine, theirs, allowed, scale), True))
    return [
        Report(RUNS, tuple(single), len(single), count, "single windows"),
        Report(RUNS_OF_KERAS, tuple(of_keras), len(single), count),
    ]
