"""Each stage at the edge equals `tf.signal`; and the grid that compares them fails
where it does not.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
import soxr

from ms_edge.audio import source as sources
from ms_edge.audio.file import read_mono
from ms_edge.features import frontend
from ms_edge.features.frontend import FrontEnd
from ms_edge.features.spec import FrontEndSpec, MelSpec
from ms_edge.model.session import BUNDLED, Model
from ms_export import implementations
from ms_export.cases import Case, Real, clip_case, grid, lengths, synthetic_signals
from ms_export.certificate import markdown, parity_entry
from ms_export.implementations import OnnxNetwork, double_front_end, edge_front_end, served
from ms_export.parity import SERVED, Implementation, Stages, check
from ms_export.reference import Reference, decide
from ms_export.tolerances import NETWORK_TOLERANCES
from ms_train.frontend import FrontEndLayer
from ms_train.recipes.by_name import recipes

RECIPES: dict[str, FrontEndSpec] = {}
for name, recipe in recipes().items():
    if recipe.spec not in RECIPES.values():  # several recipes have the same front end
        RECIPES[name] = recipe.spec
SPECS = RECIPES | {
    # No logarithm, an odd frame length (where TensorFlow's window is symmetric), power, padding and
    # cropping.
    "odd frame, linear": FrontEndSpec(16_000, 255, 128, 256, clip_s=1.0, hop_s=1.0),
    "cropped, power": FrontEndSpec(8_000, 512, 100, 128, clip_s=1.0, hop_s=1.0, magnitude="power"),
    "cropped, mel": FrontEndSpec(
        16_000, 400, 160, 256, clip_s=1.0, hop_s=1.0, mel=MelSpec(24, 0.0, 8000.0), log_floor=0.02, layout="frames_bins"
    ),
    "not a power of two": FrontEndSpec(22_050, 600, 200, 600, clip_s=1.0, hop_s=1.0, layout="frames_bins"),
}
# Two that differ as much as possible: 22 kHz or 16, cropped or whole, linear or mel, bins or frames
# first.
QUICK = ("logstft_cnn", "mel_dscnn")
HARD = tuple(SPECS.keys() - RECIPES.keys())


def each_spec(*quick: str) -> pytest.MarkDecorator:
    """Run a test with each spec, with all but those of these names as slow tests."""
    return pytest.mark.parametrize(
        "spec",
        [pytest.param(spec, id=name, marks=[pytest.mark.slow] * (name not in quick)) for name, spec in SPECS.items()],
    )


def of_short_clips(spec: FrontEndSpec) -> FrontEndSpec:
    """The spec with clips of a second if its own are longer: it has the same frames, and
    thirty times as many.
    """
    return replace(spec, clip_s=1.0, hop_s=1.0) if spec.clip_s > 1 else spec


@pytest.fixture(scope="module")
def real(samples) -> dict[str, Real]:
    """Return a recording of music and one of speech."""
    rate_hz = 22_050
    return {
        label: Real(read_mono(next(path for path in samples if path.name.startswith(label)), rate_hz), rate_hz)
        for label in ("music", "speech")
    }


@each_spec(*QUICK)
def test_front_ends_are_equal_on_the_grid(spec, real, everything):
    if not everything:
        spec = of_short_clips(spec)
    candidates = [
        Implementation("edge", edge_front_end(spec)),
        Implementation("tf.signal, float64", Reference(spec, dtype="float64"), resampled=None),
        Implementation("NumPy/SciPy, float64", double_front_end(spec), resampled=None),
    ]
    reports = check(candidates, Reference(spec), grid(spec, real, everything=everything), spec)
    assert reports[0].cases >= 140
    for report in reports:
        assert report.passed, report.describe()
        assert report.cases >= 28  # other implementations get only cases at the spec's own rate
        stages = {finding.stage for finding in report.findings}
        assert {"spectrum", "features"} <= stages


@each_spec(*HARD)
def test_front_ends_are_equal_at_any_length(spec, everything):
    """Without windows: lengths of whole frames, one sample more or less, and less than a frame."""
    if not everything:
        spec = of_short_clips(spec)
    front_end, layer = FrontEnd(spec), FrontEndLayer(spec)
    clip = spec.clip_samples
    whole = spec.frame_length + spec.frame_step * (spec.frames(clip) - 1)
    some = {*lengths(spec, spec.sample_rate_hz).values(), whole - 1, whole, whole + 1, spec.frame_length}
    for length in sorted(some - {10 * clip}):
        for name, make in synthetic_signals(spec, length).items():
            samples = make().astype(np.float32)
            expected = layer.spectrum(samples[np.newaxis]).numpy()[0]
            found = front_end.spectrum(samples)
            assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
            assert np.abs(found - expected).max(initial=0) <= 1e-6 * (expected.max(initial=0) or 1), (name, length)
            expected = layer(samples[np.newaxis]).numpy()[0]
            found = front_end.features(samples)
            assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
            assert np.abs(found - expected).max(initial=0) <= 1e-3, (name, length)


@each_spec(*QUICK, *HARD)
def test_front_ends_are_equal_on_real_clips(spec, samples):
    clips = []
    for path in samples:
        audio = read_mono(path, spec.sample_rate_hz)
        clips.append(clip_case(path.name, audio, spec.sample_rate_hz, real=True))
    (report,) = check([Implementation("edge", edge_front_end(spec))], Reference(spec), clips, spec)
    assert report.passed, report.describe()
    assert report.cases == len(samples)


def test_shared_arrays_are_compared_with_each_tolerance():
    """What was found of an array for one implementation answers for no other array or tolerance."""
    spec = SPECS["mel_dscnn"]
    expected = np.zeros((1, *spec.feature_shape))
    shared = {"features": expected + 0.5}
    implementations = [
        Implementation("tolerant", lambda case: shared, {"features": 1.0}),
        Implementation("strict", lambda case: shared, {"features": 0.1}),
        *(
            Implementation(f"{off}", lambda case, off=off: {"features": expected + off}, {"features": 1.0})
            for off in (2, 0)
        ),
    ]
    case = clip_case("any", np.zeros(spec.clip_samples, np.float32), spec.sample_rate_hz)
    reports = check(implementations, lambda case: {"features": expected}, [case], spec)
    assert [report.passed for report in reports] == [True, False, False, True]


def test_clip_has_the_shape_of_the_spec():
    for spec in SPECS.values():
        samples = np.zeros((1, spec.clip_samples), np.float32)
        assert FrontEnd(spec).features(samples[0]).shape == FrontEndLayer(spec)(samples).shape[1:] == spec.feature_shape


def test_impulse_between_frames_is_silence():
    spec = RECIPES["logstft_cnn"]  # uses 256 of every 512 samples
    signals = {name: make().astype(np.float32) for name, make in synthetic_signals(spec, spec.clip_samples).items()}
    front_end, layer = FrontEnd(spec), FrontEndLayer(spec)
    silence = front_end.features(signals["silence"])
    unseen = signals["impulse where no frame need look"]
    assert unseen.max() == 1
    np.testing.assert_array_equal(front_end.features(unseen), silence)
    np.testing.assert_array_equal(layer(unseen[np.newaxis]).numpy()[0], silence)
    for seen in ("impulse 100 samples on", "impulse 255 samples on"):
        assert front_end.spectrum(signals[seen]).max() > 0.01
    # The first sample under a Hann window has weight 0.
    np.testing.assert_array_equal(front_end.features(signals["impulse at a frame's start"]), silence)


def test_silence_is_the_logarithm_of_the_floor():
    for spec in SPECS.values():
        features = FrontEnd(spec).features(np.zeros(spec.clip_samples, np.float32))
        assert (features == np.log(np.float32(spec.log_floor)) if spec.log_floor else features == 0).all()


def test_keras_layer_survives_its_config():
    spec = RECIPES["mel_dscnn"]
    assert FrontEndLayer.from_config(FrontEndLayer(spec).get_config()).spec == spec


def test_repeated_runs_are_equal_to_the_bit(real):
    """In the same session, in another session, and with four threads, on the CPU."""
    model, content = Model.load(device="cpu"), BUNDLED.read_bytes()
    spec = model.metadata.spec
    ways = [served(model), served(Model.load(device="cpu"))]
    ways += [served(model, OnnxNetwork(content, threads=threads)) for threads in (1, 1, 4)]
    for index, case in enumerate(grid(spec, real)):
        if index % 5:
            continue
        first = ways[0](case)
        for way in (ways[0], *ways[1:]):
            again = way(case)
            for stage in ("samples", "spectrum", "features", "scores", "label"):
                np.testing.assert_array_equal(again[stage], first[stage], err_msg=f"{case.name}: {stage}")


def test_grid_has_every_pair_of_values():
    spec = RECIPES["mel_dscnn"]
    cases = list(grid(spec, {}))
    values = [tuple(case.name.rsplit(", ", 3)) for case in cases]
    for one in range(4):
        for other in range(one):
            pairs = {(value[one], value[other]) for value in values}
            assert len(pairs) == len({v[one] for v in values}) * len({v[other] for v in values}), (one, other)
    assert len({v[1] for v in values}) == 7
    assert {case.sample_rate_hz for case in cases} == {8_000, 16_000, 44_100, 48_000}
    assert len(values) == len(set(values))


# The grid must be able to fail.


@dataclass(frozen=True)
class Mutation:
    """One error at the edge: a front end made from the right spec, and what is patched
    while it is made and used.
    """

    name: str
    front_end: Callable[[FrontEndSpec], FrontEnd] = FrontEnd
    patch: Callable[[pytest.MonkeyPatch], None] = lambda patch: None
    applies: Callable[[FrontEndSpec], bool] = lambda spec: True


def respecified(**change: Callable[[FrontEndSpec], object]) -> Callable[[FrontEndSpec], FrontEnd]:
    return lambda spec: FrontEnd(replace(spec, **{name: make(spec) for name, make in change.items()}))


class FromTheWrongEnd(FrontEnd):
    """A front end that uses the last samples of each frame, not the first."""

    def __init__(self, spec: FrontEndSpec) -> None:
        super().__init__(spec)
        self._late = spec.frame_length - self._seen
        self._window = frontend.hann_window(spec.frame_length)[self._late :].astype(np.float32)

    def spectrum(self, samples):
        return super().spectrum(np.concatenate([samples[self._late :], np.zeros(self._late, np.float32)]))


class OneFrameLess(FrontEnd):
    def spectrum(self, samples):
        return super().spectrum(samples)[:-1]


class OneFrameMore(FrontEnd):
    def spectrum(self, samples):
        return super().spectrum(np.concatenate([samples, np.zeros(self.spec.frame_length, np.float32)]))[
            : self.spec.frames(len(samples)) + 1
        ]


def slaney(hz):
    """The mel scale of Slaney's Auditory Toolbox: linear to 1 kHz, logarithmic above."""
    hz = np.asarray(hz, np.float64)
    return np.where(hz < 1000, hz * 3 / 200, 15 + 27 * np.log(np.maximum(hz, 1) / 1000) / np.log(6.4))


