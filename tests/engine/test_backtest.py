"""What was recorded of a rollout, replayed through its own plan, stops where its driver stopped: at the same
measurement, by the same gate, with the same sentence.
"""

import asyncio
import re
from dataclasses import replace

import pytest

from orchestrator import preview as previews
from orchestrator.app import find
from orchestrator.backtest.kept import kept
from orchestrator.backtest.recording import Recording
from orchestrator.backtest.replay import Ran, Replayed, replay
from orchestrator.backtest.table import recording_of
from orchestrator.events import Event, Finished, Measured, Paused, RollbackBegan, StageEnded
from orchestrator.flags import Flags
from orchestrator.preview import Preview
from providers.memory import Behaviour
from tests.engine.conftest import PLAN, STEPS

pytestmark = pytest.mark.looptime

UNTESTED = STEPS.replace("  - test: green\n", "")
GUARDED = """
  - deploy: green
  - canary: 10%
    gates: [errors, latency]
    hold: 20s
  - wait: 30s
  - test: green
  - canary: 30%
    gates: [errors]
    hold: 10s
  - wait: 10s
  - promote: 100%
    gates: [errors]
    hold: 5s
"""


async def again(lab, plan: str | None = None) -> tuple[Preview, Recording, Replayed]:
    """The newest rollout through the plan as it stands (or with other steps)."""
    if plan is not None:
        lab.steps = plan
    found = await previews.check(lab.app, lab.write(), Flags())
    recording = await kept(lab.app, await find(lab.app, None), found.roles, found.stages)
    return found, recording, replay(recording, found.stages, found.roles, found.capabilities, endpoint="shop")


def driven(events: list[Event]) -> list[tuple[str, str, str, int]]:
    """(stage, outcome, reason, last measurement) of every stage in which a gate was asked, as the driver wrote it.

    A measurement of no length says nothing, and is not replayed.
    """
    told, stage, last, measured = [], "", 0, False
    for event in events:
        match event.body:
            case Measured(measurement=number, start=start, end=end) if end > start:
                last, measured = number, True
            case StageEnded(outcome="passed", reason=reason):
                told += [(stage, "passed", reason, last)] if measured else []
                measured = False
            case RollbackBegan(reason=reason):
                return [*told, (stage, "rolled_back", reason, last)]
            case Paused(reason=reason):
                return [*told, (stage, "paused", reason, last)]
            case Finished():
                return told
        if event.body.kind == "stage_entered":
            stage = event.body.name
    return told


def replayed(done: Replayed) -> list[tuple[str, str, str, int]]:
    return [
        (ran.stage.name, ran.outcome, ran.sentence, ran.measurements[1])
        for ran in done.stages
        if ran.measurements is not None
    ]


def same(live: list[tuple[str, str, str, int]], ours: list[tuple[str, str, str, int]]) -> None:
    """Of stages without gates, only that the replay went through them with the same measurements."""
    assert [(stage, outcome, number) for stage, outcome, _, number in ours] == [
        (stage, outcome, number) for stage, outcome, _, number in live
    ]
    for (stage, outcome, reason, _), (_, _, told, _) in zip(live, ours, strict=True):
        if outcome != "passed" or "gates passed" in reason or "->" in reason:
            assert told == reason, stage


SCENES = {
    "good": Behaviour(),
    "errors": Behaviour(error_rate=0.6),
    "some errors": Behaviour(error_rate=0.12),
    "slow": Behaviour(latency_us=150_000),
}


@pytest.mark.parametrize("scene", SCENES)
async def test_it_stops_where_the_driver_stopped(lab, scene: str) -> None:
    lab.steps = UNTESTED
    lab.cloud.behave("shop", "green", SCENES[scene])
    rollout = await lab.run(exit_on_pause=True)
    _, recording, done = await again(lab)
    live = driven(lab.seen)
    assert live
    same(live, replayed(done))
    assert done.outcome == {"succeeded": "passed", "rolled_back": "rolled_back"}[rollout.phase]
    assert recording.happened is not None
    assert recording.happened.phase == rollout.phase
    if rollout.phase == "rolled_back":
        assert (recording.happened.measurement, recording.happened.reason) == (live[-1][3], rollout.reason)
        culprit = "errors" if SCENES[scene].error_rate else "latency"
        assert (done.stopped.gate, done.stopped.sentence) == (culprit, rollout.reason)
    assert not [note for note in done.notes if "split" in note]


