"""Where an endpoint's sockets live: short, private, and the same place for whoever asks."""

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from providers.errors import Permanent
from providers.local.processes import Processes, ProcessSpec, runtime_directory, socket_path


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory with a path that is short enough for sockets, which pytest's own are not always."""
    path = Path(tempfile.mkdtemp(prefix="rk", dir="/tmp"))
    yield path
    shutil.rmtree(path)


def test_names_and_paths(tmp_path: Path, short: Path) -> None:
    endpoint = Processes(tmp_path, short)
    for name in ("keeper", "../x", ".x", "", "a/b"):
        with pytest.raises(ValueError, match="no name for a process"):
            endpoint.want(name, ProcessSpec(("true",), tmp_path / "log"))
    with pytest.raises(Permanent, match="system allows 107"):
        Processes(tmp_path, Path("/tmp") / ("x" * 100))
    assert len(str(socket_path(Path("/" + "x" * 94), "keeper.sock"))) == 107


def test_runtime_directory_is_the_same_for_every_caller(tmp_path: Path, short: Path) -> None:
    first = runtime_directory(tmp_path, short)
    try:
        assert first.parent == short / "rollout"
        assert len(first.name) == 10
        assert runtime_directory(tmp_path, None) == first  # from a cron job, without XDG_RUNTIME_DIR
        assert stat.S_IMODE(first.stat().st_mode) == stat.S_IMODE(first.parent.stat().st_mode) == 0o700
        shutil.rmtree(short / "rollout")
        assert runtime_directory(tmp_path, None) == first  # cleaned behind our back: the same place again
        assert first.is_dir()
        shutil.rmtree(short / "rollout")
        (short / "rollout").write_text("in the way")
        moved = runtime_directory(tmp_path, short)
        assert moved.parent == Path("/tmp") / f"rollout-{os.getuid()}"
        assert runtime_directory(tmp_path, short) == moved
        moved.rmdir()
    finally:
        with contextlib.suppress(OSError):
            (Path("/tmp") / f"rollout-{os.getuid()}").rmdir()


def test_runtime_directory_of_another_user_is_refused(tmp_path: Path, short: Path) -> None:
    (short / "rollout").symlink_to(tmp_path)
    chosen = runtime_directory(tmp_path, short)
    assert chosen.parent != short / "rollout"
    chosen.rmdir()
    with contextlib.suppress(OSError):
        chosen.parent.rmdir()