def resampling(quality: str) -> Callable[[pytest.MonkeyPatch], None]:
    right = soxr.ResampleStream

    def worse(*arguments, **options):
        return right(*arguments, **{**options, "quality": quality})

    return lambda patch: patch.setattr(soxr, "ResampleStream", worse)


def mel_edges(low_hz: float, high_hz: float) -> Callable[[FrontEndSpec], FrontEnd]:
    return respecified(mel=lambda spec: MelSpec(spec.mel.bands, spec.mel.low_hz + low_hz, spec.mel.high_hz + high_hz))


def zero_padded(blocks, spec) -> Iterator[tuple[int, np.ndarray]]:
    samples = np.concatenate(list(blocks))
    padded = np.concatenate([samples, np.zeros(max(0, spec.clip_samples - len(samples)), np.float32)])
    return WINDOWS([padded], spec)


def without_the_last(blocks, spec) -> Iterator[tuple[int, np.ndarray]]:
    return (found for found in list(WINDOWS(blocks, spec)) if found[0] % spec.hop_samples == 0)


WINDOWS = implementations.windows
MUTATIONS = [
    Mutation("frame step + 1", respecified(frame_step=lambda spec: spec.frame_step + 1)),
    Mutation("frame step - 1", respecified(frame_step=lambda spec: spec.frame_step - 1)),
    Mutation(
        "symmetric window",
        patch=lambda patch: patch.setattr(frontend, "hann_window", np.hanning),
        applies=lambda spec: spec.frame_length % 2 == 0,
    ),
    Mutation(
        "another mel scale",
        patch=lambda patch: patch.setattr(frontend, "_hz_to_mel", slaney),
        applies=lambda spec: spec.mel is not None,
    ),
    Mutation("mel from 1 Hz lower", mel_edges(-1, 0), applies=lambda spec: spec.mel is not None),
    Mutation("mel to 10 Hz lower", mel_edges(0, -10), applies=lambda spec: spec.mel is not None),
    Mutation(
        "power for amplitude",
        respecified(magnitude=lambda spec: "power" if spec.magnitude == "amplitude" else "amplitude"),
    ),
    Mutation(
        "log floor x 10",
        respecified(log_floor=lambda spec: spec.log_floor * 10),
        applies=lambda spec: spec.log_floor is not None,
    ),
    Mutation("crop from the wrong end", FromTheWrongEnd, applies=lambda spec: spec.fft_length < spec.frame_length),
    Mutation("a frame less", OneFrameLess),
    Mutation("a frame more", OneFrameMore),
    Mutation(
        "swapped layout",
        respecified(layout=lambda spec: "frames_bins" if spec.layout == "bins_frames" else "bins_frames"),
    ),
    Mutation("resampled at medium quality", patch=resampling("MQ")),
    Mutation("resampled at low quality", patch=resampling("LQ")),
    Mutation(
        "sum of channels",
        patch=lambda patch: patch.setattr(sources, "_mean_of_channels", lambda samples: samples.sum(axis=1)),
    ),
    Mutation(
        "first channel",
        patch=lambda patch: patch.setattr(sources, "_mean_of_channels", lambda samples: samples[:, 0].copy()),
    ),
    Mutation(
        "short clips padded with zeros", patch=lambda patch: patch.setattr(implementations, "windows", zero_padded)
    ),
    Mutation("no window at the end", patch=lambda patch: patch.setattr(implementations, "windows", without_the_last)),
]


