"""The report of `gates.py`, as the page docs/benchmarks/gates.md."""

from collections.abc import Callable, Mapping, Sequence
from math import isinf, isnan

from gate_research import LOOKED_AT, PROVEN, Trial
from gate_scenarios import Outcome, fewest_requests
from gate_traffic import Scenario

Compared = Mapping[Scenario, Mapping[str, Outcome]]

INTRODUCTION = """\
# Gates against other rules

What the gates of this project do, and what the rules of Argo Rollouts, Flagger and Kayenta do, on the same
simulated traffic with the same tolerances. Written by

    {command}

{rollouts:,} rollouts of each situation; everything is drawn from the seed. `make bench-gates` runs it.

**Tolerances.** At most 1% errors (blamed on the candidate only when it is worse than stable) and 500 ms at p95;
compared with stable at most 1.5 times its errors plus 0.1%, and 1.1 times its p95 and its p50. alpha = beta = 5%,
one poll a minute, an hour, 10% of the traffic to the candidate. Stable has 0.5% errors and a p95 of 402 ms,
log-normal with sigma 0.6.

**Rules.** *this*: the production gates, in a stage that is held for the hour. *Argo*: an analysis of 10
measurements, `failureLimit: 3`, on the absolute bounds; *ratios*: the same on the comparisons; *background*: the
absolute bounds without a `count`, for the hour. *Flagger*: `iterations: 10`, `threshold: 5`, on the absolute
bounds. *Kayenta*: NetflixACAJudge every 10 minutes on all minutes so far, pass 95, marginal 75; *effect*: with
`allowedIncrease` 1.5, 1.1 and 1.1. Each is written from its documentation and source, which `benchmarks/rivals.py`
names, and tested against them.

**Which is fair to whom.** The others decide on a minute's figure as if it were the truth; they state no error
level, so that none can be asked for. Argo's and Flagger's analyses are over after 10 minutes: they promote earlier,
and see nothing of what happens later. This project's gates promise 5% at the most however often one looks, and only
stop early for that.
"""

FALSE = """\
## False aborts

Candidates within their tolerances: the share that each rule stops. This is what the promise of 5% is about, also
exactly at the tolerance. Requests a minute are the candidate's. Errors in clusters are the exception to the promise:
it holds for requests that fail one by one, and is kept up for clusters by dividing counts by stable's index of
dispersion, which nobody knows in the first minutes.
"""

PROMOTED = """\
## Time to promote

The same candidates: the share let through within the hour, and the median minutes until then. A rule that lets the
candidates *at the tolerance* through proves nothing by it; to let few of them through is right. A held stage lasts
its hour all the same: the minutes are when it had its proof.
"""

CAUGHT = """\
## Regressions caught

The share stopped; the candidate's requests before that, median and 95th percentile of those stopped. Where the
candidate turns bad later, requests count from then on, and an analysis that is over by then has caught nothing.
"""

EXPOSED = """\
## Bad answers that users saw

In the same rollouts: the candidate's errors before the stop (answers above 500 ms where only latency is bad),
median and 95th percentile.
"""

TWINS = """\
## Mirrored traffic

A shadow step whose requests are joined with their live twins, one gate: at most 0.1% more errors than stable. Four
in five of stable's errors are the request's fault, so that both answer it badly. Users see none of it. Cells: the
share stopped, the median requests before that; where nothing changed the share passed and the minutes until then.
"""

BETTER = """\
## Where a rival is better

Situations in which a rule stops as many and needs fewer requests, with what that rule does to candidates that are
fine; and those in which it stops fewer candidates that are fine.
"""

LIMITS = """\
## What cannot be closed

A rule that stops at most a share *level* of the candidates that are fine needs, to stop a bad one, on average at
least log(1/level) over the information that a request carries (Wald). For a rule that knew beforehand what it looks
for:
"""

TRIED = """\
## What was tried and what it gained

Two spots were weak: regressions just past the tolerance, and low traffic. Each line changes one thing of the first
one (the last five lines: more), on the same {rollouts:,} rollouts of each situation. Cells: the share stopped and
the median of the candidate's requests before that over all rollouts, counted from the minute in which it turns bad;
for candidates that are fine the share stopped.
"""

