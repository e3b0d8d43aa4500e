"""A report put into a file: whole or not at all, and over nothing that is not ours.

`--file` is a name that people type, and type wrongly: what stands there already is replaced only when its first line
says that it is a report (or the user insists), and never through a symbolic link.
"""

import contextlib
import os
import stat
from pathlib import Path

from orchestrator.errors import UsageError

MARKER = "<!-- made by `rollout report`, which may write it again -->"
"""In the first line of every report."""
_MADE = b"<!-- made by `rollout "
"""In the first line of whatever we write so."""
_LONGEST_FIRST_LINE = 400


def write(path: Path, text: str, *, force: bool, token: str) -> int:
    """Write the text to `path`; returns its size in bytes.

    Args:
        force: also over a file that is no report.
        token: makes the name of the unfinished file unique.

    Raises:
        UsageError: the file is not ours, is no regular file, or cannot be written.
    """
    before = _replaceable(path, force=force)
    data = text.encode()
    unfinished = path.with_name(f".{path.name}.{token}.part")
    try:
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
        try:
            with os.fdopen(descriptor, "wb") as file:
                if before is not None:
                    os.fchmod(file.fileno(), stat.S_IMODE(before.st_mode))
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                unfinished.unlink()
            raise
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}): name another file") from None
    return len(data)


def _replaceable(path: Path, *, force: bool) -> os.stat_result | None:
    """What stands there, if it may be replaced; None for nothing."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"{path} cannot be looked at ({error.strerror}): name another file") from None
    if stat.S_ISLNK(found.st_mode):
        raise UsageError(f"{path} is a symbolic link, and a report is not written through one: name the file itself")
    if not stat.S_ISREG(found.st_mode):
        raise UsageError(f"{path} is not a regular file: name a file to write the report to")
    if not (force or _ours(path)):
        raise UsageError(f"{path} is there already, and is no report of ours: name another file, or say --force")
    return found


def _ours(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return _MADE in file.readline(_LONGEST_FIRST_LINE)
    except OSError:
        return False
