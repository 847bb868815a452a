"""Pictures of recordings, of a network's input and of training: PNGs; the same numbers give the
same bytes.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ms_edge.arrays import Float32
from ms_edge.features.frontend import FrontEnd
from ms_edge.features.spec import FrontEndSpec, MelSpec

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage


WAVE_COLUMNS = 2000  # about the pixels in the width of a page
PICTURE_FLOOR = 1e-3  # added before the logarithm if the spec has no floor
MEL_TICKS_HZ = (100, 250, 500, 1000, 2000, 4000, 8000, 16_000)


def curves(history: Mapping[str, Sequence[float]], path: Path, title: str) -> None:
    """Draw the loss and the accuracy of training and validation by epoch, as a PNG."""
    figure = _figure(10, 4)
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for key, label in ((name, "training"), (f"val_{name}", "validation")):
            axes.plot(
                range(1, len(history[key]) + 1),
                history[key],
                label=label,
                marker="." if len(history[key]) < 20 else None,
            )
        axes.set_xlabel("epoch")
        axes.set_ylabel(name)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(printable(title), parse_math=False)
    _save(figure, path)


def comparison(systems: Mapping[str, Mapping[str, Sequence[float]]], path: Path, title: str) -> None:
    """Draw each run's accuracy in [0, 1] as a dot and the mean of a system's runs as a bar, as a
    PNG.

    Each system has a row, each level (`clip`, `file`) a panel.
    """
    levels = list(next(iter(systems.values())))
    figure = _figure(11, 1.8 + 0.5 * len(systems))
    for axes, level in zip(figure.subplots(1, len(levels), sharey=True, squeeze=False)[0], levels, strict=True):
        for row, values in enumerate(found[level] for found in systems.values()):
            percent = 100 * np.array(values)
            # Runs of equal accuracy are drawn beside each other.
            places = row + 0.16 * (np.arange(len(percent)) - (len(percent) - 1) / 2)
            runs = axes.plot(percent, places, "o", markersize=5, alpha=0.7, color="C0")
            mean = axes.plot([percent.mean()] * 2, [row - 0.42, row + 0.42], color="C3")
        axes.set_yticks(range(len(systems)), list(systems), parse_math=False)
        axes.set_xlabel(f"{'clips' if level == 'clip' else 'recordings'} right in %")
        axes.grid(alpha=0.3, axis="x")
    axes.invert_yaxis()  # shared axis: the best system is at the top
    figure.legend([*runs, *mean], ["a run", "mean"], loc="outside lower center", ncols=2)
    figure.suptitle(title, parse_math=False)
    _save(figure, path)


def recording(samples: Float32, spec: FrontEndSpec, network: str, path: Path, title: str) -> None:
    """Draw a page of one recording: waveform, linear and logarithmic spectrogram, and mel bands if
    the spec has them.

    `samples` (n,) float32 are at the spec's rate and hold at least one frame. The title of the
    picture that is the input of `network` says so.
    """
    front_end = FrontEnd(spec)
    floor = np.float32(spec.log_floor or PICTURE_FLOOR)
    spectrum = front_end.spectrum(samples).T
    pictures: list[tuple[str, Float32, str, MelSpec | None]] = [
        ("linear spectrogram", spectrum, spec.magnitude, None),
        ("logarithmic spectrogram", np.log(spectrum + floor), f"ln({spec.magnitude} + {floor:g})", None),
    ]
    if spec.mel:
        pictures.append((f"{spec.mel.bands} mel bands", *view(front_end.features(samples), spec), spec.mel))
    seen = 2 if spec.mel else int(spec.log_floor is not None)

    figure = _figure(12, 2.2 + 2.6 * len(pictures))
    # The colour bars have a column of their own, so that all time axes have the same length.
    grid = figure.subplots(
        1 + len(pictures), 2, width_ratios=(60, 1), height_ratios=(2, *[3] * len(pictures)), squeeze=False
    )
    waveform(grid[0, 0], samples, spec.sample_rate_hz)
    grid[0, 1].set_axis_off()
    for place, ((axes, bar), (name, values, unit, mel)) in enumerate(zip(grid[1:], pictures, strict=True)):
        figure.colorbar(spectrogram(axes, values, spec, mel), cax=bar, label=unit)
        axes.set_title(f"{name}: what {network} is given" if place == seen else name, fontsize=10)
    for axes in grid[:, 0]:
        axes.set_xlim(0, len(samples) / spec.sample_rate_hz)
        axes.set_xlabel("seconds")
        axes.label_outer()
    figure.suptitle(title, parse_math=False)
    _save(figure, path)


def panels(rows: Sequence[Sequence[tuple[str, Float32]]], spec: FrontEndSpec, path: Path, title: str) -> None:
    """Draw spectrograms side by side as a PNG: a row for each class, a title and a clip
    (clip_samples,) float32 for each cell.
    """
    columns = max(map(len, rows))
    figure = _figure(1 + 3.4 * columns, 0.8 + 2.6 * len(rows))
    grid = figure.subplots(len(rows), columns, squeeze=False, sharex=True, sharey=True)
    front_end = FrontEnd(spec)
    views, shown = [], []
    for cells, row in zip(grid, rows, strict=True):
        for axes in cells[len(row) :]:
            axes.set_axis_off()
        for axes, (name, clip) in zip(cells, row, strict=False):
            values, unit = view(front_end.features(clip), spec)
            views.append(values)
            shown.append(spectrogram(axes, values, spec, spec.mel))
            axes.set_title(name, fontsize=8, parse_math=False)
            axes.set_xlabel("seconds")
            axes.label_outer()
    _one_scale(shown, views)
    figure.colorbar(shown[0], ax=grid, label=unit, aspect=15 * len(rows), pad=0.01)
    figure.suptitle(title, parse_math=False)
    _save(figure, path)


def above_each_other(pictures: Mapping[str, Float32], spec: FrontEndSpec, path: Path, title: str) -> None:
    """Draw features of the same length one above the other, with their names, as a PNG."""
    figure = _figure(12, 0.8 + 2.8 * len(pictures))
    grid = figure.subplots(len(pictures), 1, squeeze=False, sharex=True)[:, 0]
    views, shown = [], []
    for axes, (name, features) in zip(grid, pictures.items(), strict=True):
        values, unit = view(features, spec)
        views.append(values)
        shown.append(spectrogram(axes, values, spec, spec.mel))
        axes.set_title(name, fontsize=10, parse_math=False)
    grid[-1].set_xlabel("seconds")
    _one_scale(shown, views)
    figure.colorbar(shown[0], ax=grid, label=unit, aspect=15 * len(pictures), pad=0.01)
    figure.suptitle(title, parse_math=False)
    _save(figure, path)


def view(features: Float32, spec: FrontEndSpec) -> tuple[Float32, str]:
    """Return features in the spec's layout as a logarithmic picture (bins, frames), and the unit of
    its colours.
    """
    values = features if spec.layout == "bins_frames" else features.T
    if spec.log_floor is None:
        values = np.log(values + np.float32(PICTURE_FLOOR))
    kind = f"mel {spec.magnitude}" if spec.mel else spec.magnitude
    return values, f"ln({kind} + {spec.log_floor or PICTURE_FLOOR:g})"


def waveform(axes: Axes, samples: Float32, sample_rate_hz: int) -> None:
    """Draw the smallest and the largest sample of every column, so that every peak of a long
    recording is visible.
    """
    columns = min(WAVE_COLUMNS, len(samples))
    starts = np.arange(columns) * len(samples) // columns
    time_s = starts / sample_rate_hz
    if columns < len(samples):
        axes.fill_between(
            time_s, np.minimum.reduceat(samples, starts), np.maximum.reduceat(samples, starts), linewidth=0.5
        )
    else:
        axes.plot(time_s, samples)
    axes.set_ylim(-1.05, 1.05)
    axes.set_ylabel("full scale")
    axes.set_title("waveform", fontsize=10)
    axes.grid(alpha=0.3)


def spectrogram(axes: Axes, values: Float32, spec: FrontEndSpec, mel: MelSpec | None) -> AxesImage:
    """Draw values (bins, frames) over seconds and Hz; with `mel`, the bins are its bands and the
    axis is linear in mel.
    """
    # A frame is drawn at the middle of the samples that are transformed: the first fft_length if it
    # is cropped.
    seen = min(spec.frame_length, spec.fft_length)
    first_s = (seen - spec.frame_step) / 2 / spec.sample_rate_hz
    last_s = first_s + values.shape[1] * spec.frame_step / spec.sample_rate_hz
    if mel:
        low, high = _mel(mel.low_hz), _mel(mel.high_hz)
        half_band = (
            (high - low) / (mel.bands + 1) / 2
        )  # the centres of the outermost bands are one band inside the two frequencies
        low, high = low + half_band, high - half_band
        ticks = [hz for hz in MEL_TICKS_HZ if mel.low_hz <= hz <= mel.high_hz]
        axes.set_ylabel("Hz (mel scale)")
    else:
        half_bin_hz = spec.sample_rate_hz / spec.fft_length / 2
        low, high = -half_bin_hz, spec.sample_rate_hz / 2 + half_bin_hz
        axes.set_ylabel("Hz")
    image = axes.imshow(values, origin="lower", aspect="auto", cmap="viridis", extent=(first_s, last_s, low, high))
    if mel:
        axes.set_yticks([_mel(hz) for hz in ticks], [f"{hz:,}" for hz in ticks])
    else:
        axes.set_ylim(0, spec.sample_rate_hz / 2)
        axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlim(0, last_s)
    return image


def _mel(hz: float) -> float:
    return 1127 * float(np.log1p(hz / 700))  # the scale of ms_edge.features.frontend.mel_filterbank


def _one_scale(images: Sequence[AxesImage], views: Sequence[Float32]) -> None:
    low, high = min(values.min() for values in views), max(values.max() for values in views)
    for image in images:
        image.set_clim(low, high)


def printable(name: str, longest: int = 100) -> str:
    """Return a file's name as matplotlib can draw it: only the end if it is long, invalid Unicode
    escaped.
    """
    text = name.encode("utf-8", "backslashreplace").decode()
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= longest else f"…{text[1 - longest :]}"


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure  # not pyplot: no state, no display

    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: Figure, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # matplotlib draws a box for a missing letter
        figure.savefig(path, dpi=120, metadata={"Software": None})  # which would contain matplotlib's version
