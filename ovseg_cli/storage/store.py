"""Object stores and other file systems by URL, through fsspec."""

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from ovseg_cli.errors import InputError, OutputError, OvsegError, UsageError
from ovseg_cli.media.inputs import ImageInput
from ovseg_cli.printable import printable

LARGEST_OBJECT = 1 << 30  # bytes of a photo, which are held in memory
# What speaks to the buckets of a protocol.
_PACKAGES = {
    **dict.fromkeys(("s3", "s3a"), "s3fs"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("az", "abfs", "abfss"), "adlfs"),
}


def is_url(text: str) -> bool:
    """Whether a text is an address such as s3://bucket/photos, not a path."""
    scheme, found, _ = text.partition("://")
    return bool(found) and scheme.isalnum()


def on_disk(text: str) -> str | None:
    """The path that a text means, a file:// URL, too; None for the URL of a store."""
    if not is_url(text):
        return text
    scheme, _, path = text.partition("://")
    return path if scheme in ("file", "local") else None


class Store:
    """What lies below a URL. Names are relative to it, '/' between folders.

    Credentials are the store's own affair: its environment variables and files, never part of a
    URL. Raises UsageError where the protocol is unknown or its package is not installed.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        if "@" in urlsplit(url).netloc:
            raise UsageError(
                "a URL with credentials in it would stand in run.json: give them as the store's "
                "own configuration has it (for S3: AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY)"
            )
        self._protocol = url.partition("://")[0]
        try:
            import fsspec

            # Not fsspec's url_to_fs, to which "::" in a photo's name begins another URL.
            client: Any = fsspec.get_filesystem_class(self._protocol)
            self.fs: Any = client(**client._get_kwargs_from_urls(self.url))
            self.path: str = client._strip_protocol(self.url)
        except ImportError as error:
            package = _PACKAGES.get(
                self._protocol, f"the package of fsspec for {self._protocol}://"
            )
            raise UsageError(
                f"{self._protocol}:// needs {package}: pip install 'ovseg-cli[remote]' {package}"
            ) from error
        except Exception as error:  # each client has its own types
            raise UsageError(f"{printable(url)}: {reason(error)}") from error

    def full(self, name: str) -> str:
        """The path of a name, as the file system of the store wants it."""
        return f"{self.path}/{name}" if name else self.path

    def size(self, name: str) -> int:
        """Bytes of an object, -1 where it is not there; raises OutputError."""
        self.fs.invalidate_cache()  # others write, too
        with self.errors(OutputError, f"cannot read {self.url}/{name}"):
            try:
                return int(self.fs.info(self.full(name))["size"] or 0)
            except (FileNotFoundError, KeyError):
                return -1

    def sizes(self, name: str) -> dict[str, int]:
        """Bytes of all objects in one folder, by their last name; raises OutputError."""
        self.fs.invalidate_cache()
        with self.errors(OutputError, f"cannot read {self.url}/{name}"):
            try:
                found = self.fs.ls(self.full(name), detail=True)
            except FileNotFoundError:
                found = []
        return {
            entry["name"].rstrip("/").rpartition("/")[2]: int(entry["size"] or 0)
            for entry in found
            if entry["type"] == "file"
        }

    def put(self, file: Path, name: str) -> None:
        """Copy a local file there, whole or not at all; raises OutputError."""
        with self.errors(OutputError, f"cannot write {self.url}/{name}"):
            self._make_folder_of(name)
            if self.fs.protocol in ("file", ("file", "local")):
                part = f"{self.full(name)}.part"  # a copy is not whole at once, as a PUT is
                self.fs.put_file(str(file), part)
                self.fs.mv(part, self.full(name))
            else:
                self.fs.put_file(str(file), self.full(name))

    def post(self, name: str) -> None:
        """Leave an empty object; raises OutputError."""
        with self.errors(OutputError, f"cannot write {self.url}/{name}"):
            self._make_folder_of(name)
            self.fs.pipe_file(self.full(name), b"")

    def _make_folder_of(self, name: str) -> None:
        """Where there are folders: in a bucket there are none, and a client that is asked for one
        makes the bucket, though its name was mistyped.
        """
        if self._protocol not in _PACKAGES:
            self.fs.makedirs(self.full(name).rpartition("/")[0], exist_ok=True)

    def get(self, name: str, file: Path) -> None:
        """Copy an object here; raises OutputError."""
        with self.errors(OutputError, f"cannot read {self.url}/{name}"):
            self.fs.get_file(self.full(name), str(file))

    def remove(self, name: str) -> None:
        """Remove an object, if it is there; raises OutputError."""
        with (
            self.errors(OutputError, f"cannot remove {self.url}/{name}"),
            contextlib.suppress(FileNotFoundError),
        ):
            self.fs.rm_file(self.full(name))

    @contextlib.contextmanager
    def errors(self, kind: type[OvsegError], what: str) -> Iterator[None]:
        """Whatever the store's client raises becomes an error of this kind."""
        try:
            yield
        except OvsegError:
            raise
        except Exception as error:  # each client has its own types
            raise kind(f"{printable(what)}: {reason(error)}") from error


def reason(error: Exception) -> str:
    """Why a store refuses, in one line."""
    if isinstance(error, FileNotFoundError):
        return "no such object, folder or bucket"
    text = printable(str(error).strip().partition("\n")[0])[:200]
    return text or type(error).__name__


@dataclass(frozen=True)
class StoredImage(ImageInput):
    """A photo in an object store, as it was when it was listed."""

    url: str
    size: int
    stamp: int  # a number that changes when the object does

    @property
    def name(self) -> str:
        """Its URL."""
        return self.url

    @property
    def location(self) -> str:
        """Its URL."""
        return self.url

    def absolute(self) -> "StoredImage":
        """Itself."""
        return replace(self)

    def version(self) -> tuple[int, int]:
        """Its size in bytes and its stamp, of the listing: no further request is needed."""
        return self.size, self.stamp

    def open(self) -> BinaryIO:
        """Its bytes, fetched at once; raises InputError."""
        if self.size == 0:
            raise InputError("the file is empty")
        return io.BytesIO(fetch(self.url, 0, self.size))


def fetch(url: str, start: int, end: int) -> bytes:
    """Bytes of an object; raises InputError where it cannot be read or is too large."""
    if end - start > LARGEST_OBJECT:
        raise InputError(f"{end - start} bytes are more than a photo in a store may have")
    store = Store(url)
    with store.errors(InputError, "cannot be read"):
        data: bytes = store.fs.cat_file(store.path, start=start, end=end)
    return data


def current_stamp(url: str) -> int:
    """`stamp_of` an object as it is now; raises InputError."""
    store = Store(url)
    store.fs.invalidate_cache()  # others write, too
    with store.errors(InputError, "cannot be read"):
        return stamp_of(store.fs.info(store.path))


def stamp_of(info: dict[str, Any]) -> int:
    """A number, less than 2^63, that changes when an object does: of its ETag, else its time."""
    for key in ("ETag", "etag", "md5Hash", "LastModified", "mtime", "created", "last_modified"):
        if info.get(key):
            return int.from_bytes(sha256(str(info[key]).encode()).digest()[:8], "big") >> 1
    return 0
