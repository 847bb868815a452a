"""Parity: the same recordings through TensorFlow and through each implementation that must equal
it, compared stage by stage.

`check` compares each `Implementation` with the reference (`ms_export.reference`). An implementation
has a name, a function from a case to the same stages (or some of them), and a tolerance for each
stage. `ms_export.implementations` lists them all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import next_fast_len, rfft

from ms_edge.features.frontend import mel_filterbank
from ms_edge.features.spec import FrontEndSpec
from ms_edge.selftest.deviation import Deviation, deviation
from ms_export.cases import Case
from ms_export.tolerances import PASSBAND, RESAMPLED, SURE, TOLERANCES

Array = NDArray[Any]
Stages = dict[str, Array]  # samples (n,) at the spec's rate; every other stage (windows, ...)
Network = Callable[[Array], tuple[Array, Array]]  # features (n, ...) to logits and scores (n, ...)
# Deviations by stage, id of the array and tolerance: several implementations have the same features. The
# arrays are kept, so that no other one gets the id.
_Known = dict[tuple[str, int, float], tuple[Array, Deviation]]

STAGES = ("samples", "spectrum", "features", "logits", "scores", "level", "label")
SERVED = "as served"


@dataclass(frozen=True)
class Implementation:
    """A function from a case to stages that must equal the reference's, and the tolerance of each
    stage.

    `tolerances` are for cases at the model's rate, `resampled` for cases at another rate; with
    None, such cases are left out, for implementations that do not test resampling. `network` are
    the tolerances of logits and scores if the reference's network gets the implementation's own
    features: they do not depend on how steep the network is. They hold for recordings at the
    model's rate. With `real_only`, synthetic signals are left out. Of the remaining cases, one in
    `every` is compared.
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
    """How far one stage of one case is from the reference.

    With `same_features`, the reference's network got the implementation's features.
    """

    case: str
    stage: str
    resampled: bool
    deviation: Deviation
    same_features: bool = False


@dataclass(frozen=True)
class Report:
    """All findings about one implementation, how many cases and windows were compared, and the name
    of the reference.
    """

    name: str
    findings: tuple[Finding, ...]
    cases: int
    windows: int
    reference: str = "TensorFlow"

    @property
    def passed(self) -> bool:
        """Whether every stage of every case is within its tolerance, and at least one was compared."""
        return bool(self.findings) and all(finding.deviation.passed for finding in self.findings)

    def worst(self) -> list[Finding]:
        """Return for each stage the finding that is nearest to its tolerance or furthest over it.

        End-to-end findings come first, then those of the network alone, then those of resampled
        cases.
        """
        found = []
        for kind in ((False, False), (False, True), (True, False)):
            for stage in STAGES:
                of_stage = [f for f in self.findings if f.stage == stage and (f.resampled, f.same_features) == kind]
                if of_stage:
                    found.append(max(of_stage, key=lambda f: nearness(f.deviation)))
        return found

    def describe(self) -> str:
        """Return the result as one sentence without its full stop."""
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
    """Return a sort key for deviations of different tolerances: over it or not, the share of the
    tolerance, the size.
    """
    largest = float("inf") if np.isnan(found.largest) else found.largest
    share = largest / found.tolerance if found.tolerance else float("inf") if largest else 0.0
    return not found.passed, share, largest


def check(
    implementations: Sequence[Implementation],
    reference: Callable[[Case], Stages],
    cases: Iterable[Case],
    spec: FrontEndSpec,
    network: Network | None = None,
) -> list[Report]:
    """Compare implementations with a reference over cases; return one report each, in their order.

    A case whose rate is not the spec's is resampled. A stage is compared if the implementation, the
    reference and the tolerances all have it. `network` is the reference's: features (n, ...) to
    logits and scores (n, ...).
    """
    alone = None if network is None else _LastAnswer(network)
    comparisons = [_Comparison(implementation, spec, alone) for implementation in implementations]
    for case in cases:
        expected = reference(case)
        known: _Known = {}
        for comparison in comparisons:
            comparison.add(case, expected, known)
    return [comparison.report() for comparison in comparisons]


