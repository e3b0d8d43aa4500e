"""What the TAB key offers: rollouts, plan files, endpoints of this machine, their deployments.

Whoever presses TAB is in the middle of a line, so this is quick, prints nothing and makes nothing, whatever is wrong:
it reads the default store's file and the local provider's directories themselves, instead of opening either, and an
error is an empty answer.
"""

import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from orchestrator.settings import Settings

Offer = list[CompletionItem]
Completer = Callable[[click.Context, click.Parameter, str], Offer]

PLANS = (".yml", ".yaml")
SQLITE = "sqlite:///"
NEWEST = 500
"""Rollouts that are looked at."""
OFFERED = 30
"""Rollouts that are offered."""
ACTIVE = ("pending", "running", "paused", "rolling_back")
ACTING = ("pause", "abort", "approve", "resume")
"""Commands that have nothing to do with a rollout that has ended."""


def _silently(find: Completer) -> Completer:
    @functools.wraps(find)
    def found(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> Offer:
        try:
            return find(ctx, parameter, incomplete)
        except Exception:  # noqa: BLE001 - an error message would land in the middle of what is being typed
            return []

    return found


@_silently
def rollouts(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> Offer:  # noqa: ARG001 - click's
    """Names and ids, the newest first; for commands that act only of rollouts that have not ended."""
    found: dict[str, str] = {}
    for rollout, name, phase in _newest():
        if ctx.info_name in ACTING and phase not in ACTIVE:
            continue
        found.setdefault(name, "the newest of that name")
        found[rollout] = phase.replace("_", " ")
    fitting = [(value, why) for value, why in found.items() if value.startswith(incomplete)]
    return [CompletionItem(value, help=why) for value, why in fitting[:OFFERED]]


@_silently
def names(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> Offer:  # noqa: ARG001 - click's
    """Names of rollouts."""
    known = dict.fromkeys(name for _, name, _ in _newest())
    return [CompletionItem(name) for name in known if name.startswith(incomplete)]


@_silently
def plans(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> Offer:  # noqa: ARG001 - click's
    """Files in YAML, and folders to look into."""
    folder, _, begun = incomplete.rpartition("/")
    typed = incomplete[: len(incomplete) - len(begun)]
    found = []
    with os.scandir(Path(folder + "/").expanduser() if typed else Path()) as entries:
        for entry in entries:
            if not entry.name.startswith(begun) or (entry.name.startswith(".") and not begun):
                continue
            if entry.is_dir():
                found.append(f"{typed}{entry.name}/")
            elif entry.name.endswith(PLANS):
                found.append(f"{typed}{entry.name}")
    # Shells take what is offered as one word a line, unquoted: they know better how to write other names.
    if any(not name.isprintable() or set(name) & set(" \t\"'\\$`,;&|<>()*?[]{}!#:") for name in found):
        return [CompletionItem(incomplete, type="file")]
    return [CompletionItem(name) for name in sorted(found)]


def plans_and_rollouts(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> Offer:
    """For what takes either."""
    return [*plans(ctx, parameter, incomplete), *rollouts(ctx, parameter, incomplete)]


@_silently
def endpoints(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> Offer:  # noqa: ARG001 - click's
    """Endpoints of this machine."""
    if ctx.params.get("provider") not in (None, "local"):
        return []
    return [CompletionItem(name) for name in endpoint_names() if name.startswith(incomplete)]


@_silently
def deployments(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> Offer:  # noqa: ARG001 - click's
    """Deployments of the endpoint that was typed before."""
    return [CompletionItem(name) for name in _deployments(ctx) if name.startswith(incomplete)]


@_silently
def deployments_with_sign(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> Offer:
    """The same as `blue=`, those that have not been given yet."""
    # Bash takes the sign for a word of its own, so a number that is being typed looks like a new argument.
    typed = " ".join(ctx.params.get(parameter.name or "") or ())
    given = typed.replace(" = ", "=").replace(" =", "=").split()
    if any(text.partition("=")[2] == "" for text in given):
        return []
    known = {text.partition("=")[0] for text in given}
    left = [name for name in _deployments(ctx) if name not in known]
    return [CompletionItem(f"{name}=") for name in left if name.startswith(incomplete)]


def endpoint_names() -> list[str]:
    """Of the endpoints that the local provider has here, sorted; empty where that cannot be found out."""
    try:
        home = _settings().home
        with os.scandir(home / "local") as entries:
            return sorted(entry.name for entry in entries if (Path(entry) / "state.json").is_file())
    except Exception:  # noqa: BLE001 - see _silently: what cannot be read is not suggested
        return []


def _deployments(ctx: click.Context) -> list[str]:
    import json

    # After an option that lacks its value click leaves the arguments where it found them.
    name = ctx.params.get("name") or next(iter(ctx.args), None)
    if name not in endpoint_names() or ctx.params.get("provider") not in (None, "local"):
        return []
    state = json.loads((_settings().home / "local" / str(name) / "state.json").read_text("utf-8"))
    return sorted(state["deployments"])


def _newest() -> Iterator[tuple[str, str, str]]:
    """(id, name, phase) from the store's file, the newest first."""
    import contextlib
    import sqlite3

    url = _settings().store
    path = Path(url.removeprefix(SQLITE)).absolute()
    if not url.startswith(SQLITE) or not path.is_file():
        return
    # A reader makes the two files beside the database where they are missing. They are missing when nobody has it open:
    # then it can be read as a file that does not change.
    beside = [path.with_name(path.name + suffix) for suffix in ("-wal", "-shm")]
    how = "mode=ro" if all(each.exists() for each in beside) else "mode=ro&immutable=1"
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?{how}", uri=True, timeout=0.1)) as store:
        yield from store.execute("SELECT id, name, phase FROM rollouts ORDER BY n DESC LIMIT ?", (NEWEST,)).fetchall()


def _settings() -> "Settings":
    from orchestrator.settings import from_environment

    return from_environment()
