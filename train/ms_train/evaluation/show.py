"""`ms-train show`: draw recordings, datasets and augmentations, and write augmented sound."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from ms_edge.arrays import Float32
from ms_edge.audio.file import open_audio
from ms_edge.audio.opening import STDIN
from ms_edge.errors import AudioError, MsEdgeError, UsageError, reason
from ms_edge.features.frontend import FrontEnd
from ms_edge.features.windows import windows
from ms_train import plots
from ms_train.augment.augmentations import AUGMENTATIONS, MASKS, require_known
from ms_train.datasets.dataset import Dataset, Recording
from ms_train.errors import DataError
from ms_train.recipes.recipe import Recipe
from ms_train.signals import Rng, mix

PAGE_S = 300.0  # of a recording on one page; more would be narrower than a pixel
AUGMENTED_S = 30.0
PANELS = 4  # recordings of each class, side by side
MIXING = "mixing"
MIXING_DB = (0.0, 10.0)  # level of the second recording below the first


def show_recordings(files: Sequence[str], recipe: Recipe, out: Path) -> int:
    """Write a page (`<stem>.png`) for each file into `out`, and print its path or an error; return
    the number of errors.
    """
    names, failed = _Names(out, files), 0
    for file in files:
        try:
            samples, cut = _start_of(file, recipe, PAGE_S)
            (path,) = names.new(_stem(file), ".png")
            title = plots.printable(file) + (f" (its first {PAGE_S:.0f} s)" if cut else "")
            plots.recording(samples, recipe.spec, recipe.name, path, title)
        except AudioError as error:
            print(f"ms-train: {error}", file=sys.stderr)
            failed += 1
        else:
            print(path)
    return failed


def show_panels(dataset: Dataset, recipe: Recipe, out: Path, seed: int) -> Path:
    """Write `panels.png` into `out`: random clips of random recordings, a row for each class; a
    seed decides which.

    A recording that cannot be read is named on stderr, and another is drawn. Raises
    DataError(`bad-data`) if no recording of a class can be read.
    """
    (path,) = _Names(out, ()).new("panels", ".png")
    rows = []
    for place, label in enumerate(dataset.labels):
        rng = np.random.default_rng([seed, place])
        recordings = [recording for recording in dataset.recordings if recording.label == label]
        clips: list[tuple[str, Float32]] = []
        for index in rng.permutation(len(recordings)):
            if len(clips) < PANELS and (clip := _random_clip(recordings[index], recipe, rng)):
                clips.append((f"{label}\n{clip[0]}", clip[1]))
        if not clips:
            raise DataError("bad-data", f"No recording of {label} can be read; add recordings.")
        rows.append(clips)
    plots.panels(rows, recipe.spec, path, f"{plots.printable(dataset.name)}: clips of {recipe.spec.clip_s:g} s")
    return path


def show_augmentations(
    files: Sequence[str], chosen: Sequence[str], mixed_with: str | None, recipe: Recipe, out: Path, seed: int
) -> int:
    """Write `<stem>-<name>.png` (before and after) and `.wav` into `out` for each file and
    augmentation.

    `chosen` names augmentations; if it is empty, all are used. `mixed_with` is the second recording
    of `mixing`. Masks change features and not sound, so they have no WAV. Return the number of
    files that failed. Raises UsageError for an unknown augmentation.
    """
    for name in chosen:
        if name == MIXING and mixed_with is None:
            raise UsageError("--augmentation mixing needs a second recording; give --mix-with FILE.")
        if name != MIXING:
            require_known(name)
    chosen = list(dict.fromkeys([*(chosen or [*AUGMENTATIONS, *MASKS]), *([MIXING] if mixed_with else [])]))
    other = _start_of(mixed_with, recipe, AUGMENTED_S)[0] if mixed_with else None
    names, failed = _Names(out, [*files, *([mixed_with] if mixed_with else [])]), 0
    front_end = FrontEnd(recipe.spec)
    rate_hz = recipe.spec.sample_rate_hz
    for file in files:
        try:
            samples, _ = _start_of(file, recipe, AUGMENTED_S)
        except AudioError as error:
            print(f"ms-train: {error}", file=sys.stderr)
            failed += 1
            continue
        before = front_end.features(samples)
        for name in chosen:
            rng = np.random.default_rng(
                seed
            )  # one generator for each, so that the result does not depend on the other augmentations
            picture, sound = names.new(f"{_stem(file)}-{name}", ".png", ".wav")
            augmented: Float32 | None = None
            if name in MASKS:
                after = MASKS[name](before, rng, recipe.spec)
            else:
                if name == MIXING and other is not None:
                    augmented = _mixed(samples, other, rng)
                else:
                    augmented = AUGMENTATIONS[name](samples, rng, rate_hz)
                after = front_end.features(augmented)
                wav = io.BytesIO()  # soundfile would not raise OSError for a full disk
                soundfile.write(wav, augmented, rate_hz, "PCM_16", format="WAV")
                sound.write_bytes(wav.getvalue())
            pictures = {"before": before, f"after: {name}": after}
            plots.above_each_other(pictures, recipe.spec, picture, plots.printable(file))
            print(picture if augmented is None else f"{picture}  {sound}")
    return failed


def _mixed(samples: Float32, other: Float32, rng: Rng) -> Float32:
    mixture = mix(samples, np.resize(other, len(samples)), rng.uniform(*MIXING_DB))
    return np.asarray(mixture / max(np.float32(1), np.abs(mixture).max()))


def _start_of(file: str, recipe: Recipe, limit_s: float) -> tuple[Float32, bool]:
    """Return the first `limit_s` seconds of a file at the recipe's rate, and whether the file is
    longer. Raises AudioError.
    """
    spec = recipe.spec
    limit, held, blocks = int(limit_s * spec.sample_rate_hz), 0, []
    with open_audio(file) as audio:
        for block in audio.blocks(spec.sample_rate_hz):
            blocks.append(block)
            held += len(block)
            if held > limit:
                break
    if held < spec.frame_length:
        raise AudioError(
            "too-short",
            f"{file}: {held / spec.sample_rate_hz:.3f} s of audio is less than one frame of {recipe.name}"
            f" ({spec.frame_length / spec.sample_rate_hz:.3f} s).",
        )
    return np.concatenate(blocks)[:limit], held > limit


def _random_clip(recording: Recording, recipe: Recipe, rng: Rng) -> tuple[str, Float32] | None:
    spec = recipe.spec
    try:
        samples = recording.read(spec.sample_rate_hz)
    except MsEdgeError as error:
        print(f"left out: {error}", file=sys.stderr)
        return None
    start = int(rng.integers(0, max(1, len(samples) - spec.clip_samples + 1)))
    _, clip = next(windows([samples[start : start + spec.clip_samples]], spec))  # a short one is repeated
    return f"{plots.printable(recording.name, 44)}, from {start / spec.sample_rate_hz:.1f} s", clip


class _Names:
    """New paths in a folder, which is made if necessary.

    No path is an input, a file that exists, or was returned before, ignoring case.
    """

    def __init__(self, folder: Path, inputs: Sequence[str]) -> None:
        self._folder = folder
        self._taken = {_key(Path(file)) for file in inputs}
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{folder}: cannot be made ({reason(error)}).") from None

    def new(self, stem: str, *suffixes: str) -> tuple[Path, ...]:
        """Return a path for each suffix, all with the given stem, or with the first free number
        after it.
        """
        number = 1
        while True:
            paths = tuple(self._folder / f"{stem}{'' if number == 1 else f'-{number}'}{suffix}" for suffix in suffixes)
            if not self._taken & {_key(path) for path in paths} and not any(map(os.path.lexists, paths)):
                self._taken |= {_key(path) for path in paths}
                return paths
            number += 1


def _key(path: Path) -> str:
    return str(path.resolve()).casefold()


def _stem(file: str) -> str:
    return "stdin" if file == STDIN else Path(file).stem
