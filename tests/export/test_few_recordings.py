"""Twelve recordings a class are enough for the comparison with TensorFlow, whatever the recipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from ms_edge.model.metadata import Decision
from ms_export.source import MIN_CLIPS_PER_LABEL, Run
from ms_train.datasets.by_name import dataset_by_name
from ms_train.datasets.splits import split
from ms_train.recipes.by_name import get_recipe, recipes
from ms_train.training.finetune import recipe_from

DRUMS = f"folder:{Path(__file__).parent.parent.parent / 'docs' / 'drums'}"


@pytest.mark.parametrize("fold", [None, (1, 4)])
@pytest.mark.parametrize("name", [*recipes(), "bundled"])
def test_held_out_recordings_give_clips_enough(name, fold):
    recipe = recipe_from(Path(name)) if name == "bundled" else get_recipe(name)
    parts = split(dataset_by_name(DRUMS), 0, fold, val_share=recipe.val_share)
    names = {part: [each.name for each in getattr(parts, part)] for part in ("train", "val", "test")}
    labels = ("hihat", "snare", "tom")
    run = Run(None, recipe.spec, name, labels, Decision("exclusive", ()), {"data": DRUMS}, {}, names, {}, {})
    recordings = run.held_out(None, None)
    assert all(len(mine) == len(names["test" if fold else "val"]) / 3 for mine in recordings.values())
    clips = run.real_clips(recordings)
    for label in labels:
        assert sum(clip.startswith(label) for clip in clips) >= MIN_CLIPS_PER_LABEL
    assert all(samples.shape == (recipe.spec.clip_samples,) for samples in clips.values())
