"""What a recording cannot say about a stage: gates whose figures it lacks, and traffic that was split otherwise.

A gate without figures must neither stop a replay (nothing is known against the candidate) nor pass it (nothing is known
for it). It is set aside by name, and a replay with such a gate never ends as one in which everything passed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from orchestrator.backtest.recording import Recording, Window
from orchestrator.gates.judge import Judgement
from orchestrator.gates.spec import DEFAULT_CODES, Gate
from orchestrator.stages import Stage
from orchestrator.standing import Roles
from plans.units import show_rate, show_share
from providers.measurement import Measurement, Source

MUCH = 0.15
"""A share that differs from the planned one by less than this part of it is called the same."""


def unjudged(stage: Stage, windows: Sequence[Window], recording: Recording, roles: Roles) -> dict[str, str]:
    """Gates (or guards) of a stage that these windows cannot answer -> why, as a clause. Empty without windows."""
    if not windows:
        return {}
    found = {}
    for gate in stage.gates or stage.guards:
        why = recording.unlike.get(gate.name) or _lacking(stage, gate, windows, recording, roles)
        if why:
            found[gate.name] = why
    return found


def without(judgement: Judgement, aside: Mapping[str, str]) -> Judgement:
    """The judgement as if these gates were not there; their shares in the groups stay, so that no threshold moves."""
    if not any(verdict.gate in aside for verdict in judgement.verdicts):
        return judgement
    kept = tuple(verdict for verdict in judgement.verdicts if verdict.gate not in aside)
    if judgement.outcome == "failed":
        return replace(judgement, verdicts=kept)
    for name in ("NO_DATA", "ERROR", "CONTINUE"):
        for verdict in kept:
            if verdict.verdict == name:
                return Judgement("no_data" if name == "NO_DATA" else "open", kept, None, None, verdict.sentence)
    sentence = kept[0].sentence if len(kept) == 1 else f"all {len(kept)} gates passed"
    return Judgement("passed", kept, None, None, sentence if kept else "no gates")


def other_split(stage: Stage, requests: int, of: int) -> str:
    """What to know when the candidate had another share in the recording than the plan gives it, or "".

    Args:
        stage: whose share. requests: that the candidate got. of: live requests in all at the same time.
    """
    share = (stage.mirrored or stage.exposure) / 1000
    if not of or not share:
        return ""
    seen = requests / of
    chance = 4 * math.sqrt(max(share * (1 - share), 1e-9) / of)
    if abs(seen - share) <= max(MUCH * share, chance):
        return ""
    what = "copies of" if stage.mirrored else "to answer"
    return (
        f"{stage.name}: in the recording the candidate got {what} {show_rate(seen)} of the live requests, and the plan "
        f"says {show_share(stage.mirrored or stage.exposure)}: what is told is about the recording's own split"
    )


def as_recorded(stage: Stage, recording: Recording) -> Stage:
    """The stage, judged by pairs only where the recording has some: else copies and originals are compared in bulk."""
    joined = any(window.measurement.pairs is not None for window in recording.windows if window.mirrored)
    return replace(stage, paired=stage.paired and joined)


def _lacking(stage: Stage, gate: Gate, windows: Sequence[Window], recording: Recording, roles: Roles) -> str:
    measured = [window.measurement for window in windows]
    if gate.guards_stable and all(window.mirrored or window.live for window in recording.windows):
        return "the recording has nothing of stable from before the candidate got requests"
    match gate.metric:
        case "error_rate" if not recording.classes and gate.codes != DEFAULT_CODES:
            return f"the recording says how many answers were errors, not which were {', '.join(gate.codes)}"
        case "latency":
            return _no_latencies(stage, gate, measured, roles)
        case "slowdown" | "missing_pairs":
            return "" if any(each.pairs is not None for each in measured) else "the recording has no pairs"
        case "prediction" | "external":
            if any(gate.name in each.samples for each in measured):
                return ""
            metric = gate.external.name if gate.external is not None else "predictions"
            return f"the recording has no {metric} for it" if metric == "predictions" else f"no metric {metric} in it"
    return ""


def _no_latencies(stage: Stage, gate: Gate, measured: Sequence[Measurement], roles: Roles) -> str:
    own: Source = ("mirror" if stage.mirrored else "live") if gate.source == "auto" else gate.source
    wanted = [] if gate.guards_stable else [(roles.candidate, own)]
    if roles.stable and (gate.relative or gate.blame or gate.guards_stable):
        wanted.append((roles.stable, "live"))
    for name, source in wanted:
        legs = [each.leg(name or "", source) for each in measured]
        if not any(leg.latency is not None for leg in legs) and any(leg.requests for leg in legs):
            return f"the recording has no latencies of {name} ({source})"
    return ""
