"""A process that commits to a store until it is killed, or has done enough: `store_writer.py URL ROLLOUT COMMITS`.

It prints a line for each commit that the store acknowledged.
"""

import asyncio
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from orchestrator.events import Measured, Waited
from orchestrator.standing import Waiting
from orchestrator.store.sql import SqlStore


def _samples() -> ModuleType:
    spec = importlib.util.spec_from_file_location("store_samples", Path(__file__).with_name("store_samples.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["store_samples"] = module
    spec.loader.exec_module(module)
    return module


async def main(url: str, name: str, commits: int) -> None:
    samples = _samples()
    store = await SqlStore.open(url, token=lambda: name)
    story = samples.Story(name, endpoint=f"machine:/{name}")
    await story.begin(store, samples.worker(f"worker-of-{name}"))
    await store.commit(story.drive())
    for number in range(1, commits + 1):
        at = samples.T0
        commit = story.next(
            Waited(Waiting("evidence", str(number))),
            Measured(number, samples.judgement(), at, at),
            intents=(samples.intent(f"{name}.{number}"),),
            measurement=(number, 1, samples.measurement(number)),
            evidence=samples.evidence(number),
        )
        await store.commit(commit)
        print(number, flush=True)
    await store.aclose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
