"""Puts files into somebody's folder: only those that are not there, never through a link, never outside of it.

Everything is looked at before anything is written, and each folder is opened by a name below one that is open already:
what a name leads to cannot change in between.
"""

import contextlib
import errno
import os
import shlex
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from orchestrator.errors import UsageError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


@dataclass(frozen=True, slots=True)
class Written:
    """What was done.

    Attributes:
        directory: as it was named.
        written, kept: paths below it that were written, and that were there already.
        next: commands to type now.
    """

    directory: Path
    written: tuple[str, ...]
    kept: tuple[str, ...]
    next: tuple[str, ...]


def put(directory: Path, files: Mapping[str, str], *, plan: str, force: bool, fresh: str) -> Written:
    """Write those of the files that are not there.

    Args:
        directory: made when it is not there.
        files: path below it, with `/` -> text.
        plan: which of them is the plan.
        force: write the plan also when it is there.
        fresh: part of the name of a file that takes the plan's place once it is whole.

    Raises:
        UsageError: something in the way is no folder, is a link, or may not be written to. Nothing was written then,
            unless the disk itself refused.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise _refused(str(directory), error) from None
    try:
        there = {path: _exists(root, path) for path in files}
        theirs = {top for top in map(_top, files) if top is not None and _exists(root, top, folder=True)}
        # A folder that is there is somebody's own: a sample in the midst of it would be taken for a part of it.
        there |= {path: True for path in files if _top(path) in theirs}
        replaced = force and there[plan]
        if replaced:
            _replace(root, plan, files[plan], fresh)
        for path in files:
            if not there[path]:
                _create(root, path, files[path])
    finally:
        os.close(root)
    written = tuple(path for path in files if not there[path] or (path == plan and replaced))
    kept = tuple(
        dict.fromkeys(f"{_top(path)}/" if _top(path) in theirs else path for path in files if path not in written)
    )
    named = shlex.quote(os.path.relpath(directory / plan))
    return Written(directory, written, kept, (f"rollout validate {named}", f"rollout run {named}"))


def _top(path: str) -> str | None:
    """The folder below the directory that a path leads into, or None."""
    above = PurePosixPath(path).parts[:-1]
    return above[0] if above else None


def _exists(root: int, path: str, *, folder: bool = False) -> bool:
    """Whether the file is there, whatever it is; raises UsageError when a folder is in the way.

    `folder`: a folder is what is asked for.
    """
    try:
        with _folder(root, path, make=False) as (above, name):
            found = os.stat(name, dir_fd=above, follow_symlinks=False)
    except FileNotFoundError:
        return False
    if folder:
        return stat.S_ISDIR(found.st_mode)
    if stat.S_ISDIR(found.st_mode):
        raise UsageError(f"{path} is a folder, where a file would be written: move it away, or name another folder")
    return True


@contextlib.contextmanager
def _folder(root: int, path: str, *, make: bool) -> Iterator[tuple[int, str]]:
    """The folder of a path, open, and the file's name in it. Raises UsageError, FileNotFoundError."""
    *above, name = PurePosixPath(path).parts
    folder = os.dup(root)
    try:
        for at, part in enumerate(above):
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, dir_fd=folder)
            try:
                below = os.open(part, _FOLDER, dir_fd=folder)
            except FileNotFoundError:
                raise
            except OSError as error:
                raise _refused("/".join(above[: at + 1]), error) from None
            os.close(folder)
            folder = below
        yield folder, name
    finally:
        os.close(folder)


def _create(root: int, path: str, text: str) -> None:
    try:
        with _folder(root, path, make=True) as (folder, name):
            _write(name, text, folder)
    except OSError as error:
        raise _refused(path, error) from None


def _replace(root: int, path: str, text: str, fresh: str) -> None:
    """The new file takes the old one's place at once: whoever reads it sees the one or the other."""
    with _folder(root, path, make=False) as (folder, name):
        if not stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise UsageError(f"{path} is a link or no regular file, so it is not replaced: remove it, then init again")
        beside = f".{name}.{fresh}"
        try:
            _write(beside, text, folder)
            os.rename(beside, name, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(beside, dir_fd=folder)
            raise _refused(path, error) from None


def _write(name: str, text: str, folder: int) -> None:
    file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666, dir_fd=folder)
    with os.fdopen(file, "w", encoding="utf-8", newline="") as stream:
        stream.write(text)


def _refused(path: str, error: OSError) -> UsageError:
    if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EEXIST):
        return UsageError(f"{path} is a link or no folder, and nothing is written through it: name another folder")
    reason = (error.strerror or "it cannot be opened").lower()
    return UsageError(f"{path} cannot be written: {reason}; name another folder")
