"""What is wrong with something that a person wrote, said so that the person can mend it without reading our code.

    PlanError       2  a plan, endpoint or deployment file cannot be read or says something that makes no sense
        .problems      every Problem that was found, in the order of the file

The figure is the exit code of the command line. The second half lets a pydantic model report several problems at once,
each at its own place, where pydantic by itself takes one from each validator.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar, NoReturn, Self

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

_LONGEST_TEXT = 40


def brief(text: str) -> str:
    """Text that somebody else wrote for a message: on one line, cut when it is long, nothing that moves a cursor."""
    line = "".join(c if c.isprintable() else "\ufffd" for c in " ".join(text[:1000].split()))
    return line if len(line) <= _LONGEST_TEXT else line[: _LONGEST_TEXT - 3] + "..."


def quoted(text: str) -> str:
    """The same in backticks."""
    return f"`{brief(text)}`"


def listed(names: Iterable[str]) -> str:
    """Names for a message: the first dozen of them, and how many more; `none` where there are none."""
    every = list(names)
    more = f" and {len(every) - 12} more" if len(every) > 13 else ""
    return ", ".join(map(brief, every[:12] if more else every)) + more or "none"


def either(words: Sequence[str]) -> str:
    """Words of which a person may choose one: `a, b or c`."""
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def did_you_mean(word: str, names: Iterable[str]) -> str | None:
    """The name that is most like a word, as a suggestion; None where none is. Of many names only the first count."""
    known = {name[:64].lower(): name for name in reversed(list(islice(names, 500)))}
    near = difflib.get_close_matches(word[:64].lower(), known, 1)
    return f"did you mean {quoted(known[near[0]])}?" if near else None


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


@dataclass(frozen=True, slots=True)
class Guess:
    """What was written, and the names one of which may have been meant."""

    word: str
    names: Iterable[str]

    def __repr__(self) -> str:
        # pydantic puts everything that comes with a problem into words, whether its message has them or not.
        return ""

    def words(self) -> str | None:
        """`did you mean ...?`, or None."""
        return did_you_mean(self.word, self.names)


def problem(
    kind: str, message: str, *loc: int | str, found: Any = None, near: Iterable[str] = (), at_key: bool = False
) -> InitErrorDetails:
    """A problem at a place below the model or field that raises it, for `raise_all`.

    Args:
        kind: pydantic's error type.
        message: one sentence: what is wrong and what to do.
        loc: pydantic's path from the raising validator on, tags of unions included.
        found: what was written there.
        near: the names that are allowed; the nearest to `found` will be suggested.
        at_key: point at the key, not at its value.
    """
    # Which name is meant is found out by whoever shows it: of thousands of problems only for the first.
    context = {"message": message, "at_key": at_key, "guess": Guess(str(found)[:64], near)}
    return InitErrorDetails(type=PydanticCustomError(kind, "{message}", context), loc=loc, input=found)


def again(error: ValidationError) -> list[InitErrorDetails]:
    """The problems of an error that was caught, to be raised once more together with others."""
    problems = []
    for e in error.errors(include_url=False):
        kind = PydanticCustomError(e["type"], "{message}", {**e.get("ctx", {}), "message": e["msg"]})
        problems.append(InitErrorDetails(type=kind, loc=e["loc"], input=e["input"]))
    return problems


def _type(wrong: InitErrorDetails) -> str:
    kind = wrong["type"]
    return kind if isinstance(kind, str) else kind.type


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
        elsewhere = False
        for i, wrong in enumerate(found):
            match wrong["loc"]:
                case (str(key),) if key in cls.not_built:
                    message = f"`{key}` is not built yet in this version; remove it"
                    found[i] = problem("not_built", message, key, at_key=True)
                case (str(key),) if key in cls.misplaced:
                    found[i] = problem("misplaced", cls.misplaced[key], key, at_key=True)
                    elsewhere = True
        if elsewhere:
            # Whoever took this for something else does not miss what is missing here.
            found = [wrong for wrong in found if not (_type(wrong) == "missing" and len(wrong["loc"]) == 1)]
        raise ValidationError.from_exception_data(cls.__name__, found)
