"""What installed distributions offer by name: the part that providers and metrics have in common.

A distribution offers a class in an entry point group, as `name = "package.module:Class"`. Nothing is imported before it
is asked for: what a class depends on is only needed by those who use it. Its options are a pydantic model of its own,
and what is wrong with them is told without their values, which may be secret.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar, cast

from pydantic import BaseModel, ValidationError

from providers.errors import Permanent

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Offers(Generic[T]):
    """The classes that one entry point group offers.

    Attributes:
        group: of entry points.
        word: what one is called in a sentence ("Provider").
        protocol: where it is written what one must be.
        unknown: raised for a name that nobody offers.
    """

    group: str
    word: str
    protocol: str
    unknown: type[Permanent]

    def known(self) -> tuple[str, ...]:
        """Names of all that are installed, sorted."""
        return tuple(sorted({point.name for point in entry_points(group=self.group)}))

    def find(self, name: str) -> type[T]:
        """The class of that name, imported now.

        Raises `unknown`, and Permanent when it is offered twice, cannot be imported, or is not what it should be.
        """
        points = {point.value: point for point in entry_points(group=self.group, name=name)}
        if not points:
            raise self.unknown(f"{_unknown(self.word, name, self.known())}.")
        if len(points) > 1:
            raise Permanent(
                f"{self.word} {name} is offered by {' and by '.join(sorted(points))}: uninstall all but one."
            )
        return self._load(next(iter(points.values())))

    def read(self, name: str, options: Mapping[str, Any]) -> tuple[type[T], BaseModel]:
        """The class of that name, and its options as it understands them.

        Raises as `find` does, and Permanent when the options are not what it allows; never shows their values.
        """
        offered = self.find(name)
        model: type[BaseModel] = offered.Options  # type: ignore[attr-defined]
        try:
            return offered, model.model_validate(dict(options))
        except ValidationError as error:
            raise Permanent(f"{self.word} {name}: {'; '.join(_refusals(model, error))}.") from None

    def _load(self, point: EntryPoint) -> type[T]:
        try:
            offered = point.load()
        except (ImportError, AttributeError) as error:
            raise Permanent(f"{self.word} {point.name} cannot be loaded from {point.value}: {error}.") from error
        options = getattr(offered, "Options", None)
        if not (isinstance(offered, type) and isinstance(options, type) and issubclass(options, BaseModel)):
            raise Permanent(f"{self.word} {point.name} is not one: {point.value} has no Options (see {self.protocol}).")
        return cast(type[T], offered)


def _refusals(options: type[BaseModel], error: ValidationError) -> list[str]:
    problems = []
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        place = ".".join(str(part) for part in problem["loc"])
        said = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden" and len(problem["loc"]) == 1:
            problems.append(_unknown("option", place, _names(options)))
        elif problem["type"] == "missing":
            problems.append(f"option {place} is missing")
        else:
            problems.append(f"option {place}: {said}" if place else said)
    return problems


def _names(options: type[BaseModel]) -> tuple[str, ...]:
    return tuple(field.alias or name for name, field in options.model_fields.items())


def _unknown(what: str, name: str, allowed: Iterable[str]) -> str:
    names = sorted(allowed)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    return f"{what} {name} is not known{hint}: there is {', '.join(names) or 'none'}"
