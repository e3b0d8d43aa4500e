"""The one table of phases: what leads where, that nothing else does, and that the docs have the same picture."""

from itertools import product
from pathlib import Path
from typing import get_args

import pytest

from orchestrator.lifecycle import (
    ACTIVE,
    TERMINAL,
    TRANSITIONS,
    IllegalTransition,
    Phase,
    Trigger,
    diagram,
    next_phase,
)

DOC = Path(__file__).resolve().parents[2] / "docs" / "lifecycle.md"
LEGAL = {(source, trigger): target for trigger, sources, target in TRANSITIONS for source in sources}


@pytest.mark.parametrize(("phase", "trigger"), list(product(get_args(Phase), get_args(Trigger))))
def test_every_pair_of_phase_and_trigger(phase, trigger):
    if (phase, trigger) in LEGAL:
        assert next_phase(phase, trigger) == LEGAL[phase, trigger]
        return
    with pytest.raises(IllegalTransition, match=f"a rollout that is {phase} cannot {trigger}"):
        next_phase(phase, trigger)


def test_the_transitions_that_the_design_names():
    assert LEGAL == {
        ("pending", "start"): "running",
        ("running", "pause"): "paused",
        ("paused", "resume"): "running",
        ("pending", "roll_back"): "rolling_back",
        ("running", "roll_back"): "rolling_back",
        ("paused", "roll_back"): "rolling_back",
        ("rolling_back", "undone"): "rolled_back",
        ("running", "finish"): "succeeded",
        ("running", "fail"): "failed",
        ("paused", "fail"): "failed",
        ("rolling_back", "fail"): "failed",
    }


def test_phases_are_active_or_over():
    assert set(get_args(Phase)) == ACTIVE | TERMINAL
    assert not ACTIVE & TERMINAL
    assert not {source for source, _ in LEGAL} & TERMINAL


def test_every_phase_can_be_reached_and_left_for_good():
    reached, frontier = {"pending"}, ["pending"]
    while frontier:
        phase = frontier.pop()
        for (source, _), target in LEGAL.items():
            if source == phase and target not in reached:
                reached.add(target)
                frontier.append(target)
    assert reached == set(get_args(Phase))


def test_the_picture_in_the_docs_is_the_table():
    picture = DOC.read_text(encoding="utf-8").split("```mermaid\n")[1].split("\n```")[0]
    assert picture == diagram(), "paste what `orchestrator.lifecycle.diagram()` gives into docs/lifecycle.md"
