"""Adds to a measurement how many answers of the candidate differ from their twins', as the comparing process counts it.

Asking is what makes it run: `ask` writes what shall be compared where the process looks for it, and wants the process;
`converge` withdraws both when nothing is mirrored any more, so that nobody pays for what no gate asks.

The process's counters only grow, and its incarnation stands in the cursor beside them, so that each pair is told once.
When another incarnation answers, what the old one had counted since the cursor is gone: that is said once, as a
problem, and its successor's counts are told from zero on.
"""

import hashlib
import json
import socket
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from providers import answers
from providers.local import launching, state
from providers.local.comparer import PACKET, REPORT, SOCKET
from providers.local.processes import Processes
from providers.local.state import Deployment, Layout, State
from providers.measurement import Comparison, Count, Cursor, Measurement, MeasureQuery, Sample

PART = "~answers"
"""Key in the cursor; no deployment is called so."""
START_S = 2.0
ANSWER_S = 1.0
_KEPT = 64
_UNHEARD = 5
"""Copies in one measurement after which an instance should have been heard of."""

Report = Mapping[str, Any]
"""As `joining.Joiner.report` makes it, with the `incarnation` of the process."""


def key(how: Comparison) -> str:
    """Under which a comparison is counted: the same for whoever asks for the same."""
    return hashlib.sha256(json.dumps(asdict(how), sort_keys=True).encode()).hexdigest()[:16]


def ask(layout: Layout, processes: Processes, query: MeasureQuery) -> Report | None:
    """Have these comparisons made, and what was counted so far; None while the process does not answer.

    A process that is not there yet is waited for, at most START_S.
    """
    wanted = {key(how): asdict(how) for how in query.comparisons.values()}
    there = _asked(layout)
    if not wanted.keys() <= there.keys():
        merged = {**{name: how for name, how in there.items() if name not in wanted}, **wanted}
        kept = dict(list(merged.items())[-_KEPT:])
        state.write(layout.asked, json.dumps({"specs": kept}, sort_keys=True).encode())
    began = launching.COMPARER not in processes.wanted()
    if began:
        layout.logs.mkdir(mode=0o700, exist_ok=True)
        processes.want(launching.COMPARER, launching.comparer(layout))
        processes.wake()
    until = time.monotonic() + (START_S if began else 0.0)
    while True:
        report = _report(processes)
        if report is not None and wanted.keys() <= set(report["asked"]):
            return report
        if time.monotonic() >= until:
            return None
        time.sleep(0.01)


def added(
    measurement: Measurement,
    cursor: Cursor | None,
    query: MeasureQuery,
    now: State,
    layout: Layout,
    processes: Processes,
) -> Measurement:
    """The measurement with a sample for each comparison.

    Args:
        measurement: of the counters, read just now.
        cursor: that it goes on from.
        query: with the comparisons.
        now: the endpoint as it stands.
        layout, processes: of the endpoint.
    """
    old: Report | None = None if cursor is None else cursor.raw.get(PART)
    if not query.comparisons:
        return measurement
    two = [now.deployments[name] for name in query.deployments[:2] if name in now.deployments]
    nothing = _impossible(two, now, query)
    if nothing:
        samples = {gate: Sample(nothing=nothing, query=answers.described(how)) for gate, how in _gates(query)}
        return replace(measurement, samples=samples)  # the process ends with the mirror, and so does what it counted
    report = ask(layout, processes, query)
    if report is None:
        why = f"the process that compares answers does not answer, see {layout.logs / 'answers.log'}"
        samples = {gate: Sample(problem=why, query=answers.described(how)) for gate, how in _gates(query)}
        return replace(measurement, samples=samples, cursor=_with(measurement.cursor, old))
    copies = measurement.leg(two[0].name, "mirror").requests
    samples = {gate: sample(how, old, report, (leg(two[0]), leg(two[1])), copies) for gate, how in _gates(query)}
    begun = old is not None and old["incarnation"] != report["incarnation"]
    kept = {"incarnation": report["incarnation"]} if begun else _kept(report)
    return replace(measurement, samples=samples, cursor=_with(measurement.cursor, kept))


