"""A rollout made by hand, event by event, for tests of everything that shows one."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from orchestrator import events as ev
from orchestrator.gates.judge import Figures, Judgement, Verdict
from orchestrator.rollout import apply
from orchestrator.standing import Intent, Roles, Snapshot, Split, Waiting
from providers.actions import SetTraffic
from providers.measurement import Cursor, Histogram, Leg, Measurement

BEGAN = datetime(2026, 11, 22, 10, 0, 0, tzinfo=UTC)
STAGES = ("bootstrap blue", "deploy green", "test green", "shadow 10%", "canary 10%", "promote 100%", "delete blue")


class Story:
    """A journal in the making: `tell(body)` adds an event, `wait(seconds)` lets time pass."""

    def __init__(self, *, bootstrap: bool = True) -> None:
        self.now = BEGAN
        self.events: list[ev.Event] = []
        self.measurements: list[tuple[int, int, Measurement]] = []
        self.rollout = None
        self.id = "diabetes-20261122-7kq3m"
        roles = Roles("green", "blue", Split({"blue": 1000}), {"blue": 1}, bootstrap=bootstrap)
        self.tell(
            ev.Started(
                name="diabetes",
                plan_path="/plans/plan.yml",
                provider="local",
                endpoint="machine:/home/local/diabetes",
                endpoint_name="diabetes",
                bundle="3f2a9c41d0" + "0" * 54,
                roles=roles,
                stages=STAGES,
                expected=Snapshot(),
            ),
            actor="ada",
        )
        self.tell(ev.Driven("worker-1", "laptop", 4711, 1))

    def tell(self, body: ev.Body, *, actor: str = "engine") -> "Story":
        seq = len(self.events) + 1
        event = ev.Event(self.id, seq, f"e{seq}", self.now, actor, 1, body)
        self.rollout = apply(self.rollout, event)
        self.events.append(event)
        return self

    def wait(self, seconds: float) -> "Story":
        self.now += timedelta(seconds=seconds)
        return self

    def enter(self, stage: int) -> "Story":
        return self.tell(ev.StageEntered(stage, STAGES[stage]))

    def leave(self, stage: int, reason: str = "done", outcome: ev.StageOutcome = "passed") -> "Story":
        return self.tell(ev.StageEnded(stage, outcome, reason))

    def split(self, traffic: dict[str, int], mirror: dict[str, int] | None = None) -> "Story":
        mirror = mirror or {}
        key = f"{self.id}.{len(self.events)}"
        after = replace(self.rollout.expected, exists=True, traffic=traffic, mirror=mirror)
        action = SetTraffic("diabetes", traffic, mirror)
        self.tell(ev.Intended(Intent(key, self.rollout.stage, 1, action, self.rollout.expected, after)))
        return self.tell(ev.Ended(key, "done"))

    def reached(self, hold: float | None = None, deadline: float | None = None) -> "Story":
        def until(seconds: float | None) -> datetime | None:
            return None if seconds is None else self.now + timedelta(seconds=seconds)

        return self.tell(ev.Reached(until(hold), until(deadline)))

    def measured(
        self, judgement: Judgement, *, green: int = 20, bad: int = 0, slow: int = 50, source="live"
    ) -> "Story":
        """One poll of a second: `green` requests to the candidate, `bad` of them errors, p95 at `slow` ms."""
        number = len(self.measurements) + 1
        start, self.now = self.now, self.now + timedelta(seconds=1)
        wave = (number * 7) % 5
        legs = (
            Leg(
                "blue",
                "live",
                180,
                {"200": 180 - number % 2, "500": number % 2},
                Histogram(((40_000, 44_000 + 1000 * wave, 180),)),
            ),
            Leg(
                "green",
                source,
                green,
                {"200": green - bad, "500": bad},
                Histogram(((slow * 900, slow * 1000 + 700 * wave, green),)),
            ),
        )
        measurement = Measurement(start, self.now, legs, Cursor("i", self.now))
        self.measurements.append((number, self.rollout.stage, measurement))
        return self.tell(ev.Measured(number, judgement, start, self.now))

    def upto_canary(self) -> "Story":
        """Passed: bootstrap, deploy, test, shadow; in the canary step, held, nothing measured yet."""
        self.enter(0).wait(3.2).split({"blue": 1000}).leave(0)
        self.enter(1).wait(1.4).leave(1)
        self.enter(2).wait(0.1).tell(ev.TaskEnded(True, "status 200 in 12 ms")).leave(2)
        self.enter(3).split({"blue": 1000}, {"green": 100}).reached(5, 45)
        for number in range(1, 8):
            self.measured(
                judgement(requests=20 * number, verdict="CONTINUE" if number < 7 else "PASS"), source="mirror"
            )
        self.tell(ev.Leaving("both gates passed")).split({"blue": 1000}).leave(3, "held for 5s, all 2 gates passed")
        return self.enter(4).split({"blue": 900, "green": 100}).reached(10, 45)

    def upto_end(self) -> "Story":
        """Succeeded."""
        self.upto_canary()
        for number in range(1, 6):
            self.measured(judgement(requests=20 * number, verdict="PASS"))
        self.leave(4, "held for 10s, all 2 gates passed")
        self.enter(5).split({"green": 1000}).reached(3, 20).wait(3).leave(5, "held for 3s")
        self.enter(6).wait(0.4).leave(6)
        return self.tell(ev.Finished("succeeded", "green serves all traffic of diabetes; blue is deleted"))

    def upto_rolled_back(self) -> "Story":
        """Stopped by the gate of the canary step, undone."""
        self.upto_canary()
        failed = judgement(requests=60, verdict="FAIL", bad=9)
        self.measured(failed, bad=3)
        self.tell(ev.StageEnded(4, "failed", failed.sentence))
        self.tell(ev.RollbackBegan("gate", f"gate errors: {failed.sentence}"))
        self.split({"blue": 1000}).tell(ev.LogsSaved("green", "/home/local/diabetes/saved-logs/green"))
        return self.tell(
            ev.Finished("rolled_back", f"gate errors: {failed.sentence}; blue serves all traffic, green is deleted")
        )

    def waiting(self, kind: str, reason: str, seconds: float | None = None) -> "Story":
        until = None if seconds is None else self.now + timedelta(seconds=seconds)
        return self.tell(ev.Waited(Waiting(kind, reason, until)))


def judgement(*, requests: int = 100, verdict="CONTINUE", bad: int = 0) -> Judgement:
    """Of two gates, as the engine words them."""
    rate, stable = bad / requests, Figures(requests * 9, 2, 2 / (requests * 9))
    head = f"green {100 * rate:.3g}% errors against blue {100 * stable.rate:.2g}% over {requests:,} requests"
    how = {
        "PASS": "within the bound of 5% and the tolerance of 2x + 2%",
        "FAIL": "beyond the tolerance of 2x + 2%",
        "CONTINUE": f"needs more evidence ({requests} of 100 requests, {min(99, requests)}% of the way to PASS)",
    }[verdict]
    log_pass = {"PASS": 4.2, "CONTINUE": 1.7, "FAIL": float("-inf")}[verdict]
    errors = Verdict(
        "errors",
        verdict,
        f"{head}: {how} -> {verdict}",
        Figures(requests, bad, rate),
        stable,
        6.1 if bad else -0.7,
        log_pass,
    )
    latency = Verdict(
        "latency",
        "PASS",
        f"green p95 <= 51 ms against blue <= 46 ms over {requests:,} requests: within the tolerance of 2x -> PASS",
        Figures(requests, 3, 3 / requests, 51_000),
        Figures(requests * 9, 20, 20 / (requests * 9), 46_000),
        -1.2,
        5.5,
        notes=("not corrected for clustered errors: 0 of 10 minutes seen",),
    )
    outcome = {"PASS": "passed", "FAIL": "failed", "CONTINUE": "open"}[verdict]
    culprit = "errors" if verdict == "FAIL" else None
    return Judgement(outcome, (errors, latency), culprit, "rollback" if culprit else None, errors.sentence)


@pytest.fixture
def story() -> Story:
    """A rollout that has just begun."""
    return Story()


@pytest.fixture
def made() -> SimpleNamespace:
    """The maker of judgements, the stages' names, and when the story begins."""
    return SimpleNamespace(judgement=judgement, stages=STAGES, began=BEGAN, Story=Story)
