"""The page of the documentation site that classifies a recording in the browser: docs/try.md.

It is a page of `ms-edge report` whose recording comes from the reader. `docs/try/` has its own HTML
and JavaScript. The site gets onnxruntime-web, which `make site-assets` fetches, and the waveform form
of the bundled model. Without onnxruntime-web or wavesurfer.js the page says that it is missing.
"""

from __future__ import annotations

import shutil
from html import escape
from pathlib import Path
from typing import Any

import onnxruntime
from sphinx.application import Sphinx

from ms_edge import timeline
from ms_edge._version import __version__
from ms_edge.classifier import MIN_DURATION_S, MIN_SEGMENT_S
from ms_edge.features.windows import SILENT_MEAN_SQUARE
from ms_edge.model.session import WAVEFORM_NAME, Model
from ms_edge.report.document import document, json_of, wavesurfer
from ms_edge.report.page import FIRST_TO_REVIEW, SIGNS, choices, recording, scripts
from ms_edge.report.sound import BIN_S, MAX_BINS

NAME = "try"  # of the page and of its folder
HERE = Path(__file__).parent / NAME
RUNTIME = Path(__file__).parent.parent / "build" / "onnxruntime-web"  # see `make site-assets`
ASSETS = f"_static/{NAME}"  # in the site
MODULES = ("worker.mjs", "timeline.mjs", "wav.mjs")
PLACE = '<div id="try"></div>'  # in try.md
MISSING = (
    '<div class="admonition warning"><p class="admonition-title">Not on this site</p><p>This site was built without '
    "onnxruntime-web, so this page cannot classify. <code>make docs-site</code> fetches it where npm can be reached.</p></div>"
)


def setup(app: Sphinx) -> None:
    """Add the page to a site of HTML."""
    app.config.templates_path.append(NAME)
    app.connect("env-get-outdated", lambda *_: [NAME])  # it depends on more than its text
    app.connect("html-page-context", _fill)
    app.connect("build-finished", _copy)


def is_complete() -> bool:
    """Return whether everything is there that the page needs."""
    return RUNTIME.exists() and bool(wavesurfer())


def _fill(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> str | None:
    """Make the page. Return the name of the template that writes it, or None for that of the theme."""
    if page != NAME:
        return None
    introduction, _, explanation = context["body"].partition(PLACE)
    if not is_complete():
        context["body"] = introduction + MISSING + explanation
        return None
    model = Model.load(WAVEFORM_NAME)
    labels = model.metadata.labels
    context["try_page"] = document(
        (HERE / "try.html").read_text("utf-8"),
        [*scripts(), (HERE / "try.js").read_text("utf-8")],
        style=(HERE / "try.css").read_text("utf-8"),
        allowed="media-src blob:; connect-src 'self'; worker-src 'self' blob:",
        sources="'self' 'wasm-unsafe-eval'",
        title=f"{escape(context['title'])} · ms-edge {__version__}",
        home=context["pathto"](app.config.root_doc),
        introduction=introduction,
        explanation=explanation,
        megabytes=f"{sum(path.stat().st_size for path in _files()) / 1e6:.0f}",
        recording=recording(labels, choices(labels), with_sound=True, audio='<audio id="audio" controls></audio>'),
        data=json_of(
            {
                "assets": ASSETS,
                "signs": SIGNS,
                "review": FIRST_TO_REVIEW,
                "labels": labels,
                "choices": choices(labels),
                "version": __version__,
                "model": model.sha256,
                **_rules(model),
            }
        ),
    )
    return "bare.html"


def _rules(model: Model) -> dict[str, Any]:
    """Return what ms-edge does with the samples before the model, and with the scores after it."""
    spec, decision, prior = model.metadata.spec, model.metadata.decision, timeline.PRIOR
    return {
        "rate": spec.sample_rate_hz,
        "clip": spec.clip_samples,
        "hop": spec.hop_samples,
        "decision": {"kind": decision.kind, "thresholds": decision.thresholds},
        "min_duration_s": MIN_DURATION_S,
        "min_segment_s": MIN_SEGMENT_S,
        "silent_mean_square": SILENT_MEAN_SQUARE,
        "prior": {"change": prior.change, "to_silence": prior.to_silence, "beyond_s": dict(prior.beyond_s)},
        "smoothing": {
            "closest_to_certain": timeline.CLOSEST_TO_CERTAIN,
            "log_silent_sound": timeline.LOG_SILENT_SOUND,
            "log_pause": timeline.LOG_PAUSE,
        },
        "peaks": {"bin_s": BIN_S, "most": MAX_BINS},
    }


def _files() -> list[Path]:
    """Return what the page loads beside itself."""
    model = Path(Model.load(WAVEFORM_NAME).path)
    return [*(HERE / name for name in MODULES), model, *RUNTIME.glob("*.mjs"), *RUNTIME.glob("*.wasm")]


def _copy(app: Sphinx, error: Exception | None) -> None:
    if error or app.builder.format != "html" or not is_complete():
        return
    folder = Path(app.outdir, ASSETS)
    folder.mkdir(parents=True, exist_ok=True)
    for path in _files():
        shutil.copy(path, folder)
    # The package of npm names its licence without its text. That of Python, from the same sources, has it.
    for name in ("LICENSE", "ThirdPartyNotices.txt"):
        shutil.copy(Path(onnxruntime.__file__).parent / name, folder / f"onnxruntime-{name}")
