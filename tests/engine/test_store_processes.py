"""Real processes on one SQLite file: killed in the middle of commits, opening it all at once, writing side by side."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.rollout import Rollout, apply
from orchestrator.store.sql import SqlStore

WRITER = Path(__file__).with_name("store_writer.py")


@contextmanager
def writer(url: str, rollout: str, commits: int) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, str(WRITER), url, rollout, str(commits)], stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


async def whole(store: SqlStore, name: str) -> int:
    """How many commits of the writer are stored; fails where one is stored in part."""
    row = await store.rollout(name)
    replayed: Rollout | None = None
    events = await store.events(name)
    for event in events:
        replayed = apply(replayed, event)
    assert replayed is not None
    assert (replayed.last_seq, replayed.progress, replayed.waiting) == (row.last_seq, row.progress, row.waiting)
    commits, odd = divmod(row.last_seq - 2, 2)
    evidence = await store.evidence(name)
    assert odd == 0
    assert row.measurements == commits
    assert [seq for seq, _, _ in await store.measurements(name)] == list(range(1, commits + 1))
    assert len(await store.intents(name)) == commits
    assert (evidence.measurement_seq if evidence else 0) == commits
    return commits


@pytest.mark.parametrize("acknowledged", [1, 7, 40])
async def test_a_killed_writer_leaves_what_was_acknowledged_and_no_half_commit(
    tmp_path: Path, acknowledged: int
) -> None:
    url = f"sqlite:///{tmp_path / 'rollouts.db'}"
    with writer(url, "r1", 1_000_000) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) == acknowledged:
                process.kill()
                break
        last = int(([str(acknowledged), *process.stdout.read().split()])[-1])
    store = await SqlStore.open(url, token=lambda: "other")
    try:
        assert store.id == "r1"
        assert last <= await whole(store, "r1") <= last + 1
    finally:
        await store.aclose()


async def test_processes_open_a_new_store_at_once_and_write_side_by_side(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'rollouts.db'}"
    with writer(url, "a", 60) as a, writer(url, "b", 60) as b, writer(url, "c", 60) as c:
        assert [process.wait(100) for process in (a, b, c)] == [0, 0, 0]
    store = await SqlStore.open(url, token=lambda: "other")
    try:
        assert store.id in ("a", "b", "c")
        assert [await whole(store, name) for name in ("a", "b", "c")] == [60, 60, 60]
    finally:
        await store.aclose()