@functools.cache
def reference_of(spec: FrontEndSpec) -> Callable[[Case], Stages]:
    """The reference's stages of a case of the grid, computed once for all mutations."""
    reference, known = Reference(spec), {}
    reference(Case("traced before anything is patched", np.zeros((1, 1), np.float32), spec.sample_rate_hz))

    def stages(case: Case) -> Stages:
        if case.name not in known:
            known[case.name] = reference(case)
        return known[case.name]

    return stages


def first_red(spec: FrontEndSpec, real: dict[str, Real], mutation: Mutation) -> str | None:
    """The first case of the grid that is out of tolerance under a mutation, and at which stage;
    None if all pass.
    """
    spec = of_short_clips(spec)
    reference = reference_of(spec)
    with contextlib.ExitStack() as stack:
        mutation.patch(stack.enter_context(pytest.MonkeyPatch.context()))
        mutant = Implementation(mutation.name, edge_front_end(spec, mutation.front_end(spec)))
        for case in grid(spec, real):
            (report,) = check([mutant], reference, [case], spec)
            if not report.passed:
                return report.describe()
    return None


each_recipe = pytest.mark.parametrize(
    "recipe", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in RECIPES]
)


@each_recipe
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_grid_finds_each_mutation(mutation, recipe, real):
    spec = RECIPES[recipe]
    if not mutation.applies(spec):
        assert any(mutation.applies(other) for other in RECIPES.values()), "applies to no recipe at all"
        return
    assert first_red(spec, real, mutation), f"{mutation.name} went unnoticed for {recipe}"