REASONS = """\
Each is valid for the same reason: a mixture of test martingales, with weights that do not look ahead, is a test
martingale under every distribution within the tolerance, so that it reaches 1/alpha with a probability of at most
alpha, whenever one looks.

- **Weights 1/m.** An alternative of weight w costs log(1/w) more evidence. That is many requests where a request
  tells little, at small multiples m, and few where it tells much: what a small regression gains in hundreds, a clear
  one at 6 requests a minute pays in single ones. Steeper weights gain little more and cost more.
- **More, fewer or finer alternatives** only move the cost about. An alternative between two of the grid's loses 3%
  of the growth of its neighbour.
- **One alternative that is learnt** pays for its first, wrong guesses what a mixture pays for its breadth, and is
  slower to see 10%.
- **Weights within a group.** Five terms cost log 5, a third of the evidence that is needed. Errors weighing twice
  is quicker for errors, and costs latencies little, because a request tells more of them. It was left out: a plan
  that wants it can say so itself, by gates with an alpha of their own.
- **The kernel** of the comparison is not the place. At its best multiple it grows as fast as the best bet that any
  rule could make against the whole tolerance, to three digits (0.000547 a request at 0.5 -> 1.2%).
- **The excuse** of an absolute bound, the smaller of two bets, is what a hypothesis of the form "within the bound
  *or* no worse than stable" allows: no bet against it can be larger than either. It grows with the slower of the
  two.
- **Dispersion.** Dividing by an index that is only estimated costs some 5% of the requests where nothing came in
  clusters; an index that counts only beyond the 90% quantile of chance gives most of it back. Nearly all false aborts
  of clusters happen before the index is known. Three minutes are enough to know most of it, and then what was won
  until then is divided, too (what was lost is not, so that no bet gains by it). What is left happens in the first
  minutes, and goes where an earlier step, such as a shadow step, has seen stable for a while. Halving all counts until
  then would cost more than it saves.
- **A reserve.** A regression that begins within a stage has to win back what the bets lost while all was well: 16
  minutes of it. A fifth of the stake therefore enters bit by bit, half of it within 20 minutes, the rest ever more
  slowly. It has to wait for the dispersion: fresh stakes meet every cluster undivided.
- **Restarting the bets whenever they are low** (Shiryaev-Roberts, CUSUM) is faster still, and was not tried: such
  sums grow without bound while all is well, and promise an average run, not a share of false aborts.
- **Pairs** are another source of evidence, not another way to spend it: what both sides share cancels out. They help
  most where the difference is small and in proving that there is none; see above. Where it is large the mixture of
  both, with pairs and without, costs log 2.
"""
PASSED = """\
The side of PASS was left as it is. Weights that favour the alternatives near the tolerance prove sooner what is as good
as stable, and later what has no errors at all, which is what little traffic looks like. Cells, for the gate of errors
alone: the share that has passed within the hour, and the median minutes until then where half of all have.
"""


