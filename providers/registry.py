"""From a name in a plan to a provider, so that a provider can come from any distribution without a line changed here.

A distribution offers one in the entry point group `rollout.providers`, as `name = "package.module:Class"`. Nothing is
imported before it is asked for: a provider's own dependencies are only needed by those who use it.
"""

import difflib
from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from providers.base import Context, Provider
from providers.errors import Permanent

GROUP = "rollout.providers"


class UnknownProvider(Permanent, LookupError):
    """No installed distribution offers a provider of that name."""


def known() -> tuple[str, ...]:
    """Names of all providers that are installed, sorted."""
    return tuple(sorted({point.name for point in entry_points(group=GROUP)}))


def find(name: str) -> type[Provider]:
    """The provider class of that name, imported now.

    Raises UnknownProvider, and Permanent when it is offered twice, cannot be imported, or is no provider.
    """
    points = {point.value: point for point in entry_points(group=GROUP, name=name)}
    if not points:
        raise UnknownProvider(f"{_unknown('Provider', name, known())}.")
    if len(points) > 1:
        raise Permanent(f"Provider {name} is offered by {' and by '.join(sorted(points))}: uninstall all but one.")
    return _load(next(iter(points.values())))


def open_provider(name: str, options: Mapping[str, Any], context: Context) -> Provider:
    """A provider, with its own options as the plan gives them (without its name).

    Raises UnknownProvider, and Permanent when the options are not what the provider allows; never shows their values,
    which may be secret.
    """
    provider = find(name)
    try:
        chosen = provider.Options.model_validate(dict(options))
    except ValidationError as error:
        raise Permanent(_refusal(name, provider.Options, error)) from None
    return provider(chosen, context)


def _load(point: EntryPoint) -> type[Provider]:
    try:
        provider = point.load()
    except (ImportError, AttributeError) as error:
        raise Permanent(f"Provider {point.name} cannot be loaded from {point.value}: {error}.") from error
    options = getattr(provider, "Options", None)
    if not (isinstance(provider, type) and isinstance(options, type) and issubclass(options, BaseModel)):
        raise Permanent(
            f"Provider {point.name} is not one: {point.value} has no Options (see providers.base.Provider)."
        )
    return cast(type[Provider], provider)


def _refusal(name: str, options: type[BaseModel], error: ValidationError) -> str:
    problems = []
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        place = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden" and len(problem["loc"]) == 1:
            problems.append(_unknown("option", place, _names(options)))
        elif problem["type"] == "missing":
            problems.append(f"option {place} is missing")
        else:
            problems.append(
                f"option {place}: {problem['msg'].removeprefix('Value error, ')}" if place else problem["msg"]
            )
    return f"Provider {name}: {'; '.join(problems)}."


def _names(options: type[BaseModel]) -> tuple[str, ...]:
    return tuple(field.alias or name for name, field in options.model_fields.items())


def _unknown(what: str, name: str, allowed: Iterable[str]) -> str:
    names = sorted(allowed)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    return f"{what} {name} is not known{hint}: there is {', '.join(names) or 'none'}"