def test_wrong_labels_are_found_after_resampling(real):
    """Of independent labels as well, whose scores are never as far apart as those of exclusive
    ones.
    """
    model = Model.load(device="cpu")
    spec, labels, decision = model.metadata.spec, model.metadata.labels, model.metadata.decision
    right = served(model)

    def reference(case):
        found = right(case)
        found["label"], found["margin"] = decide(found["scores"], labels, decision)
        return found

    def nonsense(case):
        found = right(case)
        return {**found, "label": np.full(len(found["label"]), "nonsense")}

    def some(cases):
        return (case for index, case in enumerate(cases) if index % 3 == 0)

    wrong, same = check(
        [Implementation("nonsense", nonsense), Implementation("same", right)], reference, some(grid(spec, real)), spec
    )
    assert same.passed
    of_labels = [finding for finding in wrong.findings if finding.stage == "label"]
    assert [finding.resampled for finding in of_labels] == [False, True]
    assert [finding.deviation.largest for finding in of_labels] == [1.0, 1.0]


def test_network_is_compared_on_its_own_features(real):
    """Features may differ, and a steep network's scores with them; the network's scores of the
    same features may not.
    """
    spec = RECIPES["mel_dscnn"]
    source = Reference(spec)

    def network(features, steepness=1.0):
        scores = 0.5 + steepness * features.reshape(len(features), -1)[:, :2]
        return scores, scores

    def scored(by: float, steepness: float = 1.0):
        def stages(case):
            features = np.full((len(source.windows(source.samples(case))), 1, 2), by)
            logits, scores = network(features, steepness)
            return {"features": features, "logits": logits, "scores": scores}

        return stages

    samples = real["music"].samples[: spec.clip_samples]
    cases = [
        clip_case("recorded", samples, spec.sample_rate_hz, real=True),
        clip_case("made", samples, spec.sample_rate_hz),
    ]

    def compared(stages, **options):
        (report,) = check([Implementation(SERVED, stages, **options)], scored(0), cases, spec, network)
        return report

    steep = compared(scored(9e-5), network=NETWORK_TOLERANCES)
    assert steep.passed
    assert parity_entry([steep], {})["scores"] == {"largest": 9e-5, "tolerance": 1e-4}
    assert compared(scored(5e-5, steepness=1.6)).passed
    wrong = compared(scored(5e-5, steepness=1.6), network=NETWORK_TOLERANCES)
    assert wrong.describe() == (
        "as served differs from TensorFlow: scores of the same features 3.0e-05 (at most 2.5e-05) on 'recorded'"
    )
    assert parity_entry([wrong], {})["scores"] == {"largest": 3e-5, "tolerance": 2.5e-5}
    assert [finding.case for finding in wrong.findings if finding.same_features] == ["recorded"] * 2
    assert "| scores, same features | 3.0e-05 **over** | 2.5e-05 | recorded |" in markdown([wrong], "a", "a.png", {})
    far = compared(scored(1.1e-4), network=NETWORK_TOLERANCES)
    assert "scores 1.1e-04 (at most 1e-04) on 'recorded'" in far.describe()


