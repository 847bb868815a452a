"""Classify an archive with Ray Data: list, divide, classify in a pool of actors, write.

The process that starts the run lists the recordings and writes the rows. Actors read and classify.
Every recording has a number. The rows that come back are counted by it, so that each recording has
one row, whatever was lost or repeated on the way.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from ms_edge.archive.actor import ModelFile, Recordings
from ms_edge.archive.cluster import LOST_STARTS, import_ray, joined, node_cpus, require_cluster, require_room
from ms_edge.archive.listing import Recording, recordings, tasks
from ms_edge.archive.output import ArchiveOutput, counted
from ms_edge.archive.progress import Numbers
from ms_edge.archive.stores import Stores, require_no_password, split_query
from ms_edge.classifier import Classifier
from ms_edge.errors import DeviceError, MsEdgeError, UsageError, first_line
from ms_edge.output.parquet import recordings_table, row_of, settings_text

DONE, FAILED, INTERRUPTED = 0, 1, 130
LARGEST = 1 << 20  # actors, for a pool without a limit
Missing = np.ndarray[Any, np.dtype[np.bool_]]  # by the number of a recording: it has no row yet


def classify(
    dataset: Any,
    *,
    settings: dict[str, Any] | None = None,
    reading: dict[str, Any] | None = None,
    filesystem: object = None,
    actors: tuple[int, int | None] = (1, None),
    num_cpus: float = 1.0,
) -> Any:
    """Return a Ray dataset with the columns of records for a dataset with a column `path`.

    A path is a file on every node, or a URL. `settings` are arguments of `Classifier`, such as
    `{"hop_s": 0.5}`, and `reading` those of `Classifier.classify`. `filesystem` is that of all paths,
    of pyarrow or fsspec; by default, their URLs decide. `actors` are the least and the most actors,
    of `num_cpus` CPUs each. Nothing is computed before the dataset is consumed. Raises DeviceError
    if Ray is not installed, and UsageError if the least actors could leave no CPU to those who read
    the dataset, so that it would never end.
    """
    ray = import_ray()
    from ray.data.dataset import MaterializedDataset

    readers = not isinstance(dataset, MaterializedDataset)
    require_room(node_cpus(ray), actors[0], num_cpus, readers=readers)
    return _classified(dataset, settings or {}, reading or {}, Stores(filesystem=filesystem), actors, num_cpus)


def _classified(
    dataset: Any,
    settings: dict[str, Any],
    reading: dict[str, Any],
    stores: Stores,
    actors: tuple[int, int | None],
    num_cpus: float,
    initial: int | None = None,
) -> Any:
    from ray.data import ActorPoolStrategy

    pool = ActorPoolStrategy(
        min_size=actors[0],
        max_size=actors[1],
        initial_size=initial,
        max_tasks_in_flight_per_actor=1,  # another could wait for hours behind a long recording
        max_concurrent_calls_per_actor=1,
        enable_true_multi_threading=True,  # in the thread of the task, in which Ray states its attempt
    )
    found = dataset.map_batches(
        Recordings,
        fn_constructor_args=(_shipped(settings), reading, stores),
        batch_size=None,
        batch_format="pyarrow",
        compute=pool,
        num_cpus=num_cpus,
        udf_modifying_row_count=False,
    )
    context = found.context
    context.autoscaling_config.actor_pool_util_upscaling_threshold = 0.99  # a pool grows if all are busy
    context.execution_no_progress_timeout_s = -1  # actors watch over themselves
    context.max_consecutive_actor_init_deaths = LOST_STARTS
    return found


def _shipped(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings with the content of the model file, if they name one."""
    model = settings.get("model")
    if model is None or not os.path.isfile(model):
        return settings
    with open(model, "rb") as file:
        return {**settings, "model": ModelFile(file.read())}


