"""The policy of a rollback: what is left to undo, given how the endpoint stands.

Pure, and part of `decide`. Traffic first, in one call, because that is what users feel; then verify, scale back, save
logs, clean up. Nothing here looks at
windows, drift or capacity: a rollback is never blocked, except by there being nothing healthy to go back to.
"""

from collections.abc import Mapping
from datetime import timedelta

from orchestrator import reconcile
from orchestrator.decisions import Act, Decision, Finish, SaveLogs, Situation, Supersede, Wait
from orchestrator.pursue import first_intent, pursue
from orchestrator.standing import Waiting
from providers.actions import Action, DeleteDeployment, PutDeployment, Scale, SetTraffic
from providers.base import EndpointState

GRACE = timedelta(seconds=15)
"""How long a rollback waits for one healthy member of stable."""


def undo(s: Situation) -> Decision:
    """Traffic first, in one call; then verify, scale back, save logs, clean up."""
    r, roles, observed = s.rollout, s.rollout.roles, s.observed
    if r.advisory:
        return Finish("rolled_back", f"advisory: {r.reason}; nothing was changed")
    if observed is None:
        return _nothing_there(s)
    unbegun = roles.bootstrap and r.stages[0].state != "passed"
    if not unbegun:
        restoring = _restore(s, observed)
        if restoring is not None:
            return restoring
    if r.rollback_failure is not None:
        return Finish(
            "failed", f"{r.reason}; traffic was restored, but {r.rollback_failure}; {reconcile.standing(observed)}"
        )
    cleaning = _clean_up(s, observed, unbegun=unbegun)
    if cleaning is not None:
        return cleaning
    if unbegun:
        return Finish("rolled_back", f"{r.reason}; the bootstrap is left as it stands")
    return Finish("rolled_back", r.reason or "rolled back")


def _nothing_there(s: Situation) -> Decision:
    r = s.rollout
    if r.roles.bootstrap and r.stages[0].state != "passed":
        intent = first_intent(r)
        if intent is not None:
            return Supersede(intent.key, "rolled back")
        return Finish("rolled_back", f"{r.reason}; nothing had been created")
    return Finish("failed", f"{r.reason}; the endpoint is gone, so nothing can be restored")


def _restore(s: Situation, observed: EndpointState) -> Decision | None:
    r, baseline = s.rollout, s.rollout.roles.baseline
    moving = next((intent for intent in r.intents.values() if isinstance(intent.action, SetTraffic | Scale)), None)
    restored = reconcile.same(observed.traffic, baseline.traffic) and not observed.mirror
    if moving is not None:
        # What the rollout was doing before is no longer wanted: it is overtaken, not waited for. What leads to the
        # baseline is seen through, though the endpoint looks so already: it may be recorded, and not yet carried out.
        unwanted = moving.stage != -1 and not (restored and _leads_to(moving.action, baseline.traffic))
        return Supersede(moving.key, "rolled back") if unwanted else pursue(s, moving)
    if not restored:
        if r.rollback_failure is not None:
            return Finish(
                "failed",
                f"{r.reason}; traffic could not be restored: {r.rollback_failure}; {reconcile.standing(observed)}",
            )
        busy = first_intent(r)
        if busy is not None and not s.capabilities.concurrent:
            return pursue(s, busy)
        well = [
            name for name in baseline.traffic if name in observed.deployments and observed.deployments[name].healthy
        ]
        if baseline.traffic and len(well) < len(baseline.traffic):
            return _without_stable(s, observed)
        return Act(SetTraffic(r.endpoint_name, dict(baseline.traffic), {}), -1)
    for name, count in r.roles.counts.items():
        there = observed.deployments.get(name)
        kept = name != r.roles.candidate or r.roles.existed
        if kept and name in r.expected.counts and there is not None and there.desired != count:
            return Act(Scale(r.endpoint_name, name, count), -1)
    return None


def _leads_to(action: Action, traffic: Mapping[str, int]) -> bool:
    return (
        isinstance(action, SetTraffic) and reconcile.same(action.traffic, traffic) and not any(action.mirror.values())
    )


def _without_stable(s: Situation, observed: EndpointState) -> Decision:
    r = s.rollout
    if r.rollback_at is not None and s.now < r.rollback_at + GRACE:
        return Wait(Waiting("provider", "no healthy instance of stable to give the traffic to", r.rollback_at + GRACE))
    return Finish(
        "failed",
        f"{r.reason}; stable has no healthy instance, so traffic was left untouched; {reconcile.standing(observed)}",
    )


def _clean_up(s: Situation, observed: EndpointState, *, unbegun: bool) -> Decision | None:
    r, candidate = s.rollout, s.rollout.roles.candidate
    ours = candidate is not None and not r.roles.existed and not r.options.get("keep_candidate")
    intent = first_intent(r)
    if intent is not None:
        # A candidate that is being made is deleted as it is; but first it must be there to be deleted.
        doomed = unbegun or (
            isinstance(intent.action, PutDeployment)
            and ours
            and intent.action.deployment.name == candidate
            and candidate in observed.deployments
        )
        unwanted = intent.stage != -1 and (intent.state == "open" or doomed)
        return Supersede(intent.key, "rolled back") if unwanted else pursue(s, intent)
    # While the bootstrap was not done, no candidate of ours can be there.
    if unbegun or not ours or candidate is None or candidate not in observed.deployments:
        return None
    if r.logs is None:
        return SaveLogs(candidate)
    return Act(DeleteDeployment(r.endpoint_name, candidate), -1)
