"""Drives one rollout: observes, asks `decide`, does what it says, writes down what happened. It owns no policy.

The loop is level-triggered and every turn begins from what is stored and observed, so a crash at any point costs a
turn, never the rollout. Effects come in two halves, begun under the rollout's epoch and polled to their end; a started
call is never cancelled. Whatever is found out is committed before it is acted on.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta

from orchestrator import decisions as policy
from orchestrator import events as ev
from orchestrator import ids, measuring, reconcile
from orchestrator.bundle import Bundle
from orchestrator.clocks import resumed_clocks, stage_clocks
from orchestrator.decide import MOST_ATTEMPTS, decide
from orchestrator.errors import LeaseLost, StoreError
from orchestrator.flags import Flags
from orchestrator.journal import Journal, Watcher
from orchestrator.keepsakes import saved_logs, with_last_words
from orchestrator.lease import Heartbeat
from orchestrator.notify import Notifier
from orchestrator.rollout import Rollout
from orchestrator.sources import Metrics
from orchestrator.stages import Stage
from orchestrator.standing import Command, Intent, Snapshot, Waiting
from orchestrator.store.base import Evidence, Store, Worker
from orchestrator.tasks.load import LoadProcess
from orchestrator.tasks.result import TaskResult
from providers.actions import Action
from providers.base import Capabilities, Done, EndpointState, Failed, Fence, Operation, Provider
from providers.errors import Fenced, ProviderError, Temporary

TaskRunner = Callable[[Stage], Awaitable[TaskResult]]
TICK = 0.25
"""Seconds between looks at the commands, at most."""
QUICK = 0.05
"""Seconds between polls of an operation that does not say when to come back."""
OBSERVE_EVERY = 1.0
"""Seconds for which an observation is good enough to wait on; before an effect it is always made anew."""
ROLLBACK_ATTEMPTS = 5
TO_BE_HEARD = 10.0
"""Seconds that a driver which is done stays for webhooks that have not heard of it yet."""


class Driver:
    """One rollout, driven until it ends or is left."""

    def __init__(
        self,
        rollout: Rollout,
        *,
        bundle: Bundle,
        stages: tuple[Stage, ...],
        store: Store,
        provider: Provider,
        metrics: Metrics,
        capabilities: Capabilities,
        worker: Worker,
        heartbeat: Heartbeat,
        clock: Callable[[], datetime],
        run_task: TaskRunner,
        flags: Flags,
        watcher: Watcher,
        stop: asyncio.Event,
        load: LoadProcess | None = None,
        notifier: Notifier | None = None,
    ) -> None:
        self._journal = Journal(rollout, store, clock, self._committed)
        self._watcher, self._notifier = watcher, notifier
        self.bundle, self.stages = bundle, stages
        self._store, self._provider, self._capabilities = store, provider, capabilities
        self._worker, self._heartbeat, self._clock, self._run_task = worker, heartbeat, clock, run_task
        self._metrics, self._flags, self._stop, self._load = metrics, flags, stop, load
        self._evidence: Evidence | None = None
        self._observed: EndpointState | None = None
        self._seen = False
        self._trouble: str | None = None
        self._observed_at = float("-inf")
        self._task: asyncio.Future[TaskResult] | None = None
        self._poll_at: dict[str, float] = {}
        self._observe_tries, self._anew = 0, False

    @property
    def rollout(self) -> Rollout:
        """The rollout as it stands now."""
        return self._journal.rollout

    async def run(self, *, adopted: ev.Adopted | None = None) -> Rollout:
        """Drive until the rollout ends or is left; returns it as it then stands. `adopted`: another bundle takes the
        pinned one's place.

        Raises LeaseLost when another driver took over, StoreError when the store is gone.
        """
        worker, self._evidence = self._worker, await self._store.evidence(self.rollout.id)
        try:
            await self._journal.write(ev.Driven(worker.id, worker.host, worker.pid, self.rollout.epoch))
            if adopted is not None:
                await self._journal.write(adopted)
            if self._notifier is not None:
                self._notifier.catch_up(await self._store.events(self.rollout.id))
            while True:
                self._heartbeat.check()
                decision = await self._next()
                if isinstance(decision, policy.Leave):
                    return await self._leave(decision.reason)
                await self._execute(decision)
        finally:
            await self._end_task()
            if self._load is not None:
                await self._load.stop()
            if self._notifier is not None:
                await self._notifier.aclose()

    def _committed(self, rollout: Rollout, events: Sequence[ev.Event]) -> None:
        self._watcher(rollout, events)
        if self._notifier is not None:
            self._notifier.tell(rollout, events)

    # --- one turn ---------------------------------------------------------------------------------

    async def _next(self) -> policy.Decision:
        await self._poll_operations()
        await self._reap_task()
        await self._heard(self._notifier.take_results() if self._notifier is not None else ())
        commands = await self._store.commands(self.rollout.id)
        await self._observe(OBSERVE_EVERY)
        decision = self._decide(commands)
        if (
            self._seen
            and self._observed_at < self._loop_time()
            and not isinstance(decision, policy.Wait | policy.Measure)
        ):
            # Observe before acting: what was good enough to wait on is not good enough to change anything on.
            await self._observe(0.0)
            decision = self._decide(commands)
        return decision

    def _decide(self, commands: Sequence[Command]) -> policy.Decision:
        return decide(
            policy.Situation(
                rollout=self.rollout,
                stages=self.stages,
                capabilities=self._capabilities,
                now=self._clock(),
                seen=self._seen,
                observed=self._observed,
                commands=commands,
                task_running=self._task is not None,
                interrupted=self._stop.is_set(),
                exit_on_pause=self._flags.exit_on_pause,
                leave_exposed=self._flags.leave_exposed,
                trouble=self._trouble,
                load_problem=self._load.problem if self._load is not None else None,
            )
        )

    async def _observe(self, good_for: float) -> None:
        now = self._loop_time()
        if now < self._observed_at + good_for and (self._seen or self._observe_tries):
            return
        try:
            self._observed = await self._provider.observe(self.rollout.endpoint_name)
        except ProviderError as error:
            self._observe_tries += 1
            wait = error.retry_after if isinstance(error, Temporary) else None
            self._seen, self._trouble = False, str(error)
            self._observed_at = now + (wait or ids.back_off(self.rollout.id, self._observe_tries)) - OBSERVE_EVERY
            return
        self._seen, self._trouble, self._observe_tries = True, None, 0
        self._observed_at = self._loop_time()
        await self._drive_load()

    async def _drive_load(self) -> None:
        served = self._observed is not None and any(self._observed.traffic.values())
        if self._load is not None and served and self.rollout.active:
            await self._load.ensure()

    async def _execute(self, decision: policy.Decision) -> None:  # noqa: C901 - a dispatch reads best in one piece
        match decision:
            case policy.Act(action=action, stage=stage, irreversible=irreversible):
                await self._intend(action, stage, irreversible=irreversible)
            case policy.Begin(key=key):
                await self._begin(self.rollout.intents[key])
            case policy.Supersede(key=key, reason=reason):
                counted = frozenset({*self.rollout.counted, *self.rollout.intents[key].after.counts})
                await self._journal.write(ev.Ended(key, "superseded", reason, Snapshot.of(self._observed, counted)))
            case policy.Enter(stage=stage, deadline=deadline):
                await self._enter(stage, deadline)
            case policy.Reach(stage=stage):
                await self._reach(stage)
            case policy.Measure(stage=stage):
                await self._measure(stage)
            case policy.RunTask(stage=stage):
                await self._journal.write(ev.TaskTried(self.rollout.progress.task_attempt + 1))
                self._task = asyncio.ensure_future(self._run_task(stage))
            case policy.Clear(reason=reason):
                await self._journal.write(ev.Leaving(reason))
            case policy.Advance(reason=reason, outcome=outcome):
                await self._journal.write(ev.StageEnded(self.rollout.stage, outcome, reason))
            case policy.Wait(waiting=waiting):
                await self._wait(waiting)
            case policy.Pause(cause=cause, command=command):
                reason = await self._told(decision)
                until = self._clock() + timedelta(seconds=self.bundle.plan.pause_limit)
                await self._journal.write(ev.Paused(cause, reason, until), command=command)
                await self._end_task()
            case policy.Park(reason=reason):
                await self._journal.write(ev.Parked(reason))
            case policy.Resume():
                await self._resume(decision)
            case policy.Extend(command=command, seconds=seconds, deadline=deadline):
                await self._journal.write(ev.Extended(seconds, deadline), command=command)
            case policy.Approve(command=command, despite=despite):
                approved = ev.Approved(command.actor, command.args.get("reason"), despite)
                await self._journal.write(approved, command=command)
            case policy.Refuse(command=command, reason=reason):
                await self._journal.write(ev.Commanded(command.kind, accepted=False, reason=reason), command=command)
            case policy.RollBack(cause=cause, command=command):
                reason = await self._told(decision)
                await self._journal.write(ev.RollbackBegan(cause, reason), command=command)
                await self._end_task()
            case policy.SaveLogs(deployment=deployment):
                r = self.rollout
                await self._journal.write(await saved_logs(self._provider, r.endpoint_name, deployment, rollout=r.id))
            case policy.Finish(phase=phase, command=command):
                await self._finish(phase, await self._told(decision), command)

    async def _wait(self, waiting: Waiting) -> None:
        if self.rollout.waiting != waiting:
            await self._journal.write(ev.Waited(waiting))
        seconds = TICK
        if any(intent.state == "begun" for intent in self.rollout.intents.values()):
            due = min(self._poll_at.values(), default=0.0) - self._loop_time()
            seconds = min(TICK, max(QUICK, due))
        if waiting.until is not None:
            seconds = min(seconds, max(0.0, (waiting.until - self._clock()).total_seconds()))
        if waiting.kind == "operation":
            self._observed_at = min(self._observed_at, self._loop_time() - OBSERVE_EVERY)
            seconds = min(seconds, QUICK)
        await self._sleep(max(seconds, 0.001))

    async def _sleep(self, seconds: float) -> None:
        waits: list[asyncio.Future[object]] = [self._task] if self._task is not None else []  # type: ignore[list-item]
        if not self._stop.is_set():
            waits.append(asyncio.ensure_future(self._stop.wait()))
        if not waits:
            await asyncio.sleep(seconds)
            return
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if waits[-1] is not self._task:
            waits[-1].cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await waits[-1]

    # --- effects ----------------------------------------------------------------------------------

    async def _intend(self, action: Action, stage: int, *, irreversible: bool) -> None:
        r = self.rollout
        before = Snapshot.of(self._observed, r.counted)
        intent = Intent(
            ids.intent_key(r.id, r.intended + 1), stage, r.epoch, action, before, reconcile.after(before, action)
        )
        await self._journal.write(ev.Intended(intent, irreversible and not r.no_return))
        await self._begin(intent)

    async def _begin(self, intent: Intent) -> None:
        self._heartbeat.check()
        r = self.rollout
        fence = Fence(self._store.id, r.id, r.epoch, steal=self._flags.steal)
        try:
            operation = await self._provider.begin(intent.action, key=intent.key, fence=fence)
        except Fenced as fenced:
            await self._journal.write(ev.Released(str(fenced)))
            raise LeaseLost(str(fenced)) from fenced
        except ProviderError as error:
            await self._failed(
                intent,
                str(error),
                permanent=not isinstance(error, Temporary),
                retry_after=getattr(error, "retry_after", None),
            )
        else:
            self._observed_at = float("-inf")
            self._poll_at[intent.key] = 0.0
            await self._journal.write(ev.Begun(intent.key, operation))

    async def _poll_operations(self) -> None:
        for intent in list(self.rollout.intents.values()):
            if intent.operation is None or self._loop_time() < self._poll_at.get(intent.key, 0.0):
                continue
            try:
                found = await self._provider.poll(intent.operation)
            except ProviderError as error:
                wait = error.retry_after if isinstance(error, Temporary) else None
                self._poll_at[intent.key] = self._loop_time() + (wait or 1.0)
                self._trouble = str(error)
                continue
            await self._polled(intent, found)

    async def _polled(self, intent: Intent, found: Operation | Done | Failed) -> None:
        match found:
            case Done():
                self._observed_at = float("-inf")
                await self._journal.write(ev.Ended(intent.key, "done"))
            case Failed(reason=reason, permanent=permanent):
                self._observed_at = float("-inf")
                await self._failed(intent, reason, permanent=permanent, retry_after=None)
            case Operation():
                self._poll_at[intent.key] = self._loop_time() + (found.retry_after or QUICK)
                if found != intent.operation:
                    await self._journal.write(ev.Begun(intent.key, found))

    async def _failed(self, intent: Intent, reason: str, *, permanent: bool, retry_after: float | None) -> None:
        attempt = intent.attempt + 1
        undoing = self.rollout.phase == "rolling_back"
        again = (
            attempt < (ROLLBACK_ATTEMPTS if permanent else MOST_ATTEMPTS)
            if undoing
            else not permanent and attempt < MOST_ATTEMPTS
        )
        if again:
            wait = max(retry_after or 0.0, ids.back_off(intent.key, attempt))
            await self._journal.write(ev.Retried(intent.key, reason, attempt, self._clock() + timedelta(seconds=wait)))
            return
        await self._observe(0.0)
        counted = frozenset({*self.rollout.counted, *intent.after.counts})
        left = Snapshot.of(self._observed, counted) if self._seen else None
        await self._journal.write(ev.Ended(intent.key, "failed", reason, left))

    async def _told(self, decision: policy.Pause | policy.RollBack | policy.Finish) -> str:
        return await with_last_words(self._provider, self.rollout.endpoint_name, decision.reason, decision.about)

    # --- evidence ---------------------------------------------------------------------------------

    async def _enter(self, stage: Stage, deadline: datetime | None) -> None:
        evidence = None
        if stage.budget is not None and self._evidence is None:
            try:
                evidence = await measuring.before_exposure(self._provider, self.rollout, self.stages)
            except ProviderError as error:
                await self._cannot_measure(str(error))
                return
        await self._journal.write(ev.StageEntered(stage.index, stage.name, deadline), evidence=evidence)
        self._evidence = evidence or self._evidence

    async def _reach(self, stage: Stage) -> None:
        evidence, bad = None, 0
        if stage.gates or stage.remembers:
            try:
                evidence, bad = await measuring.open_stage(
                    self._provider, self._metrics, self.rollout, self.stages, stage, self._evidence, anew=self._anew
                )
            except ProviderError as error:
                await self._cannot_measure(str(error))
                return
            self._anew = self._anew and not stage.gates
        hold_until, deadline = stage_clocks(stage, self._clock(), self.rollout.progress)
        # In an advisory rollout the split is somebody else's: remembered as it was found.
        found = Snapshot.of(self._observed) if self.rollout.advisory else None
        await self._journal.write(ev.Reached(hold_until, deadline, bad, found), evidence=evidence)
        self._evidence = evidence or self._evidence

    async def _measure(self, stage: Stage) -> None:
        if self._evidence is None:
            raise StoreError(f"rollout {self.rollout.id}: the evidence of stage {stage.name} is missing from the store")
        try:
            fed = await measuring.feed(self._provider, self._metrics, self.rollout, stage, self._evidence)
        except ProviderError as error:
            await self._cannot_measure(str(error))
            return
        measured = ev.Measured(
            fed.number, fed.judgement, fed.measurement.start, fed.measurement.end, fed.measurement.lost, fed.bad
        )
        await self._journal.write(
            measured, measurement=(fed.number, stage.index, fed.measurement), evidence=fed.evidence
        )
        self._evidence = fed.evidence

    async def _cannot_measure(self, reason: str) -> None:
        await self._journal.write(ev.MeasureFailed(reason, self.rollout.progress.errors + 1))
        if self.rollout.progress.reached_at is None:
            await self._sleep(1.0)

    # --- one-shot steps ---------------------------------------------------------------------------

    async def _reap_task(self) -> None:
        if self._task is None or not self._task.done():
            return
        task, self._task = self._task, None
        crashed = task.exception()
        if crashed is not None:
            # A mistake in a step's own code fails that step; the rollout must not be left unguarded by it.
            result = TaskResult(False, f"stopped by an error of its own ({type(crashed).__name__}: {crashed})")
        else:
            result = task.result()
        attempt = self.rollout.progress.task_attempt
        stage = self.stages[self.rollout.stage]
        if not result.ok and result.retry and attempt <= getattr(stage.work, "retries", 0):
            wait = ids.back_off(f"{self.rollout.id}.{stage.index}", attempt)
            await self._journal.write(ev.TaskTried(attempt, result.detail, self._clock() + timedelta(seconds=wait)))
        else:
            await self._journal.write(ev.TaskEnded(result.ok, result.detail))

    async def _end_task(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    # --- endings ----------------------------------------------------------------------------------

    async def _resume(self, decision: policy.Resume) -> None:
        r, restart = self.rollout, decision.restart or decision.take_back
        # A failed gate that was set aside is not looked at anew: its evidence stands beside the human's word.
        self._anew = r.paused == "gate" and decision.command is not None
        hold_until, deadline = resumed_clocks(
            r, self.stages, self._clock(), restart=restart, extend=decision.extend or 0.0
        )
        expected = Snapshot.of(self._observed, r.counted) if decision.take_back else None
        resumed = ev.Resumed(restart, expected, hold_until=hold_until, deadline=deadline, extended=decision.extend)
        await self._journal.write(resumed, command=decision.command)

    async def _finish(self, phase: str, reason: str, command: Command | None) -> None:
        await self._journal.write(ev.Finished(phase, reason), command=command)  # type: ignore[arg-type]
        fence = Fence(self._store.id, self.rollout.id, self.rollout.epoch)
        with contextlib.suppress(ProviderError):
            await self._provider.release(self.rollout.endpoint_name, fence)
        if self._notifier is not None:
            # The rollout has ended well or not: what becomes of its last notifications cannot change that.
            with contextlib.suppress(LeaseLost, StoreError):
                await self._heard(await self._notifier.drain(TO_BE_HEARD))

    async def _heard(self, deliveries: Sequence[ev.Notified]) -> None:
        for delivery in deliveries:
            await self._journal.write(delivery)

    async def _leave(self, reason: str) -> Rollout:
        if self.rollout.active:
            if self._notifier is not None:
                await self._heard(await self._notifier.drain(TO_BE_HEARD, give_up=False))
            await self._journal.write(ev.Released(reason))
            await self._store.release(self.rollout)
        return self.rollout

    @staticmethod
    def _loop_time() -> float:
        return asyncio.get_running_loop().time()
