"""Convert a run to one self-describing ONNX file, if the edge runtime gives the results of
TensorFlow.
"""

from __future__ import annotations

import os
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import tensorflow as tf

from ms_edge.errors import MsEdgeError, UsageError, first_line
from ms_edge.features.spec import FEATURES, WAVEFORM
from ms_edge.model.session import Model
from ms_edge.selftest.golden import golden_deviations
from ms_export import certificate, levels, metadata, steps
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
from ms_train.files import require_own

MODEL_START = rb"\x08.\x12"  # of an ONNX file: the version, then the producer


def convert(
    run: Run,
    out: Path,
    *,
    data: str | None = None,
    archive: Path | None = None,
    licence: str = "unspecified",
    input: str = FEATURES,
) -> list[Report]:
    """Convert a run to the model file `out` and return the reports of its comparison with
    TensorFlow.

    `input` is the input of the model: `features`, or the `waveform`, with the front end in the
    graph. The served model is compared from the recording on, on real clips held out from training
    and on the grid. The file is written atomically, and only if each stage of each case is within
    its tolerance, together with a report, `NAME.parity.md` and `.parity.png`. Otherwise raises
    ExportError(`no-parity`) and writes nothing.
    """
    report = out.with_name(f"{out.stem if out.suffix == '.onnx' else out.name}.parity.md")
    targets = (out, report, report.with_suffix(".png"))
    if any(path.is_dir() for path in targets) or not out.parent.is_dir():
        raise UsageError(f"{out}: give -o a file in a folder that exists.")
    require_own(out, MODEL_START, "ONNX model")
    certificate.require_own_report(report)
    graph, step_frames = _graph(run, input)
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
        except MsEdgeError as error:  # name the file that was asked for
            error.message = error.message.replace(str(partial), str(out))
            raise
        require_golden(model)
        certificate.write(reports, model, Path(scratch) / report.name, source_of(recordings, data))
        for path in targets[1:]:  # so that no model is ever beside the report of another
            path.unlink(missing_ok=True)
        for path in targets:
            os.replace(Path(scratch) / path.name, path)
    return reports


def _graph(run: Run, input: str) -> tuple[onnx.ModelProto, int | None]:
    """Return the graph of a run, and the frames between two windows if the graph takes runs of
    windows.

    Raises ExportError(`bad-network`) if the network cannot be converted.
    """
    try:
        stepped = steps.stepped(run)
        if stepped:
            graph = to_onnx(stepped.network, (None, run.spec.bins), run.recipe)
        else:
            graph = to_onnx(run.level.network if run.level else run.network, run.spec.feature_shape, run.recipe)
    except MsEdgeError:
        raise
    except Exception as error:  # TensorFlow, tf2onnx, onnx and onnxruntime raise many types
        raise ExportError("bad-network", f"{run.recipe}: cannot be converted to ONNX ({first_line(error)}).") from error
    if input == WAVEFORM:
        return with_front_end(run.spec, graph), None
    return graph, stepped.step_frames if stepped else None


def require_golden(model: Model) -> None:
    """Raise ExportError(`no-parity`) if a model does not give the results of its golden vector on
    this machine.
    """
    for stage, found in golden_deviations(model).failed.items():
        raise ExportError("no-parity", f"{model.path}: the golden vector's {stage} differ by {found}.")


def compare(run: Run, path: Path, recordings: dict[str, list[Recording]], *, everything: bool = False) -> list[Report]:
    """Compare a model file with its run, on real clips and the grid; return one report for each
    implementation.
    """
    # Without this, TensorFlow divides sums among its threads at random, and the differences vary
    # from process to process.
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
    return [*reports, *steps.check(model, content, run, signals), *levels.check(model, run, clips)]


def require_same(model: Model, run: Run) -> Run:
    """Return the run with the window length of a model file that was made from it.

    Raises ExportError(`wrong-run`) if the file was not made from this run.
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
    """Return in words where the real recordings of a comparison came from."""
    counts = ", ".join(f"{len(found):,} of {label}" for label, found in recordings.items())
    return f"{counts} ({'named for it' if data else 'held out from training'})" if counts else "none"
