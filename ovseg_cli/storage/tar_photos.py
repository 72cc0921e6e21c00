"""Photos in tar archives, WebDataset shards above all: read where they lie, never unpacked.

An archive from elsewhere may be hostile. Its names are names only: nothing is ever written by them,
and what is no plain file (a link, a device), or bears a name that leads out of a folder, fails.
"""

import io
import os
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any, BinaryIO, cast

from ovseg_cli.errors import InputError, UsageError
from ovseg_cli.media.folders import is_image_name
from ovseg_cli.media.inputs import ImageInput
from ovseg_cli.printable import printable
from ovseg_cli.storage.store import Store, current_stamp, fetch, is_url, reason, stamp_of
from ovseg_cli.whole_files import stays_inside

_HEADER_BYTES = 1 << 20  # of names and records before a member; more is no honest archive
_CHANGED = "the archive has changed since its photos were listed"
_STORE_BLOCK = 1 << 16  # bytes that are fetched around a header


@dataclass(frozen=True)
class TarMember(ImageInput):
    """A photo in an archive: so many bytes from a place on."""

    tar: str  # path or URL
    offset: int
    size: int
    stamp: int  # of the archive: a number that changes when it does
    problem: str = ""  # why it cannot be read

    @property
    def name(self) -> str:
        """The archive's name and that of the photo in it."""
        return f"{self.tar}/{self.path.relative_to(Path(self.tar))}"

    @property
    def location(self) -> str:
        """As if the archive were a folder."""
        return self.name if is_url(self.tar) else os.path.abspath(self.file)

    def absolute(self) -> "TarMember":
        """The same for a process with another working folder."""
        if is_url(self.tar):
            return self
        return replace(self, file=str(self.path.absolute()), tar=str(Path(self.tar).absolute()))

    def version(self) -> tuple[int, int]:
        """Its size in bytes and the archive's stamp."""
        return self.size, self.stamp

    def open(self) -> BinaryIO:
        """Its bytes; raises InputError, also where the archive has changed meanwhile."""
        if self.problem:
            raise InputError(self.problem)
        if self.size == 0:
            raise InputError("the file is empty")
        if is_url(self.tar):
            data = fetch(self.tar, self.offset, self.offset + self.size)
            if current_stamp(self.tar) != self.stamp:  # asked last: nothing comes between
                raise InputError(_CHANGED)
            return io.BytesIO(data)
        file = open(self.tar, "rb")  # noqa: SIM115 - the window closes it
        if os.fstat(file.fileno()).st_mtime_ns != self.stamp:
            file.close()
            raise InputError(_CHANGED)
        return cast(BinaryIO, io.BufferedReader(_Window(file, self.offset, self.size)))


class _Window(io.RawIOBase):
    """A part of a file as if it were one."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file, self._start, self._size = file, start, size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._start + self._at)
        data = self._file.read(max(0, min(len(buffer), self._size - self._at)))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


class _Headers:
    """A file of which no large piece is read: tarfile takes a header's length on trust."""

    def __init__(self, file: Any) -> None:
        self.seek, self.tell = file.seek, file.tell
        self._read = file.read

    def read(self, size: int) -> bytes:
        if size > _HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return cast(bytes, self._read(size))


def is_tar_name(text: str) -> bool:
    """Whether a path or URL names an archive."""
    return text.lower().endswith((".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst"))


def tar_photos(tar: str) -> list[TarMember]:
    """The photos in an archive, in its order; other members are passed over, hidden ones too.

    Those that cannot be read are among them, under names that no other has (a#2.jpg), so that what
    can be read keeps its own. Where the archive itself is damaged, the last one stands
    for the rest. Raises UsageError where it is not there or is compressed.
    """
    if not tar.lower().endswith(".tar"):
        raise UsageError(
            f"{printable(tar)}: photos in a compressed archive cannot be reached by themselves: "
            "decompress it to a .tar"
        )
    found: list[TarMember] = []
    taken: set[str] = set()  # names of those that can be read
    with _opened(tar) as (file, size, stamp):
        try:
            for info in _infos(file):
                name = "/".join(part for part in info.name.split("/") if part not in ("", "."))
                base = name.rpartition("/")[2]
                if not is_image_name(name) or base.startswith(".") or info.isdir():
                    continue
                photo = _member(tar, name, info, stamp, _problem(info, name in taken, size))
                if not photo.problem:
                    taken.add(name)
                found.append(photo)
        except (tarfile.TarError, OSError, ValueError) as error:
            found.append(_damaged(tar, stamp, f"the archive is damaged ({reason(error)})"))
    _name_apart(found)
    return found


def _name_apart(photos: list[TarMember]) -> None:
    """Give those that cannot be read names that no other has."""
    taken = {photo.file for photo in photos if not photo.problem}
    times: Counter[str] = Counter()
    for position, photo in enumerate(photos):
        if not photo.problem:
            continue
        stem, suffix = os.path.splitext(photo.file)
        file = photo.file
        while file in taken:
            times[photo.file] += 1
            file = f"{stem}#{times[photo.file] + 1}{suffix}"
        taken.add(file)
        photos[position] = replace(photo, file=file)


def _infos(file: Any) -> Iterator[tarfile.TarInfo]:
    with tarfile.open(fileobj=_Headers(file), mode="r:") as archive:  # type: ignore[call-overload]
        while (info := archive.next()) is not None:
            archive.members = []  # else it keeps all that it has seen
            yield info


def _problem(info: tarfile.TarInfo, is_taken: bool, size: int) -> str:
    """Why a member cannot be taken; empty where it can."""
    if not stays_inside(PurePath(info.name)) or "\0" in info.name:
        return "its name leads out of the folder"
    if not info.isreg() or info.issparse():
        return "a link, device or hole in the archive, not a file"
    if info.offset_data + info.size > size:
        return "the archive ends in the middle of it"
    return "another photo of this name is in the archive" if is_taken else ""


def _member(tar: str, name: str, info: tarfile.TarInfo, stamp: int, problem: str) -> TarMember:
    path = PurePath(name.replace("\0", ""))
    inside = (part for part in path.parts if part not in (path.anchor, ".."))
    file = str(Path(tar, *inside))
    return TarMember(file, "", tar, info.offset_data, info.size, stamp, problem)


def _damaged(tar: str, stamp: int, problem: str) -> TarMember:
    return TarMember(str(Path(tar) / "(rest)"), "", tar, 0, 0, stamp, problem)


class _opened:
    """An archive, its size and its stamp."""

    def __init__(self, tar: str) -> None:
        self._tar = tar

    def __enter__(self) -> tuple[Any, int, int]:
        if is_url(self._tar):
            store = Store(self._tar)
            with store.errors(UsageError, f"cannot read {self._tar}"):
                info = store.fs.info(store.path)
                how = {"block_size": _STORE_BLOCK, "cache_type": "readahead"}
                self._file = store.fs.open(store.path, "rb", **how)
            return self._file, int(info["size"]), stamp_of(info)
        try:
            self._file = open(self._tar, "rb")
        except OSError as error:
            raise UsageError(f"cannot read {printable(self._tar)}: {error.strerror}") from error
        status = os.fstat(self._file.fileno())
        return self._file, status.st_size, status.st_mtime_ns

    def __exit__(self, *_: object) -> None:
        self._file.close()
