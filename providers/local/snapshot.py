"""Copies of code and model that an endpoint keeps for itself, because a restart must never pick up edited files.

What is copied was pinned before by its sha256, so a copy is also the proof that nobody has changed the files since:
the digest is taken from the bytes that were written, not from the source a second time.

Byte code caches (`__pycache__`) are neither counted nor copied: running a script must not change what it is.
"""

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from providers.errors import Permanent
from providers.specs import Content

_IGNORED = frozenset({"__pycache__"})
_CHUNK = 1 << 20


def pin(path: Path, what: str) -> Content:
    """What is at `path` now, by its sha256.

    Args:
        what: its name in error messages ("model.path").

    Raises:
        Permanent: nothing is there, it holds something that is neither file nor folder, or a link leads out of it.
    """
    if not path.exists():
        raise Permanent(f"{what}: {path} does not exist.")
    root = path.resolve()
    digest = hashlib.sha256()
    for relative, file in _files(root, what):
        _count(digest, relative, file, None)
    return Content(str(root), digest.hexdigest())


def copy(content: Content, target: Path, what: str) -> None:
    """Copy pinned content to `target`, which may not exist.

    Raises:
        Permanent: it is not what was pinned any more, or cannot be read.
    """
    root = Path(content.path)
    if not root.exists():
        raise Permanent(f"{what}: {root} is gone since the rollout was started.")
    digest = hashlib.sha256()
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if root.is_dir():
        target.mkdir(mode=0o700)
    try:
        for relative, file in _files(root, what):
            copied = target / relative if root.is_dir() else target
            copied.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _count(digest, relative, file, copied)
    except OSError as error:
        raise Permanent(f"{what}: {error.filename or root} cannot be copied: {error.strerror}.") from None
    if digest.hexdigest() != content.sha256:
        raise Permanent(
            f"{what}: {root} changed since the rollout was started (sha256 {digest.hexdigest()[:12]} instead of "
            f"{content.sha256[:12]}): restore it, or start a rollout of the new content."
        )


def copy_all(code: Content | None, model: Content | None, target: Path, scratch: Path) -> None:
    """Make the folder `target` with `code/<name>` and `model/<name>` in it, at once or not at all.

    Nothing happens when it is there.

    Args:
        scratch: a folder of the same file system that does not exist, for this call alone.

    Raises:
        Permanent: see `copy`.
    """
    if target.is_dir():
        return
    try:
        scratch.mkdir(mode=0o700, parents=True)
        for name, content in (("code", code), ("model", model)):
            if content is not None:
                copy(content, scratch / name / Path(content.path).name, name)
        try:
            scratch.rename(target)
        except OSError:
            if not target.is_dir():  # somebody else was faster with the same content
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _files(root: Path, what: str) -> Iterator[tuple[str, Path]]:
    """Every file below `root`, or `root` itself, with its relative name, in order of names."""
    if root.is_file():
        yield root.name, root
        return
    found: list[tuple[str, Path]] = []
    folders = [root]
    while folders:
        folder = folders.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError as error:
            raise Permanent(f"{what}: {folder} cannot be read: {error.strerror}.") from None
        for entry in entries:
            path = Path(entry.path)
            if entry.name in _IGNORED:
                continue
            if entry.is_symlink() and not path.resolve().is_relative_to(root):
                raise Permanent(f"{what}: the link {path} leads out of {root}: put what it points to into the folder.")
            if entry.is_dir():
                if entry.is_symlink():
                    raise Permanent(f"{what}: {path} is a link to a folder: only links to files are copied.")
                folders.append(path)
            elif path.is_file():
                found.append((path.relative_to(root).as_posix(), path))
            else:
                raise Permanent(f"{what}: {path} is neither a file nor a folder.")
    yield from sorted(found)


def _count(digest: "hashlib._Hash", relative: str, file: Path, target: Path | None) -> None:
    try:
        with file.open("rb") as source:
            status = os.fstat(source.fileno())
            executable = bool(status.st_mode & stat.S_IXUSR)
            mode = "x" if executable else "-"
            digest.update(f"{len(relative.encode())}:{relative}:{mode}:{status.st_size}:".encode())
            if target is None:
                while chunk := source.read(_CHUNK):
                    digest.update(chunk)
                return
            with target.open("xb") as sink:
                while chunk := source.read(_CHUNK):
                    digest.update(chunk)
                    sink.write(chunk)
            target.chmod(0o700 if executable else 0o600)
    except PermissionError:
        raise Permanent(f"{file} cannot be read: permission denied.") from None