def sample(how: Comparison, old: Report | None, new: Report, legs: tuple[str, str], copies: int) -> Sample:
    """What one comparison found since a cursor. Pure.

    Args:
        how: the comparison.
        old: the report in the cursor; None where there is none yet.
        new: the report now.
        legs: `deployment.generation` of the candidate and of stable.
        copies: mirrored requests that the candidate completed since the cursor.
    """
    query = answers.described(how)
    if old is None:
        return Sample(query=query)
    if old["incarnation"] != new["incarnation"]:
        why = "the process that compares answers restarted, so what it had counted since the last measurement is lost"
        return Sample(problem=why, query=query)
    before, after = _pair(old, legs), _pair(new, legs)
    then, now = before["specs"].get(key(how), {}), after["specs"].get(key(how), {})
    same, different, told = (now.get(name, 0) - then.get(name, 0) for name in ("same", "different", "told"))
    left = _grown(before["left"], after["left"])
    for name, more in _grown(then.get("unknown", {}), now.get("unknown", {})).items():
        left[name] = left.get(name, 0) + more
    alone = sum(new["alone"].get(one, 0) - old.get("alone", {}).get(one, 0) for one in legs)
    if alone:
        left[answers.ALONE] = alone
    left_out = {answers.WHY.get(name, name): count for name, count in sorted(left.items())}
    nothing = _nothing(same + different, left_out, copies, [one for one in legs if not new["seen"].get(one)])
    examples = tuple(now.get("examples", ()))[-min(told, how.examples) :] if told and how.examples else ()
    count = Count(different, same + different)
    return Sample(candidate=count, nothing=nothing, query=query, examples=examples, left_out=left_out)


def leg(deployment: Deployment) -> str:
    """How the process calls those who answer for a deployment now."""
    return f"{deployment.name}.{deployment.serves.id}"


def _gates(query: MeasureQuery) -> list[tuple[str, Comparison]]:
    return sorted(query.comparisons.items())


def _impossible(two: list[Deployment], now: State, query: MeasureQuery) -> str:
    """Why no answer can be compared, as a clause, or ""."""
    if now.leaving:
        return "the endpoint is being deleted"
    if len(two) < 2:
        return answers.NO_SECOND
    for one in two:
        if not launching.hands_over(one.serves):
            return (
                f"{one.name} runs a command of its own, which hands no answers over; "
                "use code_configuration instead of local.command"
            )
    if not now.mirror.get(query.deployments[0]):
        return f"nothing is mirrored to {query.deployments[0]}"
    return ""


def _nothing(compared: int, left_out: Mapping[str, int], copies: int, silent: list[str]) -> str:
    if compared:
        return ""
    if left_out:
        return answers.none_compared(left_out)
    if copies >= _UNHEARD and silent:
        names = " and ".join(one.split(".")[0] for one in silent)
        return (
            f"{copies} requests were mirrored, and {names} handed no answer over; instances that were started before "
            "this version do not, deploy them again"
        )
    return ""


def _pair(report: Report, legs: tuple[str, str]) -> Mapping[str, Any]:
    found = report.get("pairs", {}).get("|".join(sorted(legs)), {})
    return {"left": found.get("left", {}), "specs": found.get("specs", {})}


def _grown(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    return {name: n - before.get(name, 0) for name, n in after.items() if n > before.get(name, 0)}


def _kept(report: Report) -> dict[str, Any]:
    """What the next one is compared with: every counter, and no example."""
    pairs = {
        legs: {
            "left": one["left"],
            "specs": {
                name: {field: value for field, value in tally.items() if field != "examples"}
                for name, tally in one["specs"].items()
            },
        }
        for legs, one in report["pairs"].items()
    }
    return {"incarnation": report["incarnation"], "pairs": pairs, "alone": report["alone"]}


def _with(cursor: Cursor, part: Report | None) -> Cursor:
    return cursor if part is None else replace(cursor, raw={**cursor.raw, PART: part})


def _asked(layout: Layout) -> dict[str, Any]:
    try:
        specs = json.loads(layout.asked.read_bytes())["specs"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return specs if isinstance(specs, dict) else {}


def _report(processes: Processes) -> dict[str, Any] | None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.settimeout(ANSWER_S)
        try:
            client.connect(str(processes.socket.parent / SOCKET))
            client.send(REPORT)
            chunks = []
            while chunk := client.recv(PACKET):
                chunks.append(chunk)
            report = json.loads(b"".join(chunks))
        except (OSError, ValueError):
            return None
    return report if isinstance(report, dict) and isinstance(report.get("asked"), list) else None
