"""`rollout load`: send synthetic traffic to an endpoint, and say what came of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

import click

from orchestrator.cli import completing, options
from orchestrator.cli.at_provider import NAME, PROVIDER, able, deployment, existing, with_provider
from orchestrator.cli.main import INTERRUPTED, SUCCEEDED, TRY_AGAIN

if TYPE_CHECKING:
    import asyncio

    from orchestrator.app import App
    from orchestrator.cli.sending import Order, Tally
    from providers.base import Provider

QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
REDRAWN = 0.25
"""Seconds between looks at how far it is on a terminal, where one line is written again and again."""
RETOLD, RARELY = 1.0, 60.0
"""Elsewhere: seconds until the first line; each further one takes twice as long as the one before, up to a minute."""


@click.command(
    "load",
    epilog=options.example(
        "rollout load diabetes --request sample-request.json --rate 20/s --for 30s",
        "rollout load diabetes --request sample-request.json --rate 5/s --count 100 --deployment green",
        "rollout load diabetes --request sample-request.json --rate 200/s --for 1h --output json | jq .latency_us",
    ),
)
@NAME
@click.option(
    "--request",
    "body",
    type=click.File("rb", lazy=True),
    required=True,
    help="File with each request's body; - reads stdin.",
)
@click.option("--rate", metavar="RATE", required=True, help="Requests to send: 20/s, 600/m.")
@click.option("--for", "lasting", metavar="DURATION", help="How long: 30s, 10m, 2h.")
@click.option("--count", type=click.IntRange(1), help="How many at most.")
@click.option(
    "--deployment",
    metavar="NAME",
    shell_complete=completing.deployments,
    help="Ask this one directly, whatever its traffic.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, 256),
    default=64,
    show_default=True,
    help="Requests that may wait for their answer at a time; what is due beyond that is left out, and counted.",
)
@click.option(
    "--timeout", type=click.FloatRange(0.1, 600), default=60.0, show_default=True, help="Seconds to wait for an answer."
)
@PROVIDER
@options.output()
def load_command(
    name: str,
    body: IO[bytes],
    rate: str,
    lasting: str | None,
    count: int | None,
    deployment: str | None,
    concurrency: int,
    timeout: float,
    provider: str,
    output: str,
) -> int:
    """Send synthetic traffic to ENDPOINT with its key, at a steady rate, for as long as --for or --count says.

    Slow answers do not slow the sending down: the rate that was achieved is told beside the one that was asked for.
    Ctrl-C ends it, with the summary so far. Exit code 0 when every answer was 2xx, else 3.
    """
    from orchestrator.cli.sending import Order

    if lasting is None and count is None:
        raise click.UsageError("say when to stop: --for 30s, or --count 100, or both", click.get_current_context())
    order = Order(_rate(rate), _seconds(lasting), count, concurrency, timeout, deployment)
    with body:
        text = body.read()

    async def work(_: "App", world: "Provider") -> int:
        return await _load(world, name, text, order, output)

    return with_provider(provider, work)


def _rate(text: str) -> float:
    from plans.units import parse_frequency

    try:
        rate: Any = parse_frequency(f"{text}/s" if text.strip().isdigit() else text)
    except ValueError as error:
        raise click.UsageError(f"--rate: {error}", click.get_current_context()) from None
    return float(rate)


def _seconds(text: str | None) -> float | None:
    from plans.units import parse_duration

    if text is None:
        return None
    try:
        seconds: Any = parse_duration(text)
    except ValueError as error:
        raise click.UsageError(f"--for: {error}", click.get_current_context()) from None
    if not seconds:
        raise click.UsageError("--for 0 is no time at all: write 30s, 10m or 2h", click.get_current_context())
    return float(seconds)


async def _load(world: "Provider", name: str, body: bytes, order: "Order", output: str) -> int:
    import asyncio

    from orchestrator.cli.sending import Tally, send
    from orchestrator.cli.session import show_json, warn
    from providers.base import Invokes, Request

    caller = able(world, Invokes, "send requests")
    state = await existing(world, name)
    if order.deployment is not None:
        deployment(state, order.deployment)
    tally, stop = Tally(), asyncio.Event()
    with _interruptible(stop):
        telling = asyncio.create_task(_progress(tally, order))
        try:
            await send(caller, name, Request(body=body), order, tally, stop)
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
    if output == "json":
        show_json(_as_json(name, order, tally, interrupted=stop.is_set()))
    else:
        click.echo(summary(name, order, tally))
    if stop.is_set():
        return INTERRUPTED
    if tally.failed or tally.broken:
        warn(f"rollout: {_complaint(name, tally)}")
        return TRY_AGAIN
    return SUCCEEDED


@contextmanager
def _interruptible(stop: "asyncio.Event") -> Iterator[None]:
    """Ctrl-C sets `stop` meanwhile."""
    import asyncio
    import signal

    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def _progress(tally: "Tally", order: "Order") -> None:
    """Tell how far it is on stderr, until cancelled."""
    import asyncio
    import shutil
    import sys

    from rich.console import Console

    on_terminal = sys.stderr.isatty() and not Console(stderr=True).is_dumb_terminal
    try:
        pause = REDRAWN if on_terminal else RETOLD
        while True:
            await asyncio.sleep(pause)
            line = progress(order, tally)
            if on_terminal:
                width = shutil.get_terminal_size().columns - 1
                click.echo(f"\r{line[:width]:<{width}}", err=True, nl=False)
            else:
                click.echo(line, err=True)
                pause = min(2 * pause, RARELY)
    finally:
        if on_terminal:
            click.echo("\r" + " " * (shutil.get_terminal_size().columns - 1) + "\r", err=True, nl=False)


def progress(order: "Order", tally: "Tally") -> str:
    """One line: how far it is."""
    from plans.units import show_duration, show_frequency

    time = show_duration(round(tally.elapsed))
    time += f" of {show_duration(order.seconds)}" if order.seconds is not None else ""
    sent = f"{tally.sent} of {order.count} sent" if order.count is not None else f"{tally.sent} sent"
    parts = [f"{time}: {sent} ({show_frequency(tally.rate) if tally.sent else '0/s'})", _statuses(tally)]
    parts += [f"{tally.under_way} under way"] if tally.under_way else []
    parts += [f"{tally.full + tally.late} left out"] if tally.full + tally.late else []
    return ", ".join(part for part in parts if part)


def summary(name: str, order: "Order", tally: "Tally") -> str:
    """A few lines: what was sent, and what came of it."""
    from plans.units import show_duration, show_frequency, show_latency, write_frequency

    took = show_duration(round(tally.elapsed, 1) if tally.elapsed < 10 else round(tally.elapsed))
    requests = f"{tally.sent} request" + ("s" if tally.sent != 1 else "")
    head = f"sent {requests} to {name} in {took}"
    if tally.sent:
        asked = write_frequency(order.rate)
        on_time = tally.rate >= 0.98 * order.rate
        head += f": {asked}, as asked" if on_time else f": {show_frequency(tally.rate)} of the {asked} asked for"
    lines = [head]
    waiting = f"{order.at_once} requests were" if order.at_once > 1 else "a request was"
    for count, why in (
        (tally.full, f"{waiting} waiting for an answer (--concurrency allows more)"),
        (tally.late, "this process could not send them in time"),
    ):
        if count:
            lines.append(f"  left out    {count}: {why}")
    if tally.statuses or tally.unanswered:
        lines.append(f"  status      {_statuses(tally)}")
    if tally.cut_off:
        lines.append(f"  cut off     {tally.cut_off} that were still waiting for their answers")
    if tally.answers:
        shares = [
            f"{who}: {count}" + (f" ({tally.bad[who]} not 2xx)" if tally.bad[who] else "")
            for who, count in sorted(tally.answers.items())
        ]
        lines.append(f"  deployment  {', '.join(shares)}")
        found = [(label, tally.latencies.quantile(quantile)) for label, quantile in QUANTILES.items()]
        lines.append(
            "  latency     " + ", ".join(f"{label} {show_latency(us)}" for label, us in found if us is not None)
        )
    return "\n".join(lines)


def _statuses(tally: "Tally") -> str:
    parts = [f"{status}: {count}" for status, count in sorted(tally.statuses.items())]
    parts += [f"no answer: {tally.unanswered}"] if tally.unanswered else []
    return ", ".join(parts)


def _complaint(name: str, tally: "Tally") -> str:
    """Why this is not a success."""
    if tally.broken is not None:
        return f"sending ended early: {tally.broken}"
    known = tally.failed + tally.good
    first = f"{tally.failed} of {known} requests to {name} were not answered with 2xx ({_statuses(tally)})"
    return first + (f"; the last one without an answer: {tally.problem}" if tally.problem else "")


def _as_json(name: str, order: "Order", tally: "Tally", *, interrupted: bool) -> dict[str, Any]:
    return {
        "endpoint": name,
        "deployment": order.deployment,
        "asked": {"rate": order.rate, "seconds": order.seconds, "count": order.count, "concurrency": order.at_once},
        "seconds": round(tally.elapsed, 3),
        "rate": round(tally.rate, 3),
        "sent": tally.sent,
        "left_out": {"full": tally.full, "late": tally.late},
        "statuses": {str(status): count for status, count in sorted(tally.statuses.items())},
        "no_answer": tally.unanswered,
        "cut_off": tally.cut_off,
        "deployments": {who: {"answers": count, "bad": tally.bad[who]} for who, count in sorted(tally.answers.items())},
        "latency_us": {label: tally.latencies.quantile(quantile) for label, quantile in QUANTILES.items()},
        "interrupted": interrupted,
        "problem": tally.broken or tally.problem,
    }