def markdown(
    seed: int,
    rollouts: int,
    compared: Compared,
    twins: Compared,
    tried: Mapping[str, Mapping[str, Trial]],
    proven: Mapping[str, Mapping[str, Trial]],
) -> str:
    """The page."""
    command = f".venv/bin/python benchmarks/gates.py --seed {seed} --rollouts {rollouts} --write"
    fine = {scenario: row for scenario, row in compared.items() if not scenario.harmful}
    bad = {scenario: row for scenario, row in compared.items() if scenario.harmful}
    parts = [
        INTRODUCTION.format(command=command, rollouts=rollouts),
        FALSE,
        _by_rule(fine, lambda o: f"{_percent(o.stopped)}"),
        PROMOTED,
        _by_rule(fine, _promotion),
        CAUGHT,
        _by_rule(bad, lambda o: _stop(o.stopped, o.requests)),
        EXPOSED,
        _by_rule(bad, lambda o: _stop(None, o.bad) if o.stopped else "-"),
        TWINS,
        _by_rule(twins, _twin),
        BETTER,
        _better(fine, bad),
        LIMITS,
        _limits(bad),
    ]
    if tried:
        parts += [TRIED.format(rollouts=rollouts // 2), _tried(tried), REASONS, PASSED, _proven(proven)]
    return "\n".join(part.rstrip() + "\n" for part in parts)


def _by_rule(rows: Compared, cell: Callable[[Outcome], str]) -> str:
    rules = list(next(iter(rows.values())))
    lines = [[f"{_place(scenario)}", *(cell(row[rule]) for rule in rules)] for scenario, row in rows.items()]
    return _table(["a minute, situation", *rules], lines)


def _place(scenario: Scenario) -> str:
    return f"{scenario.per_minute}, {scenario.name}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%" if 0 < share < 0.0995 else f"{100 * share:.0f}%"


def _promotion(seen: Outcome) -> str:
    return f"{_percent(seen.promoted)}, {seen.minutes:.0f} min" if seen.promoted else "0%"


def _stop(share: float | None, figures: tuple[float, float]) -> str:
    if isnan(figures[0]):
        return "0%"
    text = f"{figures[0]:,.0f} ({figures[1]:,.0f})"
    return text if share is None else f"{_percent(share)}: {text}"


def _twin(seen: Outcome) -> str:
    return f"{_percent(seen.stopped)}: {seen.requests[0]:,.0f}" if seen.stopped > 0.1 else f"passed {_promotion(seen)}"


def _better(fine: Compared, bad: Compared) -> str:
    lines = []
    for scenario, row in bad.items():
        ours = row["this"]
        for rule, theirs in row.items():
            if rule == "this" or theirs.stopped < ours.stopped - 0.02 or not theirs.requests[0] < ours.requests[0]:
                continue
            costs = [
                f"{_percent(other[rule].stopped)} of *{harmless.name}*"
                for harmless, other in fine.items()
                if harmless.per_minute == scenario.per_minute and other[rule].stopped > 0.05
            ]
            price = f"; it also stops {', '.join(costs)}" if costs else ""
            figures = f"{theirs.requests[0]:,.0f} requests, this {ours.requests[0]:,.0f}"
            lines.append(f"- {_place(scenario)}: **{rule}** {figures}{price}.")
    for scenario, row in fine.items():
        mine = row["this"].stopped
        calmer = [
            f"**{rule}** {_percent(seen.stopped)}"
            for rule, seen in row.items()
            if rule != "this" and seen.stopped < mine - 0.02
        ]
        if calmer:
            lines.append(f"- {_place(scenario)}: stopped wrongly by this {_percent(mine)}, by {', '.join(calmer)}.")
    lines.append(
        "- Promotion in 10 minutes whatever the traffic: Argo and Flagger, which need no proof for it. This needs one,"
        " and at 60 requests a minute most rollouts have none within the hour: they end undecided."
    )
    return "\n".join(lines)


def _limits(bad: Compared) -> str:
    lines = []
    for scenario, row in bad.items():
        if scenario.errors == scenario.stable_errors or scenario.since or scenario.drift > 1 or scenario.cluster > 1:
            continue
        argo = row["Argo"]
        lines.append(
            [
                _place(scenario),
                *(f"{fewest_requests(scenario, level):,.0f}" for level in (0.26, 0.05, 0.01)),
                f"{row['this'].requests[0]:,.0f}",
                f"{argo.requests[0]:,.0f}",
            ]
        )
    note = (
        "5% shared by five terms is 1% for each: that column is what *this* is to be held against. A rule that is below"
        " the column of 5% has paid for it with false aborts: see above what it stops at the same traffic."
    )
    return (
        _table(["a minute, situation", "level 26%", "level 5%", "level 1%", "this, median", "Argo, median"], lines)
        + f"\n\n{note}"
    )


def _tried(tried: Mapping[str, Mapping[str, Trial]]) -> str:
    lines = []
    for name, row in tried.items():
        cells = []
        for title, seen in row.items():
            if not LOOKED_AT[title].harmful:
                cells.append(_percent(seen.stopped))
            elif isinf(seen.requests):
                cells.append(f"{_percent(seen.stopped)}: -")
            else:
                cells.append(f"{_percent(seen.stopped)}: {seen.requests:,.0f}")
        lines.append([name, *cells])
    return _table(["", *LOOKED_AT], lines)


def _proven(proven: Mapping[str, Mapping[str, Trial]]) -> str:
    lines = [
        [name, *("-" if isinf(t.requests) and not t.stopped else _proof(t) for t in row.values())]
        for name, row in proven.items()
    ]
    return _table(["", *PROVEN], lines)


def _proof(seen: Trial) -> str:
    return _percent(seen.stopped) if isinf(seen.requests) else f"{_percent(seen.stopped)}, {seen.requests:.0f} min"


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---", *("--:" for _ in head[1:])], *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
