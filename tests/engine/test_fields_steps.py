"""What each field of each step does: plans that differ in that field alone go differently, in virtual time."""

import asyncio
from datetime import timedelta

import pytest

from plans.errors import PlanError
from providers.errors import Temporary
from providers.memory import Behaviour
from providers.memory.provider import MemoryProvider
from tests.engine.field_effects import HEAD, Lab, Ran, another, behaving, run_each, when

pytestmark = pytest.mark.looptime

DEPLOYED = HEAD + "steps:\n  - deploy: green\n"
GATED = {"shadow": "shadow 10%", "canary": "canary 10%", "promote": "promote 100%"}
"""Steps with gates -> the name of the stage of `GATED_STEP`."""


def gated(kind: str, *lines: str, gates: str = "errors") -> str:
    """A plan whose last step is a gated one of that kind, with FIELD as its last line."""
    share = "100%" if kind == "promote" else "10%"
    body = [f"gates: {gates}"] if gates else []
    return DEPLOYED + f"  - {kind}: {share}\n" + "".join(f"    {line}\n" for line in [*body, *lines, "FIELD"])


# --- every step ---

ONE = {
    "deploy": ("deploy: green", "deploy green"),
    "scale": ("scale: {blue: 3}", "scale blue to 3"),
    "test": ("test: blue", "test blue"),
    "shadow": ("shadow: 10%", "shadow 10%"),
    "canary": ("canary: 10%", "canary 10%"),
    "promote": ("promote: 60%", "promote 60%"),
    "wait": ("wait: 1h", "wait 1h"),
    "approve": ("approve: go on?", "approve: go on?"),
    "webhook": ("webhook: https://hooks.example.org", "webhook"),
    "load": ("load: 50\n    request: {body: x}", "load 50 requests"),
    "delete": ("delete: endpoint", "delete endpoint"),
}
"""Kind of step -> one of them, and what it is called by itself."""


@pytest.mark.parametrize("kind", ONE)
async def test_a_name_is_shown_instead_of_the_steps_own_words(lab, kind) -> None:
    step, own = ONE[kind]
    plan = HEAD + f"steps:\n  - approve: begin?\n  - deploy: green\n  - {step}\n    FIELD\n"
    without, named = await run_each(lab, plan, "", "name: what we do now")
    assert without.stages[-1] == own
    assert named.stages == [*without.stages[:-1], "what we do now"]
    assert named.of("started")[0].body.stages[-1] == "what we do now"


async def test_a_name_of_several_stages_is_shown_beside_each(lab) -> None:
    plan = HEAD + "steps:\n  - approve: begin?\n  - deploy: green\n  - canary: [10%, 50%]\n    FIELD\n"
    (named,) = await run_each(lab, plan, "name: a few at first")
    assert named.stages[-2:] == ["a few at first (canary 10%)", "a few at first (canary 50%)"]


async def red_stands_there(lab) -> None:
    lab.text = HEAD.replace("green: {file: green.yml}", "red: {file: green.yml}") + "steps:\n  - deploy: red\n"
    assert (await lab.run()).phase == "succeeded"
    lab.cloud.spoil("delete_deployment", "the quota is used up")


FAILING = {
    "deploy": ("  - deploy: green", behaving(starts=False), "init() failed"),
    "scale": ("  - scale: {blue: 3}", lambda lab: lab.cloud.spoil("scale", "no quota"), "scale blue to 3: no quota"),
    "test": ("  - deploy: green\n  - test: green", behaving(error_rate=1.0), "green answered 500 instead of 200"),
    "shadow": ("  - deploy: green\n  - shadow: 10%\n    gates: errors", behaving(error_rate=0.5), "gate errors"),
    "canary": ("  - deploy: green\n  - canary: 10%\n    gates: errors", behaving(error_rate=0.5), "gate errors"),
    "promote": ("  - deploy: green\n  - promote: 90%\n    gates: errors", behaving(error_rate=0.5), "gate errors"),
    "load": (
        "  - load: 5\n    request: {body: x}",
        lambda lab: lab.cloud.fail_next("invoke", RuntimeError("the client broke")),
        "stopped by an error of its own (RuntimeError: the client broke)",
    ),
    "delete": ("  - delete: red", red_stands_there, "delete red: the quota is used up"),
}
"""Kind of step -> a plan's last steps, what makes the last of them fail, and why it says it did."""


