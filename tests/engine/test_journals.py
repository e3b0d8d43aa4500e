"""Journals that a release wrote stay readable for ever, and replay to the end that they had.

tests/journals/<release>/<story>.<phase>.ndjson: one event a line, as stored. Files are added with each release, and
never changed.
"""

from pathlib import Path

import pytest

from orchestrator.events import BODY, EVENT
from orchestrator.rollout import Rollout, apply

JOURNALS = sorted((Path(__file__).parents[1] / "journals").glob("*/*.ndjson"))


@pytest.mark.parametrize("journal", JOURNALS, ids=lambda path: f"{path.parent.name}/{path.stem}")
async def test_a_journal_replays_to_its_end(journal: Path) -> None:
    rollout: Rollout | None = None
    for line in journal.read_text().splitlines():
        event = EVENT.validate_json(line)
        rollout = apply(rollout, event)
        assert EVENT.validate_json(EVENT.dump_json(event)) == event
    assert rollout is not None
    assert rollout.phase == journal.stem.rpartition(".")[2]
    assert rollout.intents == {}


async def test_the_journals_show_most_of_the_vocabulary() -> None:
    schema = BODY.json_schema()
    kinds = set(schema["discriminator"]["mapping"])
    seen = {EVENT.validate_json(line).body.kind for path in JOURNALS for line in path.read_text().splitlines()}
    assert kinds - seen <= {"retried", "measure_failed", "commanded", "adopted"}
