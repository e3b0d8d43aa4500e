"""Walks a plan's stages through a recording, with the very policy that drives rollouts.

Pure. A rollout is made of events as its driver would have written them, `decide` is asked after each, and where it
wants to measure it is given the next window of the recording. Time is the recording's own: a stage's clocks begin with
its first window, and stand still where nothing was recorded, as they do in a pause.

What a recording cannot know is taken as done: deployments, tests, approvals, webhooks. While such a step lasts, what
was measured in one only guards. What is accepted: polls come when the recording has them, not when the plan would look.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from orchestrator import decisions as policy
from orchestrator import events as ev
from orchestrator import measuring
from orchestrator.backtest import fit
from orchestrator.backtest.recording import Recording, Window
from orchestrator.clocks import stage_clocks
from orchestrator.decide import decide
from orchestrator.gates.judge import Judgement
from orchestrator.rollout import Rollout, apply
from orchestrator.stages import Stage, Target
from orchestrator.standing import Roles, Snapshot
from providers.base import Capabilities, EndpointState

Outcome = Literal["passed", "rolled_back", "paused", "failed", "recording_ended", "not_judged", "not_reached"]
TIMED = ("measure", "shadow", "canary", "promote", "wait")
"""Kinds of stages whose length the plan says."""
NAME = "backtest"


@dataclass(frozen=True, slots=True)
class Ran:
    """How one stage went.

    Attributes:
        stage: which. outcome: `recording_ended` where it was neither passed nor stopped by then; `not_judged` where the
            recording has the figures of none of its gates.
        cause: of a rollback or pause, as in the journal. gate: the culprit, where a gate stopped it.
        sentence: why, for a person.
        began, ended: in the recording's time; None where it has nothing of the stage.
        seconds: on the stage's clock.
        measurements: numbers of the first and the last window that was judged, or None.
        polls: how many were.
        requests, bad: of the candidate in it: of the leg that is judged; its bad live responses.
        judgement: the last one.
        unjudged: gate -> why the recording cannot answer it.
        steps: of the recorded rollout in which its windows were measured.
    """

    stage: Stage
    outcome: Outcome
    sentence: str = ""
    cause: str | None = None
    gate: str | None = None
    began: datetime | None = None
    ended: datetime | None = None
    seconds: float = 0.0
    measurements: tuple[int, int] | None = None
    polls: int = 0
    requests: int = 0
    bad: int = 0
    judgement: Judgement | None = None
    unjudged: Mapping[str, str] | None = None
    steps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Replayed:
    """How the plan went.

    Attributes:
        outcome: of the stage that it stopped in; else `passed`, or `not_judged` when a gate could not be.
        stages: every gated stage, and those between in which something was judged.
        stopped: the stage that it stopped in, or None.
        requests, bad: of the candidate in all of them: requests (copies among them), and bad live responses.
        notes: what to know of it, one thing each.
    """

    outcome: Outcome
    stages: tuple[Ran, ...]
    stopped: Ran | None
    requests: int
    bad: int
    notes: tuple[str, ...]


def replay(
    recording: Recording, stages: tuple[Stage, ...], roles: Roles, capabilities: Capabilities, *, endpoint: str
) -> Replayed:
    """What the plan's stages would have made of the recording.

    Args:
        recording: under the names of `roles`. stages: compiled for them, with at least one that has gates.
        roles, capabilities, endpoint: as they were compiled for.
    """
    stages = tuple(fit.as_recorded(stage, recording) for stage in stages)
    last = max(stage.index for stage in stages if stage.watched)
    walk = _Walk(recording, stages, roles, capabilities, endpoint)
    done: list[Ran] = []
    stopped: Ran | None = None
    for stage in stages[: last + 1]:
        if stopped is not None:
            done += [Ran(stage, "not_reached")] if stage.gates else []
            continue
        ran = walk.through(stage)
        if stage.gates or ran.polls or ran.outcome != "passed":
            done.append(ran)
        if ran.outcome not in ("passed", "not_judged"):
            stopped = ran
    open_ = any(ran.unjudged for ran in done)
    return Replayed(
        outcome=stopped.outcome if stopped is not None else "not_judged" if open_ else "passed",
        stages=tuple(done),
        stopped=stopped,
        requests=sum(ran.requests for ran in done),
        bad=sum(ran.bad for ran in done),
        notes=tuple(dict.fromkeys([*_pace(recording, stages, done), *walk.notes, *recording.notes])),
    )


class _Reel:
    """The windows of one kind, and how far they have been used."""

    def __init__(self, windows: Sequence[Window]) -> None:
        self.windows = windows
        self.at = 0
        self._from, self._shift = 0, [timedelta()]

    def begin(self) -> None:
        """Time runs without a break from the next window on."""
        self._from, self._shift = self.at, [timedelta()]

    def end(self, index: int) -> datetime:
        """When a window ends, in time that stands still where nothing was recorded."""
        while len(self._shift) <= index - self._from:
            after = self._from + len(self._shift)
            hole = self.windows[after].measurement.start - self.windows[after - 1].measurement.end
            self._shift.append(self._shift[-1] + max(hole, timedelta()))
        return self.windows[index].measurement.end - self._shift[index - self._from]

    def ahead(self, now: datetime) -> datetime | None:
        """When the next window ends that has not ended by then."""
        for index in range(self.at, len(self.windows)):
            if (end := self.end(index)) > now:
                return end
        return None

    def take(self, now: datetime) -> tuple[list[Window], datetime]:
        """All windows that have ended by `now`, at least the next one; and when the last of them ended."""
        first = self.at
        self.at += 1
        while self.at < len(self.windows) and self.end(self.at) <= now:
            self.at += 1
        return list(self.windows[first : self.at]), self.end(self.at - 1)

    @property
    def next(self) -> Window | None:
        """The next one, or None after the last."""
        return self.windows[self.at] if self.at < len(self.windows) else None


class _Walk:
    """The rollout that is made up, and the evidence that it has."""

    def __init__(
        self, recording: Recording, stages: tuple[Stage, ...], roles: Roles, capabilities: Capabilities, endpoint: str
    ) -> None:
        self.recording, self.stages, self.roles, self.capabilities = recording, stages, roles, capabilities
        self.mirrored = _Reel([window for window in recording.windows if window.mirrored])
        self.live = _Reel([window for window in recording.windows if window.live])
        self.before = _Reel([window for window in recording.windows if not (window.mirrored or window.live)])
        self.gates = measuring.no_evidence(stages)
        self.usual = recording.usual_by_step
        self.now = recording.windows[0].measurement.start
        self.observed = EndpointState(endpoint)
        self.fed: list[Window] = []
        self.aside: Mapping[str, str] = {}
        self.notes: list[str] = []
        started = ev.Started(
            name=NAME,
            plan_path="",
            provider="",
            endpoint=endpoint,
            endpoint_name=endpoint,
            bundle="",
            roles=roles,
            stages=tuple(stage.name for stage in stages),
            expected=Snapshot(exists=True),
        )
        self.rollout: Rollout = apply(None, ev.Event(NAME, 1, f"{NAME}.1", self.now, NAME, 0, started))
        self._write(ev.Driven(NAME, "", 0, 0))

    def through(self, stage: Stage) -> Ran:
        """Go through the next stage, as far as it goes."""
        reel = self.mirrored if stage.mirrored else self.before if stage.remembers else self.live
        self.fed, self.aside = [], fit.unjudged(stage, reel.windows, self.recording, self.roles)
        if stage.gates and len(self.aside) == len(stage.gates):
            self._pass(stage, "not judged", entered=False)
            return Ran(stage, "not_judged", "the recording has the figures of none of its gates", unjudged=self.aside)
        if reel.next is None and stage.gates:
            kind = "mirrored" if stage.mirrored else "live"
            more = " more" if reel.windows else ""
            return Ran(stage, "recording_ended", f"the recording has no{more} {kind} requests", unjudged=self.aside)
        if reel.next is None or not stage.watched:
            self._pass(stage, "not replayed", entered=False)
            return Ran(stage, "passed")
        self._reach(stage, reel, reel.next)
        began = self.now
        ended = self._timed(stage, reel) if stage.kind in TIMED else self._as_recorded(stage, reel)
        ran = self._ran(stage, ended, began)
        if ran.outcome == "passed":
            self._pass(stage, ran.sentence, entered=True)
        return ran

    # --- one stage --------------------------------------------------------------------------------

    def _reach(self, stage: Stage, reel: _Reel, first: Window) -> None:
        reel.begin()
        self.now = first.reached or first.measurement.start
        target = stage.work if isinstance(stage.work, Target) else stage.standing or Target({})
        self.observed = EndpointState(self.observed.name, traffic=target.traffic, mirror=target.mirror)
        if stage.gates:
            self.gates = measuring.entered(self.gates, self.roles, stage)
        self._write(ev.StageEntered(stage.index, stage.name))
        # Nobody waits for what is taken as done.
        hold, deadline = stage_clocks(stage, self.now) if stage.kind in TIMED else (None, None)
        self._write(ev.Reached(hold, deadline, found=Snapshot.of(self.observed)))

    def _timed(self, stage: Stage, reel: _Reel) -> policy.Decision | None:
        """To its end, by the clock; None where the recording ends before."""
        while True:
            decision = self._decide()
            match decision:
                case policy.Measure():
                    if reel.next is None:
                        return None if stage.gates else policy.Advance("the recording has no more of it")
                    self._feed(stage, reel)
                case policy.Wait(waiting=waiting):
                    after = self._after(stage, reel, waiting.until)
                    if after is None:
                        return None if stage.gates else policy.Advance("the recording has no more of it")
                    self.now = after
                case _:
                    return decision

    def _as_recorded(self, stage: Stage, reel: _Reel) -> policy.Decision:
        """For as long as the recording was between two gated steps, as far as nothing speaks against it."""
        while reel.next is not None and reel.next.between:
            self._feed(stage, reel)
            decision = self._decide()
            if isinstance(decision, policy.RollBack | policy.Pause | policy.Finish):
                return decision
        return policy.Advance("taken as done")

    def _after(self, stage: Stage, reel: _Reel, until: datetime | None) -> datetime | None:
        """When to look again; None where the recording does not reach so far."""
        p = self.rollout.progress
        clocks = [clock for clock in (until, p.hold_until, p.deadline) if clock is not None and clock > self.now]
        ahead = reel.ahead(self.now)
        if ahead is not None:
            return min([ahead, *clocks])
        # Until the next measurement would have been due, a clock may still run out without one.
        known = (p.measured_at or self.now) + timedelta(seconds=stage.interval)
        return min((clock for clock in clocks if clock <= known), default=None)

    def _feed(self, stage: Stage, reel: _Reel) -> None:
        windows, end = reel.take(self.now)
        self.now = max(self.now, end)
        measurements = [window.measurement for window in windows]
        longest = max((each.end - each.start).total_seconds() for each in measurements)
        gap = longest > measuring.A_GAP * max(stage.interval, self.usual[windows[0].step])
        self.gates, judgement = measuring.judged(self.gates, stage, measurements, gap=gap)
        if stage.remembers and self.roles.stable:
            for each in measurements:
                self.gates = self.gates.remember(each, self.roles.stable)
        bad = sum(measuring.bad_responses(each, self.roles.candidate) for each in measurements)
        self.fed += windows
        self._write(
            ev.Measured(
                windows[-1].number,
                fit.without(judgement, self.aside),
                measurements[0].start,
                end,
                lost=any(each.lost for each in measurements),
                bad=bad if stage.budget is not None else 0,
            )
        )

    def _decide(self) -> policy.Decision:
        situation = policy.Situation(
            rollout=self.rollout,
            stages=self.stages,
            capabilities=self.capabilities,
            now=self.now,
            seen=True,
            observed=self.observed,
            task_running=True,
        )
        return decide(situation)

    def _pass(self, stage: Stage, reason: str, *, entered: bool) -> None:
        if not entered:
            self._write(ev.StageEntered(stage.index, stage.name))
        self._write(ev.StageEnded(stage.index, "passed", reason))
        if stage.irreversible:
            self.rollout = replace(self.rollout, no_return=True)

    def _write(self, body: ev.Body) -> None:
        seq = self.rollout.last_seq + 1
        self.rollout = apply(self.rollout, ev.Event(NAME, seq, f"{NAME}.{seq}", self.now, NAME, 0, body))

    # --- what came of it --------------------------------------------------------------------------

    def _ran(self, stage: Stage, ended: policy.Decision | None, began: datetime) -> Ran:
        outcome, cause, sentence = self._told(stage, ended)
        judgement = self.rollout.progress.judgement
        fed = [window.measurement for window in self.fed]
        source: Literal["mirror", "live"] = "mirror" if stage.mirrored else "live"
        requests = sum(each.leg(self.roles.candidate or "", source).requests for each in fed)
        live = sum(leg.requests for each in fed for leg in each.legs if leg.source == "live")
        other = fit.other_split(stage, requests, live)
        self.notes += [other] if other and stage.gates else []
        over = self.now - (self.rollout.progress.measured_at or self.now)
        return Ran(
            stage,
            outcome,
            sentence,
            cause,
            judgement.culprit if cause == "gate" and judgement is not None else None,
            began=fed[0].start if fed else None,
            ended=fed[-1].end + over if fed else None,
            seconds=(self.now - began).total_seconds(),
            measurements=(self.fed[0].number, self.fed[-1].number) if fed else None,
            polls=len(fed),
            requests=requests,
            bad=sum(measuring.bad_responses(each, self.roles.candidate) for each in fed),
            judgement=judgement,
            unjudged=self.aside,
            steps=tuple(dict.fromkeys(window.step for window in self.fed if window.step)),
        )

    def _told(self, stage: Stage, ended: policy.Decision | None) -> tuple[Outcome, str | None, str]:
        judgement = self.rollout.progress.judgement
        match ended:
            case None:
                so_far = judgement.sentence if judgement is not None else "nothing was measured"
                return "recording_ended", None, f"{stage.name}: the recording ends here; {so_far}"
            case policy.Advance(reason=reason) | policy.Clear(reason=reason):
                return "passed", None, reason
            case policy.RollBack(cause=cause, reason=reason):
                return "rolled_back", cause, reason
            case policy.Pause(cause=cause, reason=reason):
                return "paused", cause, reason
            case policy.Finish(reason=reason):
                return "failed", None, reason
        raise TypeError(f"{stage.name}: a replay knows no {ended!r}")


def _pace(recording: Recording, stages: Sequence[Stage], done: Sequence[Ran]) -> Iterator[str]:
    usual = recording.usual
    fastest = min((stage.interval for stage in stages if stage.gates), default=usual)
    if usual > 1.5 * fastest:
        yield (
            f"the recording has a window every {usual:g} s and the plan looks every {fastest:g} s: it could have "
            f"stopped up to {usual - fastest:g} s sooner than is told"
        )
    for ran in done:
        for gate, why in (ran.unjudged or {}).items():
            yield f"{ran.stage.name}: gate {gate} was not judged: {why}"