@pytest.mark.parametrize("kind", FAILING)
async def test_on_fail_of_a_step_that_fails(lab, kind) -> None:
    steps, before, why = FAILING[kind]
    head = HEAD.replace("{file: blue.yml}", "{file: blue.yml}, red: {file: green.yml}") + "stable: blue\nsteps:\n"
    plan = head + f"{steps}\n    on_fail: FIELD\n"
    back, paused = await run_each(lab, plan, "rollback", "pause", before=before)
    cause = "gate" if kind in GATED else "step"
    assert (back.end, paused.end) == (f"rolled_back: {cause}", f"paused: {cause}")
    assert why in back.rollout.reason
    assert why in paused.rollout.reason
    assert dict(back.lab.observed().traffic) == {"blue": 1000}


WAITING = {"wait": ("wait: 1h", "time"), "approve": ("approve: go on?", "approval")}


@pytest.mark.parametrize("kind", WAITING)
async def test_on_fail_of_a_step_whose_traffic_cannot_be_given_back_after_a_stop(lab, kind) -> None:
    step, waits = WAITING[kind]
    ends = []
    for answer in ("rollback", "pause"):
        made = another(lab)
        made.text = DEPLOYED + f"  - canary: 10%\n  - {step}\n    on_fail: {answer}\n"
        made.on_event.append(
            lambda _, event, made=made: (
                made.stop.set() if event.body.kind == "waited" and event.body.waiting.kind == waits else None
            )
        )
        assert (await made.run()).parked
        made.on_event.clear()
        made.stop = asyncio.Event()
        made.cloud.spoil("set_traffic", "the gateway is locked")
        ran = Ran(made, await made.resume(exit_on_pause=True))
        assert "the gateway is locked" in ran.rollout.reason
        ends.append(ran.end)
    assert ends == ["rolled_back: step", "paused: step"]


GUARDED = {
    "test": ("test: green\n    repeat: 100", "test green"),
    "wait": ("wait: 30s", "wait 30s"),
    "approve": ("approve: go on?", "approve: go on?"),
    "load": ("load: 2/s\n    for: 30s\n    request: {body: x}", "load 2/s for 30s"),
}
"""Kind of step -> one that takes a while, and its name."""


@pytest.mark.parametrize("kind", GUARDED)
async def test_on_error_of_a_step_that_the_gates_before_it_guard(lab, kind) -> None:
    step, name = GUARDED[kind]
    plan = DEPLOYED + f"  - canary: 10%\n    gates: errors\n    hold: 2s\n  - {step}\n    on_error: FIELD\n"

    def before(made: Lab) -> None:
        made.cloud.behave("shop", "green", Behaviour(latency_us=300_000))
        when(made, "stage_entered", lambda: made.cloud.fail_next("measure", Temporary("no answer"), times=9), name=name)

    back, paused = await run_each(lab, plan, "rollback", "pause", before=before, stay=True)
    assert (back.end, paused.end) == ("rolled_back: error", "rolled_back: pause_limit")
    for ran in (back, paused):
        assert "could not be measured 5 times in a row: no answer" in ran.rollout.reason


# --- steps with gates ---


@pytest.mark.parametrize("kind", GATED)
async def test_gates_are_what_stops_it(lab, kind) -> None:
    plan = gated(kind, "hold: 3s", gates="")
    unwatched, watched = await run_each(lab, plan, "", "gates: errors", before=behaving(error_rate=0.5))
    assert (unwatched.end, watched.end) == ("succeeded", "rolled_back: gate")
    assert watched.rollout.reason.startswith(f"{GATED[kind]}: gate errors: green ")


@pytest.mark.parametrize("kind", GATED)
async def test_hold_is_how_long_it_lasts_at_least(lab, kind) -> None:
    short, long = await run_each(lab, gated(kind), "hold: 5s", "hold: 25s")
    name = GATED[kind]
    # The split takes half a second, the proof of 5% at twenty requests a second some seconds.
    assert short.seconds(name) < 20
    assert 25 <= long.seconds(name) < 27
    held = [event.body.hold_until - event.at for event in long.of("reached", name)]
    assert held == [timedelta(seconds=25)]


@pytest.mark.parametrize("kind", GATED)
async def test_deadline_is_when_it_is_undecided(lab, kind) -> None:
    plan = gated(kind, "on_undecided: rollback", gates="[errors]").replace("max: 5%", "max: 0.01%")
    early, late = await run_each(lab, plan, "deadline: 5s", "deadline: 15s")
    for ran, limit in ((early, 5), (late, 15)):
        assert ran.end == "rolled_back: undecided"
        assert ran.rollout.reason.startswith(f"{GATED[kind]}: undecided within {limit}s: ")
        assert limit <= ran.seconds(GATED[kind]) < limit + 2


