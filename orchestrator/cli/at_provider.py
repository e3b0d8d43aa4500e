"""What the commands that work on an endpoint directly have in common: its provider, opened by name, and refusals.

They work beside any rollout, so whatever would get in the way of one that owns the endpoint is refused here, in the
same words everywhere, before anything is asked of the user or of the provider.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli import completing
from orchestrator.cli.main import known_or_option

if TYPE_CHECKING:
    from orchestrator.app import App
    from providers.base import DeploymentState, EndpointState, Provider

PROVIDER = click.option("--provider", default="local", show_default=True, metavar="NAME", help="Where the endpoint is.")
NAME = click.argument("name", metavar="ENDPOINT", shell_complete=completing.endpoints)


class Commands(click.Group):
    """A group that answers a misspelled command with the one that is meant."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known_or_option(ctx, args[0], self.list_commands(ctx))
        return super().resolve_command(ctx, args)


def with_provider(provider: str, work: "Callable[[App, Provider], Awaitable[int]]") -> int:
    """Run the work with the provider of that name open; returns the exit code."""
    from orchestrator import app as use_cases
    from orchestrator.cli.session import within

    async def session(app: "App") -> int:
        world = use_cases.provider_of(app, name=provider)
        try:
            return await work(app, world)
        finally:
            await world.aclose()

    return within(session)


async def existing(world: "Provider", name: str) -> "EndpointState":
    """The endpoint. Raises UsageError when there is none, with the name that was probably meant."""
    from orchestrator.errors import UsageError
    from plans.errors import did_you_mean

    state = await world.observe(name)
    if state is None:
        meant = did_you_mean(name, completing.endpoint_names()) if world.name == "local" else None
        makes = "`rollout endpoint create FILE` makes one, or a plan with `endpoint: {file: ...}`"
        raise UsageError(f"there is no endpoint {name} at {world.name}; {meant or makes}")
    return state


def able(world: Any, protocol: Any, what: str) -> Any:
    """The provider, which has that protocol. Raises Unsupported."""
    from providers.errors import Unsupported

    if not isinstance(world, protocol):
        raise Unsupported(f"the provider {world.name} cannot {what}")
    return world


async def unowned(app: "App", world: "Provider", name: str, state: "EndpointState | None") -> None:
    """Raises UsageError when somebody else would be disturbed by a change: a rollout, of this store or of another."""
    from orchestrator.app import owner_of
    from orchestrator.errors import UsageError

    owner = await owner_of(app, world.identity(name))
    if owner is not None:
        raise UsageError(
            f"rollout {owner.id} owns endpoint {name} ({owner.phase.replace('_', ' ')}): "
            f"let it end, or rollout abort {owner.id}"
        )
    claim = state.claim if state is not None else None
    if claim is not None and claim.store != app.store.id:
        raise UsageError(
            f"endpoint {name} is claimed by rollout {claim.rollout} of another store: let it end there (ROLLOUT_HOME "
            "and ROLLOUT_STORE say which store is used)"
        )


def deployment(state: "EndpointState", name: str) -> "DeploymentState":
    """One of the endpoint's deployments. Raises UsageError when there is none, with those that there are."""
    from orchestrator.errors import UsageError
    from plans.errors import did_you_mean, listed

    if not state.deployments:
        raise UsageError(f"endpoint {state.name} has no deployment yet: a rollout brings one")
    if name not in state.deployments:
        there = f"there is {listed(sorted(state.deployments))}"
        raise UsageError(
            f"endpoint {state.name} has no deployment {name}; {did_you_mean(name, state.deployments) or there}"
        )
    return state.deployments[name]


def pairs(given: tuple[str, ...], what: str, example: str) -> Mapping[str, str]:
    """`blue=2` and so on -> {"blue": "2"}.

    Args:
        given: as typed. what: stands right of the sign, such as COUNT. example: of one pair.

    Raises:
        click.UsageError: one is no pair, or a deployment is named twice.
    """
    found: dict[str, str] = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not name or not sign or not value:
            raise click.UsageError(
                f"`{text}` is not DEPLOYMENT={what}: write it without spaces, such as {example}",
                click.get_current_context(),
            )
        if set(value) & set(",;= "):
            raise click.UsageError(
                f"`{text}` names more than one: write one word for each deployment, such as {example} and so on",
                click.get_current_context(),
            )
        if name in found:
            raise click.UsageError(f"{name} is given twice: say once what it gets", click.get_current_context())
        found[name] = value
    return found


def agreed(question: str) -> bool:
    """Ask, on stderr, so that stdout stays free for programs. Raises UsageError when nobody is there to answer."""
    import signal
    import sys

    from orchestrator.errors import UsageError

    # In a running loop Ctrl-C cancels the task that waits here, which would go on waiting for an answer.
    cancels = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return click.confirm(question, err=True)
    except click.Abort:
        if sys.stdin.isatty():
            raise
        click.echo(err=True)
        raise UsageError("nobody is there to be asked, so nothing was done: add --yes to agree beforehand") from None
    finally:
        signal.signal(signal.SIGINT, cancels)


def healthy(state: "EndpointState") -> bool:
    """Whether everything that shall run does."""
    full = all(each.healthy >= each.desired for each in state.deployments.values())
    return full and state.problem is None


def at(provider: str) -> str:
    """What a command line needs to name the provider again."""
    return "" if provider == "local" else f" --provider {provider}"


def as_json(state: "EndpointState", owner: str | None) -> dict[str, Any]:
    """An endpoint for programs: shares are percent."""
    from orchestrator.views import percents

    return {
        "name": state.name,
        "url": state.url,
        "traffic": percents(state.traffic),
        "mirror": percents(state.mirror),
        "deployments": dict(sorted(state.deployments.items())),
        "busy": state.busy,
        "problem": state.problem,
        "claim": state.claim,
        "rollout": owner,
    }