def test_batches_have_the_claimed_size(real, monkeypatch):
    sizes = set()
    network = OnnxNetwork(BUNDLED.read_bytes(), batch=64)
    session = network._session
    monkeypatch.setattr(network, "_session", type("Counted", (), {"run": lambda self, names, given: (
        sizes.add(len(given["features"])), session.run(names, given))[1]})())  # fmt: skip
    features = np.random.default_rng(0).standard_normal((70, 49, 48)).astype(np.float32)
    logits, scores = network(features)
    assert sizes == {64}
    assert len(logits) == len(scores) == 70
    np.testing.assert_array_equal(scores, Model.load(device="cpu").scores(features))


@pytest.mark.slow
@each_recipe
def test_grid_passes_without_a_mutation(recipe, real):
    """Also with the reference's stages that were computed while mutations were in place."""
    assert first_red(RECIPES[recipe], real, Mutation("none")) is None


def test_whole_grid_covers_each_option_fully():
    """`make test` compares these on every fourth case, `--all` on each."""
    model = Model.load()
    content = BUNDLED.read_bytes()
    part, whole = (implementations.implementations(model, content, everything=chosen) for chosen in (False, True))
    assert [one.name for one in part] == [one.name for one in whole]
    assert {one.every for one in whole} == {1}
    assert max(one.every for one in part) == 8
