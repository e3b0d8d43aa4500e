"""Every phase of a rollout, every event that moves it, and every legal transition: one table.

The table is declared with `transitions` and only looked up, never run: a phase changes in `orchestrator.rollout.apply`
and nowhere else, so no callback can act in the middle of a transition, and restoring a rollout restores its phase and
nothing more.

    pending ──start──► running ◄──resume/pause──► paused
       │                  │  └──finish──► succeeded  │
       │                  ├──fail──► failed          │
       └──────┬───────────┴──────────────────────────┘
           roll_back ──► rolling_back ──undone──► rolled_back
                              └──fail──► failed
"""

from functools import cache
from typing import Literal, cast, get_args

from transitions import Machine

Phase = Literal["pending", "running", "paused", "rolling_back", "succeeded", "rolled_back", "failed"]
Trigger = Literal["start", "pause", "resume", "roll_back", "undone", "finish", "fail"]

ACTIVE: frozenset[Phase] = frozenset({"pending", "running", "paused", "rolling_back"})
"""Phases in which a rollout owns its endpoint."""
TERMINAL: frozenset[Phase] = frozenset({"succeeded", "rolled_back", "failed"})
"""Phases that nothing leaves."""

TRANSITIONS: tuple[tuple[Trigger, tuple[Phase, ...], Phase], ...] = (
    ("start", ("pending",), "running"),
    ("pause", ("running",), "paused"),
    ("resume", ("paused",), "running"),
    ("roll_back", ("pending", "running", "paused"), "rolling_back"),
    ("undone", ("rolling_back",), "rolled_back"),
    ("finish", ("running",), "succeeded"),
    ("fail", ("running", "paused", "rolling_back"), "failed"),
)


class IllegalTransition(Exception):
    """The event cannot happen in this phase."""


@cache
def _machine() -> Machine:
    return Machine(
        model=None,
        states=list(get_args(Phase)),
        transitions=[
            {"trigger": trigger, "source": list(sources), "dest": target} for trigger, sources, target in TRANSITIONS
        ],
        initial="pending",
        auto_transitions=False,
    )


def next_phase(phase: Phase, trigger: Trigger) -> Phase:
    """The phase that `trigger` leads to from `phase`. Raises IllegalTransition when it leads nowhere."""
    found = _machine().get_transitions(trigger, phase)
    if not found:
        raise IllegalTransition(f"a rollout that is {phase} cannot {trigger}")
    return cast(Phase, found[0].dest)


def diagram() -> str:
    """The table as a mermaid state diagram."""
    lines = ["stateDiagram-v2", "    [*] --> pending"]
    lines += [f"    {source} --> {target}: {trigger}" for trigger, sources, target in TRANSITIONS for source in sources]
    lines += [f"    {phase} --> [*]" for phase in get_args(Phase) if phase in TERMINAL]
    return "\n".join(lines)
