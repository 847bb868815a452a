"""What an actor of Ray does: classify a batch of recordings with a model that it loads once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow as pa

from ms_edge.archive.stores import Stores
from ms_edge.classifier import Classifier
from ms_edge.errors import AudioError, DeviceError, ModelError, UsageError, first_line, reason
from ms_edge.output.parquet import RECORDINGS, row_of
from ms_edge.results import Classification, Failure


class Recordings:
    """A callable for `Dataset.map_batches`: a table of paths in, the rows of their records out.

    `settings` are the arguments of `Classifier`, and `reading` those of `Classifier.classify`. The
    table has a column `path`, and may have `bytes` and `modified`, what a store knows of the
    recording; further columns are kept.
    """

    def __init__(self, settings: dict[str, Any], reading: dict[str, Any], stores: Stores) -> None:
        self._classifier = Classifier(**settings)
        self._reading = reading
        self._stores = stores

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Return the batch with a column for each field of the records."""
        rows = [row_of(self._result(each)) for each in batch.to_pylist()]
        kept = [name for name in batch.column_names if name not in (*RECORDINGS.names, "bytes", "modified")]
        found = pa.Table.from_pylist(rows, schema=RECORDINGS)
        for name in kept:
            found = found.append_column(batch.field(name), batch[name])
        return found

    def _result(self, recording: dict[str, Any]) -> Classification | Failure:
        path = recording["path"]
        try:
            return self._classified(path, recording)
        except (AudioError, UsageError) as error:
            return Failure(path, error.code, error.message)
        except (ModelError, DeviceError):
            raise
        except FileNotFoundError:
            return Failure(path, "not-found", f"{path}: no such file.")
        except PermissionError as error:
            return Failure(path, "no-permission", f"{path}: {reason(error)}.")
        except OSError as error:
            return Failure(path, "cannot-read", f"{path}: cannot be read ({first_line(error)}).")
        except Exception as error:  # one recording of millions must not end the run
            why = f"{type(error).__name__}: {first_line(error)}"
            return Failure(path, "unexpected-error", f"{path}: ms-edge failed ({why}); please report it.")

    def _classified(self, path: str, recording: dict[str, Any]) -> Classification:
        if self._stores.is_local(path):
            found = self._classifier.classify(self._stores.at(path)[1], **self._reading)
            return replace(found, path=path)
        with self._stores.open(path) as file:
            found = self._classifier.classify(file, **self._reading)  # type: ignore[arg-type]
        facts = {"bytes": recording.get("bytes"), "modified": recording.get("modified")}
        return replace(found, file={name: value for name, value in facts.items() if value is not None} or None)
