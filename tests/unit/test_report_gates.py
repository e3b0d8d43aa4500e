"""The report's figures of gates on pairs and samples: counted as the gate counts them, and called what they are."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.events import Measured
from orchestrator.gates.judge import judge
from orchestrator.gates.spec import External, Gate
from orchestrator.gates.state import GateState
from orchestrator.report.series import Levels, gate_story
from orchestrator.standing import Roles, Split
from orchestrator.views import GateView
from providers.measurement import Comparison, Count, Cursor, Leg, Measurement, Pairs, Sample

WORDS = [
    (Gate("g", "prediction", max=0.02, comparison=Comparison()), "other answers", 0.02),
    (Gate("g", "missing_pairs", max=0.02), "missing ones", 0.02),
    (Gate("g", "slowdown", max_ratio=1.2), "slower ones", 0.5),
    (Gate("g", "external", max=12, external=External("shop", form="values")), "bad ones", 0.5),
    (Gate("g", "external", max=0.02, external=External("shop")), "bad ones", 0.02),
    (Gate("g", "external", max_ratio=2, max_increase=0.1, external=External("shop")), "bad ones", None),
]


@pytest.mark.parametrize(("gate", "words", "bound"), WORDS)
def test_gates_of_pairs_and_samples_have_words_and_a_bound_of_their_own(gate, words, bound):
    now = datetime(2026, 11, 2, 9, tzinfo=UTC)
    end = now + timedelta(seconds=10)
    answers = Sample(Count(5, 100), Count(1, 200), values=((13.0, None), (11.0, None)))
    pairs = Pairs((("200", "200", 10),), ((1500, 1000, 4), (1000, 1000, 6)), {"dropped": 2})
    legs = (Leg("green", "mirror", 100, {"200": 100}), Leg("blue", "live", 900, {"200": 900}))
    poll = Measurement(now, end, legs, Cursor("one", end), pairs, samples={"g": answers})
    state = GateState.begin((gate,), 1).enter(0, (gate,), "green", "blue", "mirror", paired=True)
    judgement = judge(replace(state, warmed=gate.warm_up).fold(poll))
    measured = Measured(1, judgement, now, end)
    (verdict,) = judgement.verdicts
    view = GateView("g", verdict.verdict, verdict.sentence, verdict.candidate, verdict.stable, 0.0, 0.0)
    roles = Roles(candidate="green", stable="blue", baseline=Split({"blue": 1000}))
    told = gate_story(view, gate, Levels(False, 0.95, 0.01, 0.05), (gate,), [(measured, poll)], roles)
    assert (told.bad, told.bound) == (words, bound)
    counted = told.polls[0].candidate
    assert (counted.requests, counted.bad) == (verdict.candidate.requests, verdict.candidate.bad)
    assert counted.value == counted.bad / counted.requests > 0