@pytest.mark.parametrize("kind", GATED)
async def test_without_a_deadline_it_is_an_hour_after_the_hold(lab, kind) -> None:
    (ran,) = await run_each(lab, gated(kind), "hold: 10s")
    (reached,) = ran.of("reached", GATED[kind])
    assert reached.body.deadline - reached.at == timedelta(hours=1, seconds=10)


@pytest.mark.parametrize("kind", GATED)
async def test_interval_is_the_time_between_measurements(lab, kind) -> None:
    often, seldom = await run_each(lab, gated(kind, "hold: 20s"), "interval: 2s", "interval: 5s")
    assert [len(ran.of("measured", GATED[kind])) for ran in (often, seldom)] == [10, 4]


@pytest.mark.parametrize("kind", GATED)
async def test_decide_is_what_it_takes_to_go_on(lab, kind) -> None:
    plan = gated(kind, "hold: 6s", "deadline: 8s").replace("max: 5%", "max: 0.01%")
    default, proven, no_fail = await run_each(lab, plan, "", "decide: proven", "decide: no_fail")
    assert (default.end, proven.end, no_fail.end) == ("paused: undecided", "paused: undecided", "succeeded")
    assert no_fail.stage(GATED[kind]).reason == "no gate failed; not proven: errors: bound of 0.01%"


@pytest.mark.parametrize("kind", GATED)
async def test_on_no_data_when_nothing_came_until_the_deadline(lab, kind) -> None:
    lab.rate = 0.0
    plan = gated(kind, "deadline: 5s")
    default, paused, back = await run_each(lab, plan, "", "on_no_data: pause", "on_no_data: rollback")
    assert (default.end, paused.end, back.end) == ("paused: no_data", "paused: no_data", "rolled_back: no_data")
    source = "mirror" if kind == "shadow" else "live"
    assert back.rollout.reason == (
        f"{GATED[kind]}: no data within 5s: green: no {source} requests since the step began -> NO_DATA"
    )


@pytest.mark.parametrize("kind", GATED)
async def test_on_undecided_when_the_evidence_was_not_enough(lab, kind) -> None:
    plan = gated(kind, "deadline: 5s").replace("max: 5%", "max: 0.01%")
    default, paused, back = await run_each(lab, plan, "", "on_undecided: pause", "on_undecided: rollback")
    assert (default.end, paused.end, back.end) == ("paused: undecided", "paused: undecided", "rolled_back: undecided")


@pytest.mark.parametrize("kind", GATED)
async def test_on_error_when_measuring_failed_five_times(lab, kind) -> None:
    def before(made: Lab) -> None:
        made.cloud.fail_next("measure", Temporary("no answer"), times=9)

    plan = gated(kind)
    default, paused, back = await run_each(lab, plan, "", "on_error: pause", "on_error: rollback", before=before)
    assert (default.end, paused.end, back.end) == ("paused: error", "paused: error", "rolled_back: error")
    assert [event.body.count for event in back.of("measure_failed")] == [1, 2, 3, 4, 5]


async def test_shadow_is_the_share_that_is_mirrored(lab) -> None:
    plan = DEPLOYED + "  - shadow: FIELD\n    gates: errors\n    hold: 2s\n"
    one, other = await run_each(lab, plan, "10%", "25%")
    assert one.splits == [({"blue": 1000}, {"green": 100}), ({"blue": 1000}, {})]
    assert other.splits == [({"blue": 1000}, {"green": 250}), ({"blue": 1000}, {})]


async def test_of_several_shadows_the_mirror_is_cleared_after_the_last(lab) -> None:
    plan = DEPLOYED + "  - shadow: [5%, 10%, 50%]\n    gates: errors\n    hold: 2s\n  - canary: 10%\n"
    (ran,) = await run_each(lab, plan, "")
    assert ran.stages[2:5] == ["shadow 5%", "shadow 10%", "shadow 50%"]
    assert ran.splits == [
        ({"blue": 1000}, {"green": 50}),
        ({"blue": 1000}, {"green": 100}),
        ({"blue": 1000}, {"green": 500}),
        ({"blue": 1000}, {}),
        ({"blue": 900, "green": 100}, {}),
    ]
    # Each has a hold and a proof of its own.
    assert all(ran.seconds(name) >= 2 for name in ran.stages[2:5])
    assert ran.of("leaving", "shadow 5%") == []
    assert len(ran.of("leaving", "shadow 50%")) == 1


