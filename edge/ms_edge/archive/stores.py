"""Where recordings and results lie: the file systems of pyarrow and of fsspec, by URL.

A place is a path of this machine or a URL such as `s3://bucket/folder/a.wav`. Its key, what follows
the bucket, is taken as it is: in a store, `%20` and `?` are characters of a name.
"""

from __future__ import annotations

import io
import os
import re
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import pyarrow as pa
from fsspec.caching import BackgroundBlockCache
from pyarrow import fs

from ms_edge.errors import DeviceError, UsageError, first_line

# A block is what one request asks a store for: large enough that its latency counts little. The
# blocks that a recording keeps, and so one of up to 16 MB, are fetched once.
BLOCK_BYTES, KEPT_BLOCKS = 4 << 20, 4
ATTEMPTS, WAIT_S = 4, 0.5  # for one request; the wait doubles each time
GOOGLE_S = 10  # for all attempts that pyarrow makes for one request to Google
PYARROW = ("s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs")  # schemes that pyarrow reads itself
FSSPEC = {"az": "adlfs", "adl": "adlfs", "abfs": "adlfs", "s3": "s3fs", "gs": "gcsfs"}  # packages of schemes
LASTING = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
T = TypeVar("T")


class Stores:
    """File systems by the beginning of a URL. Pickling keeps the options and opens them again.

    `options` maps schemes to the query of a URL with pyarrow's options, such as
    `endpoint_override=localhost:9000&scheme=http` for `s3`. `filesystem` is used for all places, if
    given: a file system of pyarrow or of fsspec. `folder` is what relative paths are relative to, by
    default the present folder: that of another process may be another one.
    """

    def __init__(
        self, options: dict[str, str] | None = None, filesystem: object = None, folder: str | None = None
    ) -> None:
        self._options = options or {}
        self._folder = os.getcwd() if folder is None else folder
        self._given = _as_pyarrow(filesystem) if filesystem is not None else None
        self._opened: dict[str, tuple[fs.FileSystem, str]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return Stores, (self._options, self._given, self._folder)

    def at(self, place: str) -> tuple[fs.FileSystem, str]:
        """Return the file system of a place, and its path there. Raises UsageError or DeviceError."""
        if self._given is not None:
            return self._given, place
        scheme, rest = split_scheme(place)
        if not scheme:
            return self._opened_at("", "")[0], os.path.join(self._folder, place)
        bucket, slash, key = rest.partition("/")
        found, root = self._opened_at(scheme, bucket)
        return found, f"{root}{slash}{key}"

    def is_local(self, place: str) -> bool:
        """Return whether a place is a path of the machine that asks."""
        return isinstance(self.at(place)[0], fs.LocalFileSystem)

    def _opened_at(self, scheme: str, bucket: str) -> tuple[fs.FileSystem, str]:
        name = f"{scheme}://{bucket}"
        if name not in self._opened:
            self._opened[name] = _open(scheme, bucket, self._options.get(scheme, ""))
        return self._opened[name]

    def open(self, place: str) -> RemoteFile:
        """Open a recording that is not on this machine. Raises OSError, UsageError or DeviceError."""
        found, path = self.at(place)
        return RemoteFile(place, repeated(lambda: found.open_input_file(path)))


def split_scheme(place: str) -> tuple[str, str]:
    """Return the scheme of a URL and what follows `://`; an empty scheme for a path, which may hold `://`, too."""
    found = re.fullmatch(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", place, re.DOTALL)
    return (found[1], found[2]) if found else ("", place)


def require_no_password(place: str, where: str = "") -> None:
    """Raise UsageError for a URL with a password, which would be in every row. `where` says where it stands."""
    scheme, rest = split_scheme(place)
    user, at, host = rest.partition("/")[0].rpartition("@")
    # A password may hold a slash. Only a port number follows the colon of a host.
    if scheme and ((at and ":" in user) or not re.fullmatch(r"\[.*\](:\d*)?|[^:]*(:\d*)?", host)):
        raise UsageError(
            f"{where}{scheme}://***: a password in a URL would be in every row; give the keys as programs of the store do, "
            "for s3:// in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        )


def split_query(url: str) -> tuple[str, dict[str, str]]:
    """Split a URL that a user gives from its query, the options for its scheme."""
    scheme, separator, _ = url.partition("://")
    place, mark, query = url.partition("?")
    if not (separator and mark):
        return url, {}
    return place, {scheme: query}


def repeated(request: Callable[[], T]) -> T:
    """Return the answer of a store, and ask again if it fails: stores have short failures.

    Raises OSError if it fails ATTEMPTS times, or for a reason that lasts.
    """
    wait_s = WAIT_S
    for left in reversed(range(ATTEMPTS)):
        try:
            return request()
        except LASTING:
            raise
        except pa.ArrowInvalid as error:  # the content is wrong
            raise OSError(first_line(error)) from None
        except (OSError, pa.ArrowException) as error:
            if not left:
                raise error if isinstance(error, OSError) else OSError(first_line(error)) from None
        except Exception as error:  # the libraries below fsspec have exceptions of their own
            if not left:
                raise OSError(first_line(error)) from None
        time.sleep(wait_s)
        wait_s *= 2
    raise AssertionError("not reached")


class RemoteFile(io.RawIOBase):
    """A recording in a store, read by ranges. The next block is fetched while one is decoded."""

    def __init__(self, name: str, file: Any) -> None:
        self.name = name
        self._file = file
        self._size = int(file.size())
        self._position = 0
        self._lock = threading.Lock()  # of the position of `_file`
        self._cache = BackgroundBlockCache(BLOCK_BYTES, self._fetch, self._size, KEPT_BLOCKS)

    def _fetch(self, start: int, end: int) -> bytes:
        end = min(end, self._size)  # the cache asks for whole blocks
        with self._lock:
            found = repeated(lambda: self._file.read_at(end - start, start))
        if len(found) != end - start:
            raise OSError(f"the store gave {len(found):,} bytes of {end - start:,}")
        return bytes(found)

    def fetch_start(self) -> None:
        """Fetch the first block, unless the file is empty. Raises OSError."""
        if self._size:
            self._cache._fetch(0, 1)

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position and return it."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer, and return the number of bytes: fewer only at the end. Raises OSError."""
        end = min(self._position + len(buffer), self._size)
        if end <= self._position:
            return 0
        found = self._cache._fetch(self._position, end)
        buffer[: len(found)] = found
        self._position += len(found)
        return len(found)

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            self._cache.close()
            self._file.close()
        super().close()


def _open(scheme: str, bucket: str, query: str) -> tuple[fs.FileSystem, str]:
    """Open the file system of a bucket. Return it with the bucket's path there."""
    if not scheme or scheme == "file":
        return fs.LocalFileSystem(), bucket
    if scheme in ("gs", "gcs") and "retry_limit_seconds" not in query:  # pyarrow's own limit is a quarter of an hour
        query = "&".join(filter(None, [query, f"retry_limit_seconds={GOOGLE_S}"]))
    url = f"{scheme}://{bucket}{'?' if query else ''}{query}"
    try:
        if scheme in PYARROW:
            found, root = fs.FileSystem.from_uri(url)
            return found, root.rstrip("/")
        import fsspec

        return _as_pyarrow(fsspec.filesystem(scheme)), bucket
    except ImportError as error:
        package = FSSPEC.get(scheme, "a package")
        raise DeviceError("no-store", f"{scheme}:// needs {package} ({first_line(error)}); pip install it.") from None
    except (pa.ArrowException, ValueError, OSError) as error:
        raise UsageError(f"{scheme}://{bucket}: no store can be opened ({first_line(error)}).") from None


def _as_pyarrow(filesystem: object) -> fs.FileSystem:
    return filesystem if isinstance(filesystem, fs.FileSystem) else fs.PyFileSystem(fs.FSSpecHandler(filesystem))
