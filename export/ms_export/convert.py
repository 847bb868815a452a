"""A run folder to one self-describing ONNX file, or to nothing where TensorFlow and the edge runtime part."""

from __future__ import annotations

import os
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import tensorflow as tf

from ms_edge.errors import MsEdgeError, UsageError, first_line
from ms_edge.features.spec import FEATURES, WAVEFORM
from ms_edge.model.session import Model
from ms_edge.selftest.golden import golden_deviations
from ms_export import certificate, metadata, steps
from ms_export.cases import clip_case, grid
from ms_export.errors import ExportError
from ms_export.implementations import implementations
from ms_export.network import to_onnx
from ms_export.parity import Report, check
from ms_export.reference import Reference
from ms_export.source import Run
from ms_export.tolerances import TOLERANCES
from ms_export.waveform import with_front_end
from ms_train.datasets.dataset import Recording


def convert(
    run: Run,
    out: Path,
    *,
    data: str | None = None,
    archive: Path | None = None,
    licence: str = "unspecified",
    input: str = FEATURES,
) -> list[Report]:
    """Convert a run to the model file `out`, checking what is served against TensorFlow from the recording on.

    `input` is what the model takes: `features`, or the `waveform`, with the front end in the graph.
    The file appears whole and only if every stage of every case is within its tolerance: real clips held out from training,
    and the grid. Beside it a report, `NAME.parity.md` and `.parity.png`. Raises ExportError(`no-parity`) otherwise; then
    nothing is written.
    """
    report = out.with_name(f"{out.stem if out.suffix == '.onnx' else out.name}.parity.md")
    targets = (out, report, report.with_suffix(".png"))
    if any(path.is_dir() for path in targets) or not out.parent.is_dir():
        raise UsageError(f"{out}: give -o a file in a folder that exists.")
    try:
        stepped = steps.stepped(run)
        if stepped:
            graph = to_onnx(stepped.network, (None, run.spec.bins), run.recipe)
        else:
            graph = to_onnx(run.network, run.spec.feature_shape, run.recipe)
    except MsEdgeError:
        raise
    except Exception as error:  # TensorFlow, tf2onnx, onnx and onnxruntime raise what they like
        raise ExportError("bad-network", f"{run.recipe}: cannot be converted to ONNX ({first_line(error)}).") from error
    if input == WAVEFORM:
        graph = with_front_end(run.spec, graph)
    step_frames = stepped.step_frames if stepped and input == FEATURES else None
    recordings = run.held_out(data, archive)
    with TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as scratch:
        partial = Path(scratch) / out.name
        try:
            partial.write_bytes(metadata.embed(graph, metadata.entries(run, licence, {}, TOLERANCES, step_frames)))
            reports = compare(run, partial, recordings)
            for found in reports:
                if not found.passed:
                    raise ExportError("no-parity", f"{found.describe()}; nothing was written.")
            digests = {recording.name: recording.sha256 for group in recordings.values() for recording in group}
            parity = certificate.parity_entry(reports, digests)
            partial.write_bytes(metadata.embed(graph, metadata.entries(run, licence, parity, TOLERANCES, step_frames)))
            model = Model.load(partial, "cpu")
        except MsEdgeError as error:  # of the file that it would have become
            error.message = error.message.replace(str(partial), str(out))
            raise
        require_golden(model)
        certificate.write(reports, model, Path(scratch) / report.name, source_of(recordings, data))
        for path in targets[1:]:  # no model ever stands beside the certificate of another
            path.unlink(missing_ok=True)
        for path in targets:
            os.replace(Path(scratch) / path.name, path)
    return reports


def require_golden(model: Model) -> None:
    """Raise ExportError(`no-parity`) where a model does not give its own golden vector's answers here."""
    for stage, found in golden_deviations(model).failed.items():
        raise ExportError("no-parity", f"{model.path}: the golden vector's {stage} differ by {found}.")


def compare(run: Run, path: Path, recordings: dict[str, list[Recording]], *, everything: bool = False) -> list[Report]:
    """Hold a model file to the run it came from: one report for each way to run it, over real clips and the grid."""
    # The same differences in every process: how TensorFlow parts a sum over its threads is else left to chance.
    tf.config.experimental.enable_op_determinism()
    model = Model.load(path, "cpu")
    spec = model.metadata.spec
    clips, signals = run.real_clips(recordings), run.real_signals(recordings)
    cases = chain(
        (clip_case(name, samples, spec.sample_rate_hz, real=True) for name, samples in clips.items()),
        grid(spec, signals, everything=everything),
    )
    reference = Reference(spec, run.network, run.labels, run.decision)
    content = path.read_bytes()
    reports = check(implementations(model, content, everything=everything), reference, cases, spec, reference.network)
    return [*reports, *steps.check(model, content, run, signals)]


def require_same(model: Model, run: Run) -> Run:
    """The run, in the windows that a model file made from it is served in.

    Raises ExportError(`wrong-run`) where the file was not made from this run.
    """
    if run.any_length:
        run = run.in_windows_of(model.metadata.spec.clip_s)
    for what, have, want in (
        ("recipe", model.metadata.recipe, run.recipe),
        ("front end", model.metadata.spec.digest, run.spec.digest),
        ("labels", model.metadata.labels, run.labels),
        ("decision", model.metadata.decision.kind, run.decision.kind),
    ):
        if have != want:
            raise ExportError(
                "wrong-run",
                f"{model.path}: was not converted from this run: {what} {_text(have)}, in the run {_text(want)}; name its own run "
                "with --against.",
            )
    return run


def _text(value: str | tuple[str, ...]) -> str:
    return value if isinstance(value, str) else ", ".join(value)


def source_of(recordings: dict[str, list[Recording]], data: str | None) -> str:
    """Where the real recordings of a comparison came from, in words."""
    counts = ", ".join(f"{len(found):,} of {label}" for label, found in recordings.items())
    return f"{counts} ({'named for it' if data else 'held out from training'})" if counts else "none"
