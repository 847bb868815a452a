"""Parity: the same recordings through TensorFlow and through anything that claims to equal it, stage by stage.

What is compared with the reference (`ms_export.reference`) is an `Implementation`: a name, a function from a case to the same
stages (or some of them), and the tolerance of each. `check` compares; `ms_export.implementations` lists what there is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ms_edge.features.frontend import mel_filterbank
from ms_edge.features.spec import FrontEndSpec
from ms_edge.selftest.deviation import Deviation, deviation
from ms_export.cases import Case
from ms_export.tolerances import PASSBAND, RESAMPLED, SURE, TOLERANCES

Array = NDArray[Any]
Stages = dict[str, Array]  # samples (n,) at the spec's rate; then (windows, ...) each

STAGES = ("samples", "spectrum", "features", "logits", "scores", "label")
SERVED = "as served"


@dataclass(frozen=True)
class Implementation:
    """Something that claims to equal the reference: from a case to stages, and how far each may be from it.

    `network` are the tolerances of logits and scores from what the reference's network makes of the implementation's own features, for
    cases that somebody recorded at the model's rate: how steep the network is plays no part in these. `resampled` are those of cases
    that come at another rate; None: it is not asked for those, since what it shows has nothing to do with resampling.
    `real_only`: it claims nothing of signals that nobody recorded. It is asked for `every` so-many-th of the cases it could be asked for.
    """

    name: str
    stages: Callable[[Case], Stages]
    tolerances: Mapping[str, float] = field(default_factory=lambda: TOLERANCES)
    resampled: Mapping[str, float] | None = field(default_factory=lambda: RESAMPLED)
    network: Mapping[str, float] = field(default_factory=dict)
    real_only: bool = False
    every: int = 1


@dataclass(frozen=True)
class Finding:
    """One stage of one case. `same_features`: compared with the reference's network on the implementation's features."""

    case: str
    stage: str
    resampled: bool
    deviation: Deviation
    same_features: bool = False


@dataclass(frozen=True)
class Report:
    """What one implementation's comparison with `reference` found over the cases it was asked for, and their windows."""

    name: str
    findings: tuple[Finding, ...]
    cases: int
    windows: int
    reference: str = "TensorFlow"

    @property
    def passed(self) -> bool:
        """Every stage of every case is within its tolerance."""
        return bool(self.findings) and all(finding.deviation.passed for finding in self.findings)

    def worst(self) -> list[Finding]:
        """The finding nearest to or furthest over its tolerance, per stage: end to end, of the network alone, and resampled."""
        found = []
        for kind in ((False, False), (False, True), (True, False)):
            for stage in STAGES:
                of_stage = [f for f in self.findings if f.stage == stage and (f.resampled, f.same_features) == kind]
                if of_stage:
                    found.append(max(of_stage, key=lambda f: nearness(f.deviation)))
        return found

    def describe(self) -> str:
        """What is wrong, in one sentence without its full stop."""
        if not self.findings:
            return f"{self.name} was compared with nothing; name recordings with --data"
        wrong = [f for f in self.worst() if not f.deviation.passed]
        if not wrong:
            return f"{self.name} equals {self.reference} on {self.cases} cases"
        parts = ", ".join(
            f"{f.stage}{' of the same features' * f.same_features} {f.deviation} on {f.case!r}" for f in wrong
        )
        return f"{self.name} differs from {self.reference}: {parts}"


def nearness(found: Deviation) -> tuple[bool, float, float]:
    """What deviations of different tolerances are put in order by: over it or not, what share of it they are, and how large."""
    largest = float("inf") if np.isnan(found.largest) else found.largest
    share = largest / found.tolerance if found.tolerance else float("inf") if largest else 0.0
    return not found.passed, share, largest