async def test_a_regression_in_the_middle_of_a_canary(lab) -> None:
    lab.cloud.behave("shop", "green", Behaviour())
    began = lab.until("stage_entered", name="canary 50%")

    async def worse() -> None:
        await began.wait()
        await asyncio.sleep(5)
        lab.cloud.behave("shop", "green", Behaviour(error_rate=0.15))

    changing = asyncio.ensure_future(worse())
    rollout = await lab.run(exit_on_pause=True)
    await changing
    assert rollout.phase == "rolled_back"
    _, _, done = await again(lab)
    same(driven(lab.seen), replayed(done))
    assert (done.outcome, done.stopped.gate, done.stopped.stage.name) == ("rolled_back", "errors", "canary 50%")
    assert done.stopped.sentence == rollout.reason


async def test_between_gated_steps_the_guards_watch_as_long_as_they_did(lab) -> None:
    lab.steps = GUARDED
    rollout = await lab.run(exit_on_pause=True)
    assert rollout.phase == "succeeded", rollout.reason
    _, _, done = await again(lab)
    live = driven(lab.seen)
    assert {"canary 10%", "wait 30s", "canary 30%", "wait 10s", "promote 100%"} <= {stage for stage, *_ in live}
    same(live, replayed(done))


async def test_a_guard_that_stops_a_wait(lab) -> None:
    lab.steps = GUARDED
    began = lab.until("stage_entered", name="wait 30s")

    async def worse() -> None:
        await began.wait()
        lab.cloud.behave("shop", "green", Behaviour(error_rate=0.5))

    changing = asyncio.ensure_future(worse())
    rollout = await lab.run(exit_on_pause=True)
    await changing
    _, _, done = await again(lab)
    same(driven(lab.seen), replayed(done))
    assert (done.outcome, done.stopped.stage.name) == ("rolled_back", "wait 30s")
    assert done.stopped.sentence == rollout.reason


async def test_undecided_at_the_deadline(lab) -> None:
    lab.rate = 4.0
    lab.steps = "  - deploy: green\n  - canary: 10%\n    gates: [errors]\n    hold: 5s\n    deadline: 30s\n"
    rollout = await lab.run(exit_on_pause=True)
    assert rollout.paused == "undecided"
    _, _, done = await again(lab)
    same(driven(lab.seen), replayed(done))
    assert (done.outcome, done.stopped.cause) == ("paused", "undecided")


async def test_the_budget(lab) -> None:
    lab.head = "budget: {bad_responses: 60}\n"
    lab.steps = "  - deploy: green\n  - canary: 10%\n    gates: [errors]\n    hold: 10m\n"
    lab.cloud.behave("shop", "green", Behaviour(error_rate=0.04))
    lab.cloud.behave("shop", "blue", Behaviour(error_rate=0.04))
    rollout = await lab.run(exit_on_pause=True)
    assert rollout.rollback == "budget"
    _, _, done = await again(lab)
    assert (done.outcome, done.stopped.cause) == ("rolled_back", "budget")
    # What came between the canary's first request and its first measurement is in no measurement.
    assert done.stopped.measurements[1] - driven(lab.seen)[-1][3] in (0, 1)


# --- through another plan -----------------------------------------------------------------------------


async def test_a_stricter_plan_stops_sooner_and_a_laxer_one_runs_out(lab) -> None:
    lab.steps = UNTESTED
    lab.cloud.behave("shop", "green", Behaviour(error_rate=0.15))
    lab.cloud.behave("shop", "blue", Behaviour(error_rate=0.0))
    rollout = await lab.run(exit_on_pause=True)
    assert rollout.phase == "rolled_back"
    _, recording, own = await again(lab)
    plan = PLAN.format(world=lab.world, rate=lab.rate) + UNTESTED
    lab.text = plan.replace("max: 5%, max_ratio: 2, max_increase: 2%, ", "max: 80%, ")
    _, _, laxer = await again(lab)
    lab.text = plan.replace("max: 5%", "max: 1%")
    _, _, stricter = await again(lab)
    assert (own.outcome, stricter.outcome) == ("rolled_back", "rolled_back")
    assert stricter.stopped.measurements[1] <= own.stopped.measurements[1]
    assert laxer.outcome == "recording_ended"
    assert laxer.stopped.measurements[1] == recording.windows[-1].number


async def test_live_evidence_is_no_proof_for_a_shadow_step_and_copies_none_for_a_canary(lab) -> None:
    lab.steps = "  - deploy: green\n  - canary: 10%\n    gates: [errors]\n    hold: 10s\n"
    await lab.run(exit_on_pause=True)
    _, _, done = await again(
        lab, "  - deploy: green\n  - shadow: 10%\n    gates: [errors]\n  - promote: 100%\n    gates: [errors]\n"
    )
    assert done.outcome == "recording_ended"
    assert done.stopped.sentence == "the recording has no mirrored requests"
    assert [ran.outcome for ran in done.stages] == ["recording_ended", "not_reached"]


