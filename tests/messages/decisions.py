"""The policy asked about one situation, for moments that no other process can meet on purpose."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from orchestrator.decide import decide
from orchestrator.decisions import Finish, Leave, Pause, Refuse, RollBack, Situation
from orchestrator.rollout import Progress, Rollout, StageRecord
from orchestrator.standing import Command, Roles, Snapshot, Split
from providers.base import Capabilities, EndpointState
from tests.unit.making import BORN, endpoint, stages_of

STEPS = """
  - deploy: green
  - canary: 10%
    gates: [errors]
  - promote: 100%
  - delete: blue
"""
STAGES = stages_of(STEPS)
SERVING = Roles("green", "blue", Split({"blue": 1000}), {"blue": 2})


def situation(
    at: str = "canary 10%",
    *,
    observed: EndpointState | None = None,
    command: Any = None,
    args: dict[str, Any] | None = None,
    past_the_last: bool = False,
    phase: Any = "running",
    of: dict[str, Any] | None = None,
    **changes: Any,
) -> Situation:
    """A rollout in the middle of the step `at`.

    Args:
        observed: the endpoint; as the step wants it unless told otherwise.
        command, args: what is asked, by ada. past_the_last: every step is done.
        phase: of the rollout. of: other fields of it. changes: fields of the situation.
    """
    index = len(STAGES) if past_the_last else [stage.name for stage in STAGES].index(at)
    observed = observed or endpoint({"blue": 900, "green": 100})
    records = tuple(
        StageRecord(made.name, "passed" if made.index < index else "running" if made.index == index else "waiting")
        for made in STAGES
    )
    fields: dict[str, Any] = {"progress": Progress(entered_at=BORN), "expected": Snapshot.of(observed), **(of or {})}
    made = Rollout(
        id="shop-1",
        name="shop",
        plan_path="/p.yml",
        endpoint="memory:shop",
        endpoint_name="shop",
        provider="memory",
        bundle="0" * 64,
        phase=phase,
        roles=SERVING,
        stages=records,
        starter="ada",
        started_at=BORN,
        updated_at=BORN,
        stage=index,
        **fields,
    )
    asked = [Command("c", made.id, command, "ada", BORN, args or {})] if command else []
    now = BORN + timedelta(days=1)
    return replace(
        Situation(made, STAGES, Capabilities(), now, seen=True, observed=observed, commands=asked), **changes
    )


def decided(s: Situation) -> str:
    """The reason of what is decided."""
    decision = decide(s)
    assert isinstance(decision, Refuse | RollBack | Pause | Finish | Leave), decision
    return decision.reason
