"""What is wrong with something that a person wrote, said so that the person can mend it without reading our code.

    PlanError       2  a plan, endpoint or deployment file cannot be read or says something that makes no sense
        .problems      every Problem that was found, in the order of the file

The figure is the exit code of the command line. The second half lets a pydantic model report several problems at once,
each at its own place, where pydantic by itself takes one from each validator.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn, Self

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to mend.

    Attributes:
        file: as the user named it.
        line, column: from 1; both 0 when it is about the file as a whole.
        key: path inside the file, such as `steps[3].hold`; empty for the file as a whole.
        message: one sentence: what is wrong and what is allowed.
        suggestion: what was probably meant, as `did you mean ...?`, or None.
    """

    file: str
    line: int
    column: int
    key: str
    message: str
    suggestion: str | None = None

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        sentence = f"{self.message}; {self.suggestion}" if self.suggestion else self.message
        return ": ".join(part for part in (place, self.key, sentence) if part)


class PlanError(Exception):
    """Something that a person wrote cannot be used. Prints one problem a line: `file:line:column: key: message`."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        """The problems in any order; the same one twice counts once."""
        unique = dict.fromkeys(problems)
        self.problems: tuple[Problem, ...] = tuple(
            sorted(unique, key=lambda p: (p.file, p.line, p.column, p.key, p.message))
        )
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))


def problem(
    kind: str, message: str, *loc: int | str, found: Any = None, near: Iterable[str] = (), at_key: bool = False
) -> InitErrorDetails:
    """A problem at a place below the model or field that raises it, for `raise_all`.

    Args:
        kind: pydantic's error type.
        message: one sentence: what is wrong and what to do.
        loc: pydantic's path from the raising validator on, tags of unions included.
        found: what was written there.
        near: the names that are allowed; the nearest to `found` is suggested.
        at_key: point at the key, not at its value.
    """
    context: dict[str, Any] = {"message": message, "at_key": at_key}
    guess = difflib.get_close_matches(str(found), list(near), 1)
    if guess:
        context["suggestion"] = f"did you mean `{guess[0]}`?"
    return InitErrorDetails(type=PydanticCustomError(kind, "{message}", context), loc=loc, input=found)


def again(error: ValidationError) -> list[InitErrorDetails]:
    """The problems of an error that was caught, to be raised once more together with others."""
    problems = []
    for e in error.errors(include_url=False):
        kind = PydanticCustomError(e["type"], "{message}", {**e.get("ctx", {}), "message": e["msg"]})
        problems.append(InitErrorDetails(type=kind, loc=e["loc"], input=e["input"]))
    return problems


def raise_all(problems: Iterable[InitErrorDetails]) -> None:
    """Raises one ValidationError with all of them, if there are any."""
    found = list(problems)
    if found:
        raise ValidationError.from_exception_data("plan", found)


def refuse(kind: str, message: str) -> NoReturn:
    """Raises PydanticCustomError with this very text: braces in it are not read as a template."""
    raise PydanticCustomError(kind, "{message}", {"message": message})


class Part(BaseModel):
    """Anything that is written in a plan.

    `not_built` names fields of the language that this version refuses; `misplaced` maps a field that belongs elsewhere
    to the sentence that says so.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
    not_built: ClassVar[frozenset[str]] = frozenset()
    misplaced: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="wrap")
    @classmethod
    def _say_why_a_field_is_refused(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(data)
        except ValidationError as error:
            found = again(error)
        for i, wrong in enumerate(found):
            match wrong["loc"]:
                case (str(key),) if key in cls.not_built:
                    message = f"`{key}` is not built yet in this version; remove it"
                    found[i] = problem("not_built", message, key, at_key=True)
                case (str(key),) if key in cls.misplaced:
                    found[i] = problem("misplaced", cls.misplaced[key], key, at_key=True)
        raise ValidationError.from_exception_data(cls.__name__, found)