def archive(
    source: str,
    output: str,
    *,
    settings: dict[str, Any] | None = None,
    reading: dict[str, Any] | None = None,
    segments: bool = False,
    resume: bool = False,
    address: str | None = None,
    actors: int | None = None,
    num_cpus: float = 1.0,
    quiet: bool = True,
    verbose: bool = False,
) -> int:
    """Classify what `source` names, write a row for each recording to `output`, and return the exit status.

    `actors` is the most actors at a time; by default, as many as the cluster has CPUs for. See
    `classify`, and `ArchiveOutput` for `output`, `segments` and `resume`. Raises MsEdgeError.
    """
    settings, reading = settings or {}, reading or {}
    if address:
        require_cluster(address)
    classifier = Classifier(**settings)
    of_run = settings_text(classifier.settings(reading.get("raw"), reading.get("channel")))
    for given in (source, output):
        require_no_password(given)
        if not given:
            raise UsageError("An archive needs the names of its source and of its output.")
    source, options = split_query(source)
    stores = Stores(options)
    place, options = split_query(output)
    with contextlib.closing(ArchiveOutput(place, Stores(options), segments=segments, resume=resume)) as results:
        told: list[str] = []
        listed = recordings(source, stores, told.append)
        done = results.done(listed, classifier.model.sha256, of_run)
        missing = np.ones(len(listed), bool)
        missing[list(done)] = False
        work_s = sum(listed[number].work_s for number in np.flatnonzero(missing))
        numbers = Numbers(len(listed), work_s, len(done), quiet=quiet)
        for sentence in told:
            numbers.complain(sentence)
        results.add(_failed(listed, missing, numbers))
        try:
            if missing.any():
                with joined(address, verbose=verbose) as ray:
                    todo = [(int(number), listed[number]) for number in np.flatnonzero(missing)]
                    for rows in _found(ray, todo, settings, reading, stores, actors, num_cpus):
                        _take(rows, listed, missing, results, numbers)
                    assert not missing.any(), "Ray Data ended without some rows"
        except (KeyboardInterrupt, SystemExit):
            results.flush()
            numbers.finish()
            numbers.complain("interrupted: the rows so far are written; the same command with --resume does the rest.")
            return INTERRUPTED
        except Exception as error:
            raise _explained(error) from None
        finally:
            results.flush()
        numbers.finish()
        return FAILED if numbers.errors else DONE


def _found(
    ray: Any,
    todo: list[tuple[int, Recording]],
    settings: dict[str, Any],
    reading: dict[str, Any],
    stores: Stores,
    actors: int | None,
    num_cpus: float,
) -> Iterator[pa.Table]:
    """Yield the rows of numbered recordings, as the actors give them. Raises UsageError if no actor can start."""
    cpus = node_cpus(ray)
    require_room(cpus, 1, num_cpus, readers=False)
    pool = min(actors or LARGEST, max(1, int(sum(cpus) / (num_cpus or 1))))
    divided = tasks(todo, pool)
    dataset = ray.data.from_arrow(divided)
    initial = min(pool, len(divided))
    found = _classified(dataset, settings, reading, stores, (1, actors), num_cpus, initial)
    yield from found.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)


def _failed(listed: list[Recording], missing: Missing, numbers: Numbers) -> pa.Table:
    """Return the rows of recordings of which the listing says that they cannot be read."""
    failures = []
    for number in np.flatnonzero(missing):
        if failure := listed[number].failure:
            failures.append(failure)
            missing[number] = False
            numbers.add(1, 1, 0.0, listed[number].work_s)
    return recordings_table(map(row_of, failures))


def _take(rows: pa.Table, listed: list[Recording], missing: Missing, results: ArchiveOutput, numbers: Numbers) -> None:
    """Write and count the rows of recordings that are missing. Others came before."""
    keep = []
    for number in rows["index"].to_pylist():
        keep.append(bool(missing[number]))
        missing[number] = False
    fresh = rows.filter(pa.array(keep, pa.bool_()))
    results.add(fresh)
    errors, audio_s = counted(fresh)
    numbers.add(len(fresh), errors, audio_s, sum(listed[n].work_s for n in fresh["index"].to_pylist()))


def _explained(error: Exception) -> Exception:
    """Return the error of ms-edge in an exception of Ray, a sentence for another one, or `error` itself."""
    from ray.exceptions import RayError

    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, MsEdgeError):
            return inner
        inner = getattr(inner, "cause", None) or inner.__cause__
    if not isinstance(error, RayError):
        return error
    if missing := re.search(r"No module named '[^']+'", str(error)):
        why = f"{missing[0]}: every node needs ms-edge and the extras cpu and ray, in the versions of this machine"
    else:
        why = f"{type(error).__name__}: {first_line(error)}"
    return DeviceError("ray-failed", f"The cluster has failed ({why}). The rows so far are written.")