async def test_another_split_is_told(lab) -> None:
    await lab.run(exit_on_pause=True)
    _, _, done = await again(lab, "  - deploy: green\n  - canary: 40%\n    gates: [errors]\n    hold: 5s\n")
    (told,) = [note for note in done.notes if note.startswith("canary 40%")]
    assert re.match(r"canary 40%: in the recording the candidate got to answer 1[0-9](\.\d)?% of the live ", told), told


async def test_a_gate_without_figures_is_named_and_never_passed(lab) -> None:
    await lab.run(exit_on_pause=True)
    found, recording, _ = await again(lab)
    blind = tuple(
        replace(
            window,
            measurement=replace(
                window.measurement, legs=tuple(replace(leg, latency=None) for leg in window.measurement.legs)
            ),
        )
        for window in recording.windows
    )
    lacking = replace(recording, windows=blind)
    done = replay(lacking, found.stages, found.roles, found.capabilities, endpoint="shop")
    assert done.outcome == "not_judged"
    assert all(ran.outcome == "passed" for ran in done.stages)
    assert "shadow 10%: gate latency was not judged: the recording has no latencies of green (mirror)" in done.notes
    first: Ran = done.stages[0]
    assert [verdict.gate for verdict in first.judgement.verdicts] == ["errors"]


# --- a file with the same figures ---------------------------------------------------------------------


def as_csv(recording: Recording) -> str:
    """What a CSV file can hold of a recording, with every bound that there is."""
    legs = [leg for window in recording.windows for leg in window.measurement.legs]
    statuses = sorted({status for leg in legs for status in leg.classes})
    bounds = sorted({bound for leg in legs for low, up, _ in leg.latency.buckets for bound in (low, up) if bound})
    columns = [*(f"status_{status}" for status in statuses), *(f"le_{bound}us" for bound in bounds), "le_inf"]
    lines = [",".join(["start", "end", "deployment", "source", "requests", *columns])]
    for window in recording.windows:
        at = f"{window.measurement.start.isoformat()},{window.measurement.end.isoformat()}"
        for leg in window.measurement.legs:
            wanted = leg.deployment == "blue" or leg.source == ("mirror" if window.mirrored else "live")
            if not wanted or leg.source == "direct":
                continue
            below = [sum(n for _, up, n in leg.latency.buckets if up <= bound) for bound in bounds]
            counts = [*(leg.classes.get(status, 0) for status in statuses), *below, below[-1] if below else 0]
            lines.append(f"{at},{leg.deployment},{leg.source},{leg.requests},{','.join(map(str, counts))}")
    return "\n".join(lines)


@pytest.mark.parametrize("scene", SCENES)
async def test_a_file_with_the_same_figures_stops_at_the_same_measurement(lab, scene: str) -> None:
    lab.steps = UNTESTED
    lab.cloud.behave("shop", "green", SCENES[scene])
    await lab.run(exit_on_pause=True)
    found, recording, done = await again(lab)
    text = as_csv(recording)
    file = recording_of(text, "shop.csv", found.roles, candidate=None, stable=None, gaps=True)
    assert len(file.windows) == len(recording.windows)
    same = replay(file, found.stages, found.roles, found.capabilities, endpoint="shop")
    assert replayed(same) == replayed(done)
    assert (same.outcome, same.requests, same.bad) == (done.outcome, done.requests, done.bad)


@pytest.mark.parametrize(
    ("steps", "gates"),
    [
        pytest.param(
            """
  - deploy: green
  - canary: 30%
    gates: [errors]
    hold: 10s
  - promote: 100%
    hold: 20s
""",
            "",
            id="a promote without gates",
        ),
        pytest.param(
            """
  - deploy: green
  - shadow: 20%
    gates: [errors, unhurt]
    hold: 20s
  - promote: 100%
""",
            "  unhurt: {metric: error_rate, max_increase: 5%, guard: stable, warm_up: 0s, interval: 1s}\n",
            id="stable guarded",
        ),
    ],
)
async def test_stages_that_ask_for_no_gate_of_their_own(lab, steps: str, gates: str) -> None:
    plan = PLAN.format(world=lab.world, rate=lab.rate)
    lab.text = plan.replace("gates:\n", f"gates:\n{gates}", 1) + steps
    rollout = await lab.run()
    assert rollout.phase == "succeeded", rollout.reason
    _, _, done = await again(lab)
    same(driven(lab.seen), replayed(done))
    assert done.outcome == "passed"