class _LastAnswer:
    """A network that keeps its last answer: several implementations have the same array of
    features.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._features: Array | None = None

    def __call__(self, features: Array) -> tuple[Array, Array]:
        if features is not self._features:
            self._features, self._answer = features, self._network(features)
        return self._answer


class _Comparison:
    """One implementation and what has been found about it."""

    def __init__(self, implementation: Implementation, spec: FrontEndSpec, network: Network | None) -> None:
        self._implementation, self._spec, self._network = implementation, spec, network
        self._findings: list[Finding] = []
        self._suitable = self._cases = self._windows = 0
        self._labels = {False: _Labels(), True: _Labels()}  # by whether cases were resampled

    def add(self, case: Case, expected: Stages, known: _Known) -> None:
        """Compare one case, unless the implementation claims nothing about it or leaves it out.

        What was found of an array of this case for another implementation is taken from `known`.
        """
        resampled = case.sample_rate_hz != self._spec.sample_rate_hz
        tolerances = self._implementation.resampled if resampled else self._implementation.tolerances
        if tolerances is None or (self._implementation.real_only and not case.real):
            return
        self._suitable += 1
        if (self._suitable - 1) % self._implementation.every:
            return
        self._cases += 1
        self._windows += len(expected["features"])
        found = self._implementation.stages(case)
        for stage in STAGES:
            if stage not in found or stage not in expected or stage not in tolerances:
                continue
            if stage == "label":
                self._labels[resampled].add(case.name, found, expected, tolerances)
            else:
                array, tolerance = found[stage], tolerances[stage]
                key = stage, id(array), tolerance
                if key not in known:
                    known[key] = array, _deviation(stage, array, expected[stage], case, self._spec, tolerance)
                self._findings.append(Finding(case.name, stage, resampled, known[key][1]))
        if case.real and not resampled:
            self._add_network(case, found, expected)

    def _add_network(self, case: Case, found: Stages, expected: Stages) -> None:
        """Compare logits and scores with those that the reference's network gives for the
        implementation's own features.
        """
        allowed, features = self._implementation.network, found.get("features")
        if self._network is None or not allowed or features is None or features.shape != expected["features"].shape:
            return
        for stage, alone in zip(("logits", "scores"), self._network(features), strict=True):
            if stage in found:
                scale = _logit_scale(alone) if stage == "logits" else 1.0
                result = deviation(found[stage], alone, allowed[stage], scale)
                self._findings.append(Finding(case.name, stage, False, result, same_features=True))

    def report(self) -> Report:
        """Return all findings, the shares of other labels last."""
        shares = [labels.finding(resampled) for resampled, labels in self._labels.items() if labels.windows]
        return Report(self._implementation.name, (*self._findings, *shares), self._cases, self._windows)


@dataclass
class _Labels:
    """How many windows were compared, how many of these have another label, and the first case with
    such a window.
    """

    windows: int = 0
    others: int = 0
    first: str = ""
    tolerance: float = 0.0

    def add(self, case: str, found: Stages, expected: Stages, tolerances: Mapping[str, float]) -> None:
        """Count the windows of one case."""
        self.tolerance = tolerances["label"]
        # If a score is near a border between two labels, either label is accepted.
        clear = expected["margin"] > min(SURE, 2 * tolerances.get("scores", 0.0))
        self.windows += int(clear.sum())
        if found["label"].shape != expected["label"].shape:
            others = int(clear.sum())
        else:
            others = int(((found["label"] != expected["label"]) & clear).sum())
        self.others += others
        self.first = self.first or (case if others else "")

    def finding(self, resampled: bool) -> Finding:
        """Return the share of windows with another label as a finding."""
        share = Deviation(self.others / self.windows, self.tolerance)
        return Finding(self.first or "every case", "label", resampled, share)


def _deviation(
    stage: str, found: Array, expected: Array, case: Case, spec: FrontEndSpec, tolerance: float
) -> Deviation:
    """Return how far a stage of a case is from the reference's, with the scale of that stage."""
    resampled = case.sample_rate_hz != spec.sample_rate_hz
    if stage == "samples" and resampled:
        return _samples_deviation(found, expected, case, spec, tolerance)
    scale = 1.0
    if stage in ("samples", "spectrum"):
        scale = _peak(expected, resampled)
    elif stage == "logits":
        scale = _logit_scale(expected)
    seen = _in_passband(stage, spec, case) if resampled else ...
    return deviation(found[seen], expected[seen], tolerance, scale)


def _logit_scale(expected: Array) -> float:
    return max(1.0, float(np.abs(expected).max(initial=0.0)))


def _peak(expected: Array, resampled: bool) -> float:
    # If a filter removes nearly all of a signal, the rest is no scale: use at least -60 dB of a
    # full-scale tone.
    largest = float(np.abs(expected).max(initial=0.0))
    return max(largest, 1e-3 * expected.shape[-1]) if resampled else largest or 1.0


def _in_passband(stage: str, spec: FrontEndSpec, case: Case) -> Any:
    """Return the index of the bins or bands of a stage that both resamplers let through; of other
    stages, that of all values.
    """
    top_hz = PASSBAND * min(case.sample_rate_hz, spec.sample_rate_hz) / 2
    bin_hz = spec.sample_rate_hz / spec.fft_length
    bins = max(1, int(top_hz / bin_hz) - 4)  # without the bins that the window leaks into
    if stage == "spectrum":
        return np.s_[..., :bins]
    if stage != "features":
        return ...
    if spec.mel:
        bins = max(1, int((mel_filterbank(spec)[bins:] == 0).all(axis=0).sum()))
    return np.s_[:, :bins] if spec.layout == "bins_frames" else np.s_[..., :bins]


def _samples_deviation(found: Array, expected: Array, case: Case, spec: FrontEndSpec, tolerance: float) -> Deviation:
    """Return the relative RMS difference of two resampled signals below `PASSBAND` of the lower
    Nyquist frequency.

    Two good filters may differ above that frequency. The ends of the signals are faded out, because
    filters of different lengths treat the zeros around a recording differently.
    """
    if found.shape != expected.shape:
        return Deviation(float("inf"), tolerance, f"{found.shape[0]} samples instead of {expected.shape[0]}")
    length = next_fast_len(len(expected), real=True)  # zeros are appended: a prime length takes ten times as long
    top = int(PASSBAND * min(1.0, case.sample_rate_hz / spec.sample_rate_hz) * length / 2)
    fade = np.hanning(len(expected))
    difference = rfft(fade * (found.astype(np.float64) - expected), length)[:top]
    whole = rfft(fade * expected, length)
    # Relative to the whole signal, and at least to -60 dB of full scale, because a signal may lie
    # outside the passband entirely.
    scale = max(float(np.linalg.norm(whole)), 1e-3 * float(np.linalg.norm(fade)) * np.sqrt(len(fade)) / 2)
    return Deviation(float(np.linalg.norm(difference)) / scale, tolerance)
