"""Reads Envoy's log of mirrored requests and their twins from where it was read last, over rotations and restarts.

Envoy appends, and writes what it has every half second, so the last line may be half there: it is left for the next
time. The keeper renames a file that has grown too long (`rotation`), and Envoy then begins another one: what was not
read of the old file is read before the new one. A file is known by its inode and its first bytes, because inodes are
used again.
"""

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from providers.local.rotation import LIMIT, rotated

_HEAD = 96
"""Bytes that tell one file from another: less than a line, and with a time and an id in them."""
_MOST = 2 * LIMIT
"""Bytes that are read of one file at once; of a longer one, which no keeper has looked after, the end."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where reading goes on.

    Attributes:
        inode: of the file; 0 before there is any.
        head: digest of its first bytes, "" while it has fewer.
        offset: of the first byte that was not read.
    """

    inode: int = 0
    head: str = ""
    offset: int = 0

    def json(self) -> list[Any]:
        """For a cursor."""
        return [self.inode, self.head, self.offset]

    @classmethod
    def of(cls, raw: list[Any]) -> "Place":
        """From a cursor."""
        return cls(*raw)


@dataclass(frozen=True, slots=True)
class Read:
    """What was read.

    Attributes:
        lines: whole ones, in order, without their end.
        place: where reading goes on.
        gap: the place that it should have begun at is gone, so lines may be missing, and may have been read before.
    """

    lines: tuple[bytes, ...]
    place: Place
    gap: bool = False


def end(path: Path, tail: int) -> Read:
    """The last whole lines, those within about `tail` bytes."""
    return _read(path, None, tail) or Read((), Place())


def since(path: Path, place: Place) -> Read:
    """The lines that came since that place. Where it is gone, reading begins with the oldest that is there."""
    newer = _read(path, place)
    if newer is not None and not newer.gap:
        return newer
    # The older file is looked at last: once there is a newer one, nothing more comes into it.
    older = _read(Path(rotated(str(path))), place)
    # Renamed, and Envoy has not begun another one yet; or never renamed.
    found = older or newer or Read((), place)
    if older is not None and newer is not None:
        found = Read((*older.lines, *newer.lines), newer.place, older.gap)
    return replace(found, gap=found.gap and place.inode != 0)


def _read(path: Path, place: Place | None, most: int = _MOST) -> Read | None:
    """The end of one file, from the place where it is in this file, else (`gap`) from its beginning."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            first = file.read(_HEAD)
            head = hashlib.sha256(first).hexdigest()[:12] if len(first) == _HEAD else ""
            found = place is not None and _is_in(place, status, head)
            offset = place.offset if place is not None and found else 0
            begin = max(offset, status.st_size - most)
            file.seek(begin)
            text = file.read(status.st_size - begin)
    except FileNotFoundError:
        return None
    whole = text.rfind(b"\n") + 1
    lines = text[:whole].split(b"\n")[:-1]
    if begin > offset:
        lines = lines[1:]  # the first one was cut
    return Read(tuple(lines), Place(status.st_ino, head, begin + whole), gap=not found)


def _is_in(place: Place, status: os.stat_result, head: str) -> bool:
    return place.inode == status.st_ino and place.head in ("", head) and place.offset <= status.st_size