def check(
    implementations: Sequence[Implementation],
    reference: Callable[[Case], Stages],
    cases: Iterable[Case],
    spec: FrontEndSpec,
    network: Callable[[Array], tuple[Array, Array]] | None = None,
) -> list[Report]:
    """Compare implementations with a reference over cases: one report each, in their order.

    A case is resampled where its rate is not the spec's. Each implementation is asked for what it has; a stage
    that it leaves out is not compared, one that the reference leaves out neither. `network` is the reference's: features (n, ...)
    to logits and scores (n, ...).
    """
    findings: list[list[Finding]] = [[] for _ in implementations]
    asked = [0] * len(implementations)
    cases_of, windows_of = list(asked), list(asked)
    given: Array | None = None
    labels = {(index, resampled): _Labels() for index in range(len(implementations)) for resampled in (False, True)}
    for case in cases:
        resampled = case.sample_rate_hz != spec.sample_rate_hz
        expected = reference(case)
        for index, implementation in enumerate(implementations):
            tolerances = implementation.resampled if resampled else implementation.tolerances
            if tolerances is None or (implementation.real_only and not case.real):
                continue
            asked[index] += 1
            if (asked[index] - 1) % implementation.every:
                continue
            cases_of[index] += 1
            windows_of[index] += len(expected["features"])
            found = implementation.stages(case)
            for stage in STAGES:
                if stage not in found or stage not in expected or stage not in tolerances:
                    continue
                if stage == "label":
                    labels[index, resampled].add(case.name, found, expected, tolerances)
                    continue
                if stage == "samples" and resampled:
                    result = _samples_deviation(found[stage], expected[stage], case, spec, tolerances[stage])
                else:
                    scale = 1.0
                    if stage in ("samples", "spectrum"):
                        scale = _peak(expected[stage], resampled)
                    elif stage == "logits":
                        scale = _logit_scale(expected[stage])
                    seen = _in_passband(stage, spec, case) if resampled else ...
                    result = deviation(found[stage][seen], expected[stage][seen], tolerances[stage], scale)
                findings[index].append(Finding(case.name, stage, resampled, result))
            same_shape = found["features"].shape == expected["features"].shape if "features" in found else False
            if network and implementation.network and case.real and not resampled and same_shape:
                if found["features"] is not given:  # the same of several implementations
                    given = found["features"]
                    logits, scores = network(given)
                for stage, alone in (("logits", logits), ("scores", scores)):
                    if stage in found:
                        scale = _logit_scale(alone) if stage == "logits" else 1.0
                        result = deviation(found[stage], alone, implementation.network[stage], scale)
                        findings[index].append(Finding(case.name, stage, False, result, same_features=True))
    for (index, resampled), seen in labels.items():
        if seen.windows:
            share = Deviation(seen.others / seen.windows, seen.tolerance)
            findings[index].append(Finding(seen.first or "every case", "label", resampled, share))
    return [
        Report(implementation.name, tuple(found), compared, windows)
        for implementation, found, compared, windows in zip(
            implementations, findings, cases_of, windows_of, strict=True
        )
    ]


@dataclass
class _Labels:
    """Windows seen, those of them with another label, and the first case with one."""

    windows: int = 0
    others: int = 0
    first: str = ""
    tolerance: float = 0.0

    def add(self, case: str, found: Stages, expected: Stages, tolerances: Mapping[str, float]) -> None:
        self.tolerance = tolerances["label"]
        # Near a border either label will do.
        clear = expected["margin"] > min(SURE, 2 * tolerances.get("scores", 0.0))
        self.windows += int(clear.sum())
        if found["label"].shape != expected["label"].shape:
            others = int(clear.sum())
        else:
            others = int(((found["label"] != expected["label"]) & clear).sum())
        self.others += others
        self.first = self.first or (case if others else "")


def _logit_scale(expected: Array) -> float:
    return max(1.0, float(np.abs(expected).max(initial=0.0)))


def _peak(expected: Array, resampled: bool) -> float:
    # What a filter leaves of an impulse outside its band is no measure of anything: -60 dB of a full-scale tone is the least.
    largest = float(np.abs(expected).max(initial=0.0))
    return max(largest, 1e-3 * expected.shape[-1]) if resampled else largest or 1.0


def _in_passband(stage: str, spec: FrontEndSpec, case: Case) -> Any:
    """Index of the bins or bands of a stage whose frequencies both resamplers let through, and all of another stage."""
    top_hz = PASSBAND * min(case.sample_rate_hz, spec.sample_rate_hz) / 2
    bin_hz = spec.sample_rate_hz / spec.fft_length
    bins = max(1, int(top_hz / bin_hz) - 4)  # less what the window smears
    if stage == "spectrum":
        return np.s_[..., :bins]
    if stage != "features":
        return ...
    if spec.mel:
        bins = max(1, int((mel_filterbank(spec)[bins:] == 0).all(axis=0).sum()))
    return np.s_[:, :bins] if spec.layout == "bins_frames" else np.s_[..., :bins]


def _samples_deviation(found: Array, expected: Array, case: Case, spec: FrontEndSpec, tolerance: float) -> Deviation:
    """Relative RMS difference of two resampled signals below `PASSBAND` of the lower Nyquist frequency, their ends aside.

    Above it two good filters may differ; at the ends they see the zeros around a recording through different lengths.
    """
    if found.shape != expected.shape:
        return Deviation(float("inf"), tolerance, f"{found.shape[0]} samples instead of {expected.shape[0]}")
    top = int(PASSBAND * min(1.0, case.sample_rate_hz / spec.sample_rate_hz) * len(expected) / 2)
    fade = np.hanning(len(expected))
    difference = np.fft.rfft(fade * (found.astype(np.float64) - expected))[:top]
    whole = np.fft.rfft(fade * expected)
    # Of the whole signal, and of no less than -60 dB of full scale: of what lies outside the passband nothing is expected in it.
    scale = max(float(np.linalg.norm(whole)), 1e-3 * float(np.linalg.norm(fade)) * np.sqrt(len(fade)) / 2)
    return Deviation(float(np.linalg.norm(difference)) / scale, tolerance)
