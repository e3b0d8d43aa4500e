"""`rollout endpoint traffic`: share the live requests among deployments by hand, beside any rollout.

What a rollout proves step by step is done here at once on a human's word, so the human sees before and after, and the
same rules hold: the whole split or none of it, nothing without healthy instances, live or mirrored but not both.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from orchestrator.cli import completing, options
from orchestrator.cli.at_provider import NAME, PROVIDER, agreed, deployment, existing, pairs, unowned, with_provider
from orchestrator.cli.main import INTERRUPTED, SUCCEEDED

if TYPE_CHECKING:
    from orchestrator.app import App
    from providers.actions import SetTraffic
    from providers.base import Capabilities, EndpointState, Provider

WHOLE = 1000
"""All of the live traffic, in tenths of a percent."""
WITHOUT_TRAFFIC = 404
"""Status that clients get from an endpoint without live traffic: of the local provider's routes, and of Azure's."""
PATIENCE = 10.0
"""Seconds until the provider shows what it said was done."""


@dataclass(frozen=True, slots=True)
class Wish:
    """The split that was asked for: deployment -> tenths of a percent; live shares may be zero."""

    traffic: Mapping[str, int]
    mirror: Mapping[str, int]

    @property
    def live(self) -> Mapping[str, int]:
        """Only those who get something."""
        return {name: share for name, share in self.traffic.items() if share}


@click.command(
    "traffic",
    short_help="Share live traffic among deployments.",
    epilog=options.example(
        "rollout endpoint traffic diabetes blue=90 green=10",
        "rollout endpoint traffic diabetes blue=100% --mirror green=10%",
        "rollout endpoint traffic diabetes blue=100 --yes --output json",
    ),
)
@NAME
@click.argument("shares", metavar="DEPLOYMENT=PERCENT...", nargs=-1, shell_complete=completing.deployments_with_sign)
@click.option(
    "--mirror",
    "mirrored",
    metavar="DEPLOYMENT=PERCENT",
    multiple=True,
    shell_complete=completing.deployments_with_sign,
    help="Copy this share of the live requests to it as well; without this, nothing is mirrored afterwards.",
)
@click.option("--yes", is_flag=True, help="Do not ask; needed where nothing would get traffic.")
@click.option("--force", is_flag=True, help="Give traffic also to a deployment with instances that are not healthy.")
@PROVIDER
@options.output()
def traffic_command(
    name: str,
    shares: tuple[str, ...],
    mirrored: tuple[str, ...],
    yes: bool,
    force: bool,
    provider: str,
    output: str,
) -> int:
    """Share the live traffic of ENDPOINT among its deployments, exactly so: who is not named gets nothing.

    The shares sum to 100, or to 0 for no traffic at all; 90, 90% and 0.5% are understood. Shows before and after, and
    asks. Refused while a rollout owns the endpoint.
    """
    wish = Wish(_shares(shares), {name: share for name, share in _shares(mirrored).items() if share})

    async def work(app: "App", world: "Provider") -> int:
        from orchestrator.cli.session import warn

        state = await existing(world, name)
        await unowned(app, world, name, state)
        if not shares:
            raise click.UsageError(f"say who gets what, all of it. {_example(state)}", click.get_current_context())
        _check_split(wish, state, world.capabilities(state))
        if not force:
            _check_health(wish, state)
        if _same(state, wish):
            return _tell(state, state, output)
        if not wish.live and not yes:
            _refuse_nothing(name)
        change = _change(state, wish)
        if output != "json":
            click.echo(change)
        if not wish.live:
            warn(f"clients of {name} get status {WITHOUT_TRAFFIC} from now on, until a deployment gets traffic again")
        if not yes:
            if not agreed("Change it?" if output != "json" else f"{change}\nChange it?"):
                warn("nothing was changed")
                return INTERRUPTED
            _check_meanwhile(state, await existing(world, name))
        return _tell(state, await _carry_out(app, world, state, wish), output)

    return with_provider(provider, work)


def _shares(given: tuple[str, ...]) -> dict[str, int]:
    """`blue=90%` and so on -> {"blue": 900}. Raises click.UsageError."""
    from plans.units import parse_share

    found: dict[str, int] = {}
    for name, text in pairs(given, "PERCENT", "blue=90%").items():
        try:
            found[name] = int(parse_share(text if text.endswith("%") else f"{text}%"))  # type: ignore[call-overload]
        except ValueError as error:
            raise click.UsageError(f"{name}: {error}", click.get_current_context()) from None
    return found


def _example(state: "EndpointState") -> str:
    from plans.units import show_share

    first = next(iter(sorted(state.deployments)), "blue")
    words = [f"{name}={show_share(share)}" for name, share in sorted(state.traffic.items())] or [f"{first}=100%"]
    words += [f"--mirror {name}={show_share(share)}" for name, share in sorted(state.mirror.items())]
    return f"{'As it is now' if state.traffic else 'Such as'}: rollout endpoint traffic {state.name} {' '.join(words)}"


def _check_split(wish: Wish, state: "EndpointState", can: "Capabilities") -> None:
    """Raises UsageError for a split that this endpoint cannot have, whatever its health."""
    from orchestrator.errors import UsageError
    from plans.units import show_share

    for name in (*wish.traffic, *wish.mirror):
        deployment(state, name)
    total = sum(wish.traffic.values())
    if total not in (0, WHOLE):
        parts = " + ".join(show_share(share) for share in wish.traffic.values())
        raise UsageError(
            f"the shares sum to {show_share(total)}{f' ({parts})' if len(wish.traffic) > 1 else ''}: they must sum to "
            "100%, or to 0% for no traffic at all; name every deployment that gets some"
        )
    for name, share in (*wish.traffic.items(), *wish.mirror.items()):
        if share % can.weight_step:
            raise UsageError(f"{name}={show_share(share)}: shares go in steps of {show_share(can.weight_step)} here")
    if wish.mirror and not can.mirror_limit:
        raise UsageError(f"endpoint {state.name} cannot mirror traffic: leave out --mirror")
    if len(wish.mirror) > can.mirror_targets:
        most = "one deployment" if can.mirror_targets == 1 else f"{can.mirror_targets} deployments"
        raise UsageError(f"--mirror names {' and '.join(wish.mirror)}: traffic can be mirrored to {most} at a time")
    for name, share in wish.mirror.items():
        if share > can.mirror_limit:
            raise UsageError(
                f"--mirror {name}={show_share(share)}: at most {show_share(can.mirror_limit)} can be mirrored here"
            )
        if can.live_xor_mirror and wish.live.get(name):
            raise UsageError(f"{name} cannot have live and mirrored traffic together: give it one of them")
    if wish.mirror and not wish.live:
        raise UsageError("without live traffic there is nothing to mirror: leave out --mirror")


def _check_health(wish: Wish, state: "EndpointState") -> None:
    from orchestrator.errors import UsageError

    for name in (*wish.live, *wish.mirror):
        there = state.deployments[name]
        if there.healthy < there.desired or not there.desired:
            why = f" ({there.problem.splitlines()[0]})" if there.problem else ""
            raise UsageError(
                f"{name} has {there.healthy} of {there.desired} instances healthy{why}, so it gets no traffic: wait "
                "until it is, or add --force"
            )


def _refuse_nothing(name: str) -> None:
    from orchestrator.errors import UsageError

    raise UsageError(
        f"this takes all live traffic from {name}: its clients would get status {WITHOUT_TRAFFIC}; add --yes if that "
        "is meant"
    )


def _check_meanwhile(shown: "EndpointState", found: "EndpointState") -> None:
    from orchestrator.errors import UsageError

    if (found.traffic, found.mirror) != (shown.traffic, shown.mirror):
        raise UsageError(
            f"the traffic of {found.name} was changed meanwhile, to {_split(found.traffic, found.mirror)}; nothing was "
            "done: look, and ask again"
        )


async def _carry_out(app: "App", world: "Provider", state: "EndpointState", wish: Wish) -> "EndpointState":
    """Make it so, and see that it is so; the endpoint as it then stands. Raises Temporary when it is not."""
    import asyncio

    from orchestrator.app import carry_out
    from providers.errors import Temporary

    for action in steps(state, wish, world.capabilities(state)):
        await carry_out(app, world, action)
    found = state
    try:
        async with asyncio.timeout(PATIENCE):
            while not _same(found := await existing(world, state.name), wish):  # noqa: ASYNC110 - nothing rings a bell
                await asyncio.sleep(0.2)
    except TimeoutError:
        raise Temporary(
            f"{state.name} was to have {_split(wish.live, wish.mirror)}, and has "
            f"{_split(found.traffic, found.mirror)}: see rollout endpoint show {state.name}"
        ) from None
    return found


def steps(state: "EndpointState", wish: Wish, can: "Capabilities") -> "tuple[SetTraffic, ...]":
    """The changes that lead to the wish, in order: the mirror is cleared first where it would be in the way."""
    from providers.actions import SetTraffic

    live, mirror = dict(wish.live), dict(wish.mirror)
    last = SetTraffic(state.name, live, mirror)
    moved = live != dict(state.traffic)
    crossing = can.live_xor_mirror and any(live.get(name) for name in state.mirror)
    found: list[SetTraffic] = []
    if state.mirror and moved and (crossing or not can.atomic_shift):
        found.append(SetTraffic(state.name, dict(state.traffic), {}))
    if moved and mirror and not can.atomic_shift:
        found.append(SetTraffic(state.name, live, {}))
    return (*found, last)


def _same(state: "EndpointState", wish: Wish) -> bool:
    from orchestrator.reconcile import same

    return same(state.traffic, wish.live) and same(state.mirror, wish.mirror)


def _split(traffic: Mapping[str, int], mirror: Mapping[str, int]) -> str:
    from plans.units import show_split

    return show_split(traffic, empty="no live traffic") + (f", mirror {show_split(mirror)}" if mirror else "")


def _change(state: "EndpointState", wish: Wish) -> str:
    from plans.units import show_split

    lines = [state.name, f"  traffic  {show_split(state.traffic)}  ->  {show_split(wish.live)}"]
    if state.mirror or wish.mirror:
        lines.append(f"  mirror   {show_split(state.mirror)}  ->  {show_split(wish.mirror)}")
    return "\n".join(lines)


def _tell(before: "EndpointState", after: "EndpointState", output: str) -> int:
    from orchestrator.cli.session import show_json
    from orchestrator.views import percents

    changed = (before.traffic, before.mirror) != (after.traffic, after.mirror)
    if output == "json":
        sides = {
            when: {"traffic": percents(state.traffic), "mirror": percents(state.mirror)}
            for when, state in (("before", before), ("after", after))
        }
        show_json({"endpoint": after.name, "changed": changed, **sides})
    else:
        click.echo(f"{after.name} {'has' if changed else 'already has'} {_split(after.traffic, after.mirror)}")
    return SUCCEEDED