async def test_canary_is_the_share_of_live_traffic_or_several_that_grow(lab) -> None:
    plan = DEPLOYED + "  - canary: FIELD\n    gates: errors\n    hold: 2s\n"
    one, several = await run_each(lab, plan, "10%", "[0.5%, 10%, 50%]")
    assert [live for live, _ in one.splits] == [{"blue": 900, "green": 100}]
    assert [live for live, _ in several.splits] == [
        {"blue": 995, "green": 5},
        {"blue": 900, "green": 100},
        {"blue": 500, "green": 500},
    ]
    assert several.stages[2:] == ["canary 0.5%", "canary 10%", "canary 50%"]
    assert all(several.seconds(name) >= 2 for name in several.stages[2:])


async def test_promote_is_the_share_that_the_candidate_ends_with(lab) -> None:
    some, all_of_it, short = await run_each(lab, DEPLOYED + "  - promote: FIELD\n", "60%", "100%", "")
    assert dict(some.lab.observed().traffic) == {"blue": 400, "green": 600}
    assert dict(all_of_it.lab.observed().traffic) == dict(short.lab.observed().traffic) == {"green": 1000}


# --- deploy, scale, delete ---


async def test_deploy_says_which_one(lab) -> None:
    head = HEAD.replace("green.yml}", "green.yml}, red: {model: 'azureml:m:3'}") + "stable: blue\n"
    green, red = await run_each(lab, head + "steps:\n  - deploy: FIELD\n", "green", "red")
    assert sorted(green.lab.observed().deployments) == ["blue", "green"]
    assert sorted(red.lab.observed().deployments) == ["blue", "red"]


async def test_deadline_of_a_deploy(lab) -> None:
    plan = DEPLOYED + "    FIELD\n"
    early, late = await run_each(lab, plan, "deadline: 2s", "deadline: 1m", before=behaving(start_seconds=4.0))
    assert (early.end, late.end) == ("rolled_back: step", "succeeded")
    assert early.rollout.reason.startswith("deploy green was not done within 2s")
    assert 2 <= early.seconds("deploy green") < 2.5


async def test_ready_is_full_healthy_count_and_nothing_less(lab) -> None:
    """There is one word for it in this version: it waits for the last instance, and every other word is refused."""
    plan = DEPLOYED + "    FIELD\n"
    ran, same = await run_each(lab, plan, "", "ready: full healthy count", before=behaving(start_seconds=8.0))
    assert 8 <= ran.seconds("deploy green") < 8.5
    assert ran.seconds("deploy green") == same.seconds("deploy green")
    with pytest.raises(PlanError, match="full healthy count"):
        await run_each(lab, plan, "ready: one")


def slow_scaling(seconds: float):
    def before(made: Lab) -> None:
        slow = {"scale": seconds}
        MemoryProvider(MemoryProvider.Options(world=made.world, rate=made.rate, durations=slow), made.context())

    return before


async def test_scale_says_how_many(lab) -> None:
    three, both = await run_each(lab, DEPLOYED + "  - scale: FIELD\n", "{blue: 3}", "{blue: 1, green: 4}")
    counts = [{n: d.desired for n, d in ran.lab.observed().deployments.items()} for ran in (three, both)]
    assert counts == [{"blue": 3, "green": 2}, {"blue": 1, "green": 4}]


async def test_deadline_of_a_scale(lab) -> None:
    plan = HEAD + "stable: blue\nsteps:\n  - scale: {blue: 3}\n    FIELD\n"
    early, late = await run_each(lab, plan, "deadline: 2s", "deadline: 1m", before=slow_scaling(4.0))
    assert (early.end, late.end) == ("rolled_back: step", "succeeded")
    assert early.rollout.reason.startswith("scale blue to 3 was not done within 2s")


async def test_delete_says_what_goes(lab) -> None:
    plan = DEPLOYED + "  - promote: 100%\n  - delete: FIELD\n"
    blue, stable, everything = await run_each(lab, plan, "blue", "stable", "endpoint")
    assert list(blue.lab.observed().deployments) == list(stable.lab.observed().deployments) == ["green"]
    assert everything.lab.observed() is None
    assert (blue.rollout.reason, everything.rollout.reason) == (
        "shop now serves green 100%",
        "the endpoint was deleted, as planned",
    )
