"""Classify an archive with Ray Data: list, divide, classify in a pool of actors, write.

The process that starts the run lists the recordings and writes the rows. Actors read and classify.
Every recording has a number. The rows that come back are counted by it, so that each recording has
one row, whatever was lost or repeated on the way.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from ms_edge.archive.actor import Recordings
from ms_edge.archive.cluster import cpus, import_ray, joined
from ms_edge.archive.listing import Recording, recordings, tasks
from ms_edge.archive.output import ArchiveOutput, counted
from ms_edge.archive.progress import Numbers
from ms_edge.archive.stores import Stores, split_query
from ms_edge.classifier import Classifier
from ms_edge.errors import MsEdgeError
from ms_edge.output.parquet import recordings_table, row_of, settings_text
from ms_edge.results import Failure

DONE, FAILED = 0, 1


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
    if Ray is not installed.
    """
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
    ray = import_ray()
    pool = ray.data.ActorPoolStrategy(
        min_size=actors[0], max_size=actors[1], initial_size=initial, max_tasks_in_flight_per_actor=1
    )
    return dataset.map_batches(
        Recordings,
        fn_constructor_args=(settings, reading, stores),
        batch_size=None,
        batch_format="pyarrow",
        compute=pool,
        num_cpus=num_cpus,
        num_gpus=1 if str(settings.get("device", "")).startswith("cuda") else None,
        udf_modifying_row_count=False,
    )


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
    classifier = Classifier(**{**settings, "device": "cpu"})
    of_run = settings_text(classifier.settings(reading.get("raw"), reading.get("channel")))
    source, options = split_query(source)
    stores = Stores(options)
    place, options = split_query(output)
    results = ArchiveOutput(place, Stores(options), segments=segments, resume=resume)
    told: list[str] = []
    listed = recordings(source, stores, told.append)
    done = results.done(listed, classifier.model.sha256, of_run)
    open_numbers = [number for number in range(len(listed)) if number not in done]
    numbers = Numbers(len(listed), sum(listed[number].work_s for number in open_numbers), len(done), quiet=quiet)
    for sentence in told:
        numbers.complain(sentence)
    ray = joined(address, verbose=verbose)
    pool = min(cpus(ray), actors or cpus(ray))
    rows = _rows(ray, listed, open_numbers, settings, reading, stores, pool, actors, num_cpus)
    missing = np.zeros(len(listed), bool)
    missing[open_numbers] = True
    try:
        for table in rows:
            fresh = _first_time(table, missing)
            results.add(fresh)
            errors, hours = counted(fresh)
            work = sum(listed[number].work_s for number in fresh["index"].to_pylist())
            numbers.add(len(fresh), errors, 3600 * hours, work)
        lost = [_lost(listed[number].path) for number in np.flatnonzero(missing)]
        if lost:
            results.add(recordings_table(map(row_of, lost)))
            numbers.add(len(lost), len(lost), 0.0, 0.0)
    except Exception as error:
        raise _explained(error) from None
    finally:
        results.flush()
        numbers.finish()
    return FAILED if numbers.errors else DONE


def _rows(
    ray: Any,
    listed: list[Recording],
    open_numbers: list[int],
    settings: dict[str, Any],
    reading: dict[str, Any],
    stores: Stores,
    pool: int,
    most: int | None,
    num_cpus: float,
) -> Iterator[pa.Table]:
    """Yield rows with their numbers in the column `index`, as they come."""
    failed = [(number, listed[number].failure) for number in open_numbers if listed[number].failure]
    if failed:
        rows = recordings_table(row_of(failure) for _, failure in failed if failure)
        yield rows.append_column("index", pa.array([number for number, _ in failed], pa.int64()))
    divided = tasks(((number, listed[number]) for number in open_numbers if not listed[number].failure), pool)
    if not divided:
        return
    dataset = ray.data.from_arrow(divided)
    size = min(pool, len(divided))
    found = _classified(dataset, settings, reading, stores, (1, most), num_cpus, size)
    yield from found.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)


def _first_time(table: pa.Table, missing: np.ndarray[Any, Any]) -> pa.Table:
    """Return the rows of recordings that are missing, and note that they are not any more."""
    keep = []
    for number in table["index"].to_pylist():
        keep.append(bool(missing[number]))
        missing[number] = False
    return table if all(keep) else table.filter(pa.array(keep, pa.bool_()))


def _lost(path: str) -> Failure:
    return Failure(path, "worker-died", f"{path}: the process that read it ended each time it was tried.")


def _explained(error: Exception) -> Exception:
    """Return the error of ms-edge inside an exception of Ray, or the exception itself."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, MsEdgeError):
            return inner
        inner = getattr(inner, "cause", None) or inner.__cause__
    return error
