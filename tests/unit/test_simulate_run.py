"""Whole simulated rollouts: they end as the real policy ends them, and as often as the gates promise."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from orchestrator.backtest.recording import Recording, Window
from orchestrator.backtest.replay import replay
from orchestrator.gates.spec import Gate
from orchestrator.simulate import run
from orchestrator.simulate.change import Change
from orchestrator.simulate.course import Stretch
from orchestrator.simulate.latency import LogNormal
from orchestrator.simulate.poll import Ints, Poll
from orchestrator.simulate.study import RESOLUTION, Study, smallest
from orchestrator.simulate.traffic import Baseline, Traffic
from orchestrator.stages import Stage, Target
from orchestrator.standing import Roles, Split
from plans.steps import WaitStep
from providers.base import Capabilities
from tests.unit.simulating import measurement

START = datetime(2026, 1, 1, tzinfo=UTC)
ROLES = Roles("green", "blue", Split({"blue": 1000}), {"blue": 1})
ERRORS = Gate("errors", "error_rate", max=0.03, max_ratio=2.0, max_increase=0.01, blame=True, alpha=0.05)
LATENCY = Gate("latency", "latency", max_ratio=1.3, warm_up=0.0, on_fail="pause")
BOUND = Gate("bound", "error_rate", max=0.04, min_requests=300)
BASELINE = Baseline(60.0, 0.005, LogNormal.with_p95(200_000))


def stages(*, decide: str = "proven", budget: int | None = None, paired: bool = False) -> tuple[Stage, ...]:
    live = {"interval": 10.0, "budget": budget}
    made = (
        Stage(
            0,
            "shadow 20%",
            "shadow",
            0,
            Target({"blue": 1000}, {"green": 200}),
            gates=(ERRORS, LATENCY),
            hold=60.0,
            deadline=200.0,
            mirrored=200,
            paired=paired,
        ),
        Stage(
            1,
            "canary 20%",
            "canary",
            1,
            Target({"blue": 800, "green": 200}),
            gates=(ERRORS, LATENCY, BOUND),
            hold=45.0,
            deadline=245.0,
            exposure=200,
            decide=decide,  # type: ignore[arg-type]
            **live,  # type: ignore[arg-type]
        ),
        Stage(
            2,
            "wait",
            "wait",
            2,
            WaitStep(wait=30.0),
            Target({"blue": 800, "green": 200}),
            guards=(replace(ERRORS, on_fail="pause"), LATENCY, BOUND),
            exposure=200,
            **live,  # type: ignore[arg-type]
        ),
        Stage(
            3,
            "promote",
            "promote",
            3,
            Target({"green": 1000}),
            gates=(BOUND,),
            hold=20.0,
            deadline=60.0,
            exposure=1000,
            **live,  # type: ignore[arg-type]
        ),
    )
    gated = [stage.index for stage in made if stage.gates]
    return tuple(replace(each, gated=gated.index(each.index) if each.gates else None) for each in made)


class Recorded:
    """Polls of one rollout, kept as a recording."""

    def __init__(self, traffic: Traffic, study: Study) -> None:
        self.traffic, self.study = traffic, study
        self.windows: list[Window] = []
        self.now = START

    def poll(self, stretch: Stretch, begin: float, end: float, rows: int) -> Poll:
        poll = self.traffic.poll(stretch, begin, end, rows)
        kept = measurement(poll, 0, self.now, self.study.view.stable, self.study.view.candidate)
        self.now += timedelta(seconds=poll.seconds)
        between = not stretch.stage.gates
        self.windows.append(
            Window(len(self.windows) + 1, kept, bool(stretch.mirrored), bool(stretch.exposure), between)
        )
        return poll

    def bad(self, stretch: Stretch, begin: float, poll: Poll) -> Ints:
        return self.traffic.bad(stretch, begin, poll)


CHANGES = {
    "none": Change("none"),
    "errors": Change("errors", errors=0.05),
    "more errors": Change("more errors", errors=0.3),
    "later": Change("later", errors=0.12, begins="middle"),
    "slower": Change("slower", latency=1.6),
    "incident": Change("incident", incident=0.2),
}
OUTCOMES = {run.THROUGH: "passed", run.UNDECIDED: "paused", run.NO_DATA: "paused", run.BUDGET: "rolled_back"}


@pytest.mark.parametrize("joins", [False, True], ids=["legs", "pairs"])
@pytest.mark.parametrize("fields", [{}, {"decide": "no_fail"}, {"budget": 25}], ids=["proven", "no_fail", "budget"])
@pytest.mark.parametrize("name", CHANGES)
def test_a_rollout_ends_as_the_real_policy_ends_it(name: str, fields: dict, joins: bool) -> None:
    plan = stages(**fields, paired=joins)
    ways = set()
    for seed in range(4):
        study = Study.of(plan, "blue", BASELINE, digits=2)
        rng = np.random.default_rng([seed, joins])
        traffic = Traffic(BASELINE, CHANGES[name], study.rules.stretches, study.view, rng=rng)
        recorded = Recorded(traffic, study)
        ended = run.run(study.rules, recorded, 1)
        recording = Recording("simulated", tuple(recorded.windows), "green", "blue")
        capabilities = Capabilities(paired=joins, bucket_digits=2)
        done = replay(recording, plan, ROLES, capabilities, endpoint="shop")
        how, number = int(ended.how[0]), int(ended.stretch[0])
        if how == run.FAILED:
            assert done.outcome == ("rolled_back", "paused")[ended.reaction[0]]
            assert done.stopped is not None
            assert done.stopped.gate == study.rules.gates[ended.culprit[0]].name
        else:
            assert done.outcome == OUTCOMES[how], done.stopped
        assert done.bad == ended.bad[0] or CHANGES[name].latency != 1
        if done.stopped is not None:
            assert done.stopped.stage.index == study.rules.stretches[number].stage.index
        assert sum(ran.seconds for ran in done.stages) == ended.seconds[0]
        ways.add(how)
    if name == "none" and not fields:
        assert ways == {run.THROUGH}
    if name == "more errors":
        assert ways <= {run.FAILED, run.BUDGET}


def canary(*gates: Gate, **more: object) -> Stage:
    fields = {"hold": 300.0, "deadline": 600.0, "interval": 10.0, "exposure": 100, "gated": 0}
    target = Target({"blue": 900, "green": 100})
    return Stage(0, "canary 10%", "canary", 0, target, gates=gates, **(fields | more))  # type: ignore[arg-type]


def test_a_candidate_at_the_edge_is_stopped_no_more_often_than_alpha_says() -> None:
    gates = tuple(replace(gate, alpha=0.05, warm_up=0.0, on_fail="rollback") for gate in (ERRORS, LATENCY))
    study = Study.of((canary(*gates),), "blue", BASELINE, digits=2, seed=3)
    edge = Change("edge", errors=0.02, latency=1.3)
    row = study.row(edge, 1500)
    assert row.caught.low <= 0.05
    assert row.through.low <= 0.05, "beta"
    assert row.caught.count + row.through.count + row.undecided.count == 1500


def test_more_is_caught_sooner_and_at_less_cost() -> None:
    study = Study.of((canary(ERRORS),), "blue", BASELINE, digits=2)
    rows = [study.row(Change("", errors=rate), 300) for rate in (0.05, 0.1, 0.5)]
    assert rows[0].caught.rate <= rows[1].caught.rate <= rows[2].caught.rate == 1
    assert rows[1].requests.median > rows[2].requests.median
    assert rows[1].caught_after.median > rows[2].caught_after.median
    assert rows[2].gates == {"errors": 300}
    assert rows[2].stages == {"canary 10%": 300}
    assert rows[2].bad.median <= rows[2].requests.median
    assert rows[2].rolled_back == 300


def test_the_same_seed_gives_the_same_row_whatever_the_name() -> None:
    study = Study.of((canary(ERRORS),), "blue", BASELINE, digits=2, seed=5)
    first, again = (study.ended(Change(name, errors=0.06), 150) for name in ("a", "b"))
    other = replace(study, seed=6).ended(Change("a", errors=0.06), 150)
    np.testing.assert_array_equal(first.seconds, again.seconds)
    assert not np.array_equal(first.seconds, other.seconds)


def test_without_traffic_there_is_no_data() -> None:
    study = Study.of((canary(ERRORS),), "blue", replace(BASELINE, rate=1e-6))
    row = study.row(Change(""), 50)
    assert row.no_data.count == 50


def test_memory_is_that_of_one_batch() -> None:
    wide = Baseline(5000.0, 0.005, LogNormal.with_p95(200_000))
    study = Study.of(stages(paired=True), "blue", wide, digits=2)
    assert 1 <= study.batch < Study.of(stages(), "blue", BASELINE, digits=2).batch


def test_the_smallest_regression_is_found_to_within_its_resolution() -> None:
    study = Study.of((canary(ERRORS),), "blue", BASELINE, digits=2)
    found = smallest(study, "errors", 200)
    (size, share), (missed, less) = found.caught, found.missed
    assert share.rate >= 0.9 > less.rate
    assert 1 < size / missed <= RESOLUTION + 1e-9
    never = replace(study, rules=replace(study.rules, stretches=study.rules.stretches, assumed=("errors",)))
    assert smallest(never, "errors", 20).caught is None


@pytest.mark.parametrize("clusters", [1.0, 4.0])
def test_errors_come_as_often_as_asked(clusters: float) -> None:
    base = replace(BASELINE, clusters=clusters, rate=600.0)
    study = Study.of((canary(ERRORS),), "blue", base, digits=2)
    traffic = Traffic(base, Change("", errors=0.02), study.rules.stretches, study.view, rng=np.random.default_rng(2))
    poll = traffic.poll(study.rules.stretches[0], 0.0, 10.0, 4000)
    mine = poll.candidate["live"]
    assert mine.errors.sum() / mine.requests.sum() == pytest.approx(0.02, rel=0.03)
    spread = mine.errors.var() / mine.errors.mean()
    assert spread == pytest.approx(2 * clusters - 1, rel=0.15), "of sums of geometric sizes"
