"""Commits per second of the store, against the least that a durable commit can cost.

The least: the same bytes of JSON appended to one bare SQLite table, write-ahead log, synchronous=FULL, one fdatasync
each. Both run interleaved, round by round in one process on one disk, because a disk's speed changes from minute to
minute: only the ratio means something. Two kinds of commit: of a step (an event, an intent, the row) and of a poll (an
event, a measurement, evidence, the row).

    python benchmarks/bench_store.py [--rounds 20] [--commits 100] [--directory DIR]
"""

import argparse
import asyncio
import importlib.util
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from orchestrator.events import Intended, Measured
from orchestrator.store import rows
from orchestrator.store.base import Commit
from orchestrator.store.sql import SqlStore

SAMPLES = Path(__file__).resolve().parent.parent / "tests" / "engine" / "store_samples.py"
TARGET = 0.4


def samples() -> ModuleType:
    """The rollout that the tests store."""
    spec = importlib.util.spec_from_file_location("store_samples", SAMPLES)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["store_samples"] = module
    spec.loader.exec_module(module)
    return module


def step(made: ModuleType, story: Any, number: int) -> Commit:
    """An intent is written down. It ends in the next one, so that the row does not grow."""
    intent = replace(made.intent(f"{story.name}.{number}"), epoch=1)
    story.rollout = replace(story.rollout, intents={})
    commit: Commit = story.next(Intended(intent), intents=(intent,))
    return commit


def poll(made: ModuleType, story: Any, number: int) -> Commit:
    """A measurement is fed."""
    commit: Commit = story.next(
        Measured(number, made.judgement(), made.T0, made.T0),
        measurement=(number, 1, made.measurement(number)),
        evidence=made.evidence(number),
    )
    return commit


def written(commit: Commit) -> bytes:
    """The JSON that a commit puts into tables."""
    parts: list[object] = [commit.rollout, *(event.body for event in commit.events), *commit.intents]
    parts += [commit.measurement[2]] if commit.measurement else []
    parts += [commit.evidence.cursor, commit.evidence.gates] if commit.evidence else []
    return "".join(map(rows.dump, parts)).encode()


async def timed_store(store: SqlStore, commits: Sequence[Commit]) -> float:
    """Seconds for all of them, one after the other."""
    begun = time.perf_counter()
    for commit in commits:
        await store.commit(commit)
    return time.perf_counter() - begun


def timed_bare(connection: sqlite3.Connection, bodies: Sequence[bytes]) -> float:
    """Seconds for all of them, a transaction each."""
    begun = time.perf_counter()
    for body in bodies:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO journal (body) VALUES (?)", (body,))
        connection.execute("COMMIT")
    return time.perf_counter() - begun


async def run(kind: Callable[[ModuleType, Any, int], Commit], rounds: int, commits: int, directory: Path) -> float:
    """Print both rates, and return their ratio."""
    made = samples()
    name = kind.__name__
    store = await SqlStore.open(f"sqlite:///{directory / f'{name}.db'}", token=lambda: "benchmark")
    bare = sqlite3.connect(directory / f"{name}-bare.db", isolation_level=None)
    bare.execute("PRAGMA journal_mode = WAL")
    bare.execute("PRAGMA synchronous = FULL")
    bare.execute("CREATE TABLE journal (seq INTEGER PRIMARY KEY, body BLOB)")
    story = made.Story(name)
    await story.begin(store)
    await store.commit(story.drive())
    ours, least, size = [], [], 0
    for number in range(rounds):
        batch = [kind(made, story, number * commits + n + 1) for n in range(commits)]
        bodies = [written(commit) for commit in batch]
        size = len(bodies[0])
        # In slices of ten, so that both see the same neighbours on the disk and the processors.
        ours.append(0.0)
        least.append(0.0)
        for n in range(0, commits, 10):
            ours[-1] += await timed_store(store, batch[n : n + 10])
            least[-1] += timed_bare(bare, bodies[n : n + 10])
    await store.aclose()
    bare.close()
    ratio = statistics.median(b / a for a, b in zip(ours, least, strict=True))
    print(
        f"{name}: {commits / statistics.median(ours):.0f} commits/s; bare SQLite WAL FULL, the same {size} bytes: "
        f"{commits / statistics.median(least):.0f} commits/s; ratio {ratio:.2f} (target {TARGET})"
    )
    return ratio


def main() -> None:
    """Run both kinds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--commits", type=int, default=100)
    parser.add_argument("--directory", type=Path, help="on the disk to measure; default: a temporary one")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.directory) as directory:
        for kind in (step, poll):
            asyncio.run(run(kind, given.rounds, given.commits, Path(directory)))


if __name__ == "__main__":
    main()
