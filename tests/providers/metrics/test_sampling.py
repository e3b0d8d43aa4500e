"""Two readings become one sample: of one window, told once, whatever one side does."""

import asyncio
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.errors import Permanent, Temporary
from providers.measurement import Count
from providers.metrics import counters
from providers.metrics.base import Form, Reading
from providers.metrics.sampling import FIRST, Question, joined, sampled
from tests.providers.metrics.conftest import NOW, SPEC

STABLE = replace(SPEC, deployment="blue", source="live")


@dataclass
class Scripted:
    """Totals by deployment; an exception, or a reading, in their place is what it is."""

    now: dict[str, Any]
    form: Form = "counts"
    asked: list[tuple[str, Any]] = field(default_factory=list)

    async def query(self, spec: Any, since: Any) -> Any:
        self.asked.append((spec.deployment, since))
        said = self.now[spec.deployment]
        if isinstance(said, Exception):
            raise said
        if said == "hang":
            await asyncio.Event().wait()
        return said if isinstance(said, Reading) or not isinstance(said, dict) else counters.since(since, said, "bad")


def totals(total: float, bad: float = 0) -> dict[str, float]:
    return {"total": total, "bad": bad}


class Gate:
    def __init__(self, form: Form = "counts", of: str = "q") -> None:
        self.metric = Scripted({}, form)
        self.question = Question(self.metric, of, SPEC, STABLE)  # type: ignore[arg-type]
        self.sources: dict[str, Any] = {}

    async def ask(self, green: Any, blue: Any, **more: Any) -> Any:
        self.metric.now = {"green": green, "blue": blue}
        samples, self.sources = await sampled({"g": self.question}, self.sources, **more)
        return samples["g"]


async def test_both_sides_are_counted_over_the_same_windows() -> None:
    gate = Gate()
    assert (await gate.ask(totals(10), totals(100))).nothing == FIRST
    sample = await gate.ask(totals(15, 1), totals(160, 2))
    assert (sample.candidate, sample.stable) == (Count(1, 5), Count(2, 60))
    silent = Reading(gate.sources["g"]["marks"]["green~mirror"], nothing="the query found no series")
    sample = await gate.ask(silent, totals(200, 2))
    assert (sample.candidate, sample.stable) == (None, None)
    assert sample.nothing == "candidate: the query found no series"
    sample = await gate.ask(totals(25, 1), totals(300, 4))
    assert (sample.candidate, sample.stable) == (Count(0, 10), Count(2, 140)), "stable waited for the candidate"


async def test_counters_that_began_anew_do_so_on_both_sides() -> None:
    gate = Gate()
    await gate.ask(totals(10), totals(100))
    sample = await gate.ask(totals(3), totals(150))
    assert (sample.candidate, sample.stable) == (None, None)
    assert "fell from 10 to 3" in sample.nothing
    sample = await gate.ask(totals(5), totals(170))
    assert (sample.candidate, sample.stable) == (Count(0, 2), Count(0, 20)), "over the same window again"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (Temporary("the server is down."), "stable: the server is down"),
        (Permanent("no such thing."), "stable: no such thing"),
        (KeyError("s3cret"), "stable: it failed by a mistake of its own (KeyError)"),
        ("hang", "stable: it did not answer within 0.05 s"),
        (None, "stable: what it answered is no reading"),
    ],
)
async def test_what_fails_is_a_problem_and_moves_nothing(wrong: Any, words: str) -> None:
    gate = Gate()
    await gate.ask(totals(10), totals(100))
    before = gate.sources
    sample = await gate.ask(totals(20), wrong, patience=0.05)
    assert (sample.problem, sample.candidate, sample.stable) == (words, None, None)
    assert gate.sources == before
    sample = await gate.ask(totals(30), totals(130))
    assert (sample.candidate, sample.stable) == (Count(0, 20), Count(0, 30)), "nothing was lost"


async def test_one_that_hangs_does_not_keep_the_others() -> None:
    slow, quick = Gate(), Gate()
    slow.metric.now, quick.metric.now = {"green": "hang", "blue": totals(1)}, {"green": totals(1), "blue": totals(1)}
    questions = {"slow": slow.question, "quick": quick.question}
    samples, sources = await sampled(questions, {}, patience=0.05)
    assert samples["slow"].problem
    assert (samples["quick"].problem, samples["quick"].nothing) == ("", FIRST)
    assert set(sources["quick"]["marks"]) == {"green~mirror", "blue"}
    assert sources["slow"]["marks"] == {}


async def test_a_mark_is_only_good_for_its_own_question() -> None:
    gate = Gate()
    await gate.ask(totals(10), totals(100))
    gate.question = replace(gate.question, of="another")
    assert (await gate.ask(totals(500), totals(900))).nothing == FIRST
    assert gate.metric.asked[-1][1] is None


async def test_without_stable_only_the_candidate_is_asked() -> None:
    gate = Gate()
    gate.question = replace(gate.question, stable=None)
    await gate.ask(totals(10), RuntimeError())
    sample = await gate.ask(totals(12, 2), RuntimeError())
    assert (sample.candidate, sample.stable, sample.problem) == (Count(2, 2), None, "")


def test_values_are_paired_by_their_time() -> None:
    at = [NOW + timedelta(minutes=number) for number in range(3)]
    green = Reading(values=((at[0], 1.0), (at[1], 2.0), (at[2], 3.0)), query="g")
    blue = Reading(values=((at[1], 20.0), (at[2], 30.0)), query="b")
    sample = joined("values", green, blue)
    assert sample.values == ((1.0, None), (2.0, 20.0), (3.0, 30.0))
    assert sample.query == "candidate: g; stable: b"
    assert joined("values", Reading(nothing="x"), blue).nothing == "candidate: x"
    assert joined("values", green, Reading(problem="p")).values == ()
    assert joined("values", green, Reading(problem="p")).problem == "stable: p"


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 50), st.integers(0, 50), st.sampled_from(["tell", "fail", "silent", "anew"])),
        max_size=30,
    )
)
def test_what_is_told_adds_up_and_nothing_is_told_twice(steps: list[tuple[int, int, str]]) -> None:
    """Whatever fails in between: the sum of what was told is what was counted between the first look and the last,
    without what was lost to counters that began anew.
    """

    async def run() -> None:
        gate = Gate()
        green = blue = 1000
        told = [0.0, 0.0]
        since = [green, blue]
        expected = [0, 0]
        await gate.ask(totals(green), totals(blue))
        for more, most, what in steps:
            green, blue = green + more, blue + most
            if what == "anew":
                green = 0
            answer = {"fail": Temporary("no"), "silent": Reading(gate.sources["g"]["marks"]["blue"], nothing="no")}
            sample = await gate.ask(totals(green), answer.get(what, totals(blue)))
            if what in ("tell", "anew"):
                if green >= since[0]:
                    expected = [expected[0] + green - since[0], expected[1] + blue - since[1]]
                since = [green, blue]
            if sample.candidate is not None:
                told = [told[0] + sample.candidate.total, told[1] + sample.stable.total]
        assert told == expected

    asyncio.run(run())
