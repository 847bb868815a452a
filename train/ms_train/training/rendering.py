"""Make batches of rendered windows from recordings, for recipes with an augmentation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ms_edge.arrays import Float32
from ms_train.augment import rooms
from ms_train.augment.augmentations import MASKS, Chain
from ms_train.augment.bank import Bank, Plan, digest
from ms_train.augment.pool import Pool
from ms_train.augment.scenes import Scenes
from ms_train.datasets.cache import Cache
from ms_train.datasets.dataset import Dataset, Recording
from ms_train.recipes.recipe import Recipe
from ms_train.signals import Audio
from ms_train.training.batches import BankBatches, chances_of_lengths, counts_of, lengths_of_batches


def pool_of(recordings: Sequence[tuple[Recording, Audio]], dataset: Dataset, recipe: Recipe, cache: Cache) -> Pool:
    """Return a pool of the recordings to draw windows from; the cache holds where each recording is
    active.
    """
    active = cache.activity(recordings, recipe.spec.sample_rate_hz)
    return Pool(recordings, dataset.labels, dataset.decision, recipe.spec, recipe.apart, active)


def scenes_of(pool: Pool, recipe: Recipe, split: str, cache: Cache) -> Scenes:
    """Return the scenes that windows are drawn from: a pool, and the rooms of a split if the recipe
    uses scenes.
    """
    return Scenes(pool, rooms.load(split, recipe.spec.sample_rate_hz, cache.folder) if recipe.scenes else ())


def batches_of(
    recordings: Sequence[tuple[Recording, Audio]],
    dataset: Dataset,
    recipe: Recipe,
    targets: Callable[[Float32], Float32],
    *,
    epochs: int,
    seed: int,
    cache: Cache,
    out: Path,
) -> BankBatches:
    """Return the batches of `epochs` epochs, from a bank in the cache.

    The bank is rendered if the cache does not hold it. Without a cache, the bank is a temporary
    file in `out`. Raises MsEdgeError if the disk is too small for the bank, or if rooms cannot be
    simulated.
    """
    assert recipe.augment is not None
    spec = recipe.spec
    steps = recipe.steps_per_epoch or -(-len(recordings) * recipe.clips_per_recording // recipe.batch_size)
    chances = chances_of_lengths(spec, recipe.clip_lengths_s)
    lengths = lengths_of_batches(epochs * steps, chances, seed)
    counts = counts_of(lengths, chances, recipe.batch_size, recipe.bank_windows)
    scenes = scenes_of(pool_of(recordings, dataset, recipe, cache), recipe, "train", cache)
    facts = {
        "recordings": [(each.name, each.sha256, each.label, each.source, each.group) for each, _ in recordings],
        "labels": dataset.labels,
        "decision": dataset.decision,
        "frontend_sha256": spec.digest,
        "rooms": rooms.digest("train", spec.sample_rate_hz) if recipe.scenes else None,
        "augment": [str(step) for step in getattr(recipe.augment, "steps", ()) if step[0] not in MASKS],
        "apart": recipe.apart,
        "counts": counts,
        "seed": seed,
    }
    # The name of any other augmentation does not determine what it does, so its bank is not kept.
    kept = cache.folder if isinstance(recipe.augment, Chain) else None
    folder = kept and kept / f"bank-{digest(facts)[:16]}"
    bank = Bank(folder, Plan(scenes, recipe.augment, counts, seed), out)
    return BankBatches(bank, recipe.batch_size, steps, lengths, targets)
