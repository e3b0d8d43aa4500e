"""One message of the catalogue: the situation that causes it, its exact words, and the three answers in them.

The words are written as a person sees them, without `rollout: ` before them, and marked: what stands between « and »
says what to do, between ‹ and › what stands now; the rest says what happened. What changes from run to run is written
as `<id>`, `<digest>`, `<folder>`, `<host>`, `<pid>` or `<time>`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

NOTHING = "nothing was changed"
"""The harness compares endpoints, journals and files before and after."""

ALREADY = "nothing: it is so already"
TOO_LATE = "nothing: it goes on to its end by itself"
NOT_NOW = "ask again when it waits for that: `rollout status` says what it waits for"
MEND = "mend the plan, at the line and column that the message begins with"
RETRIED = "nothing: it is tried again by itself"
OWN_WISH = "nothing: it was asked for"
TOLD_BELOW = "see the message that it is part of"
TRY = "try again: that is what exit code 3 says"
FOR_AUTHORS = "nothing, at a command line: plans and commands are refused before, in words of their own"
CANNOT = "nothing here: this provider cannot, another may"
HISTORY = "nothing: `rollout history --output ndjson` has all events"
NOT_YOURS = "report it: it is a mistake of rollout itself"
"""What to do where the words need not say it; everywhere else they, or the commands that are offered with them, do."""
WITHOUT_ADVICE = (
    *(ALREADY, TOO_LATE, NOT_NOW, MEND, RETRIED, OWN_WISH, TOLD_BELOW, TRY, FOR_AUTHORS, CANNOT, HISTORY, NOT_YOURS),
)


@dataclass(frozen=True)
class Outcome:
    """What came of a situation.

    Attributes:
        said: the words, with what changes from run to run replaced.
        code: the exit code, or None for a part of another message.
        stands: how things stand then, as the harness found them.
        offers: the commands that are offered with the words, by their names.
    """

    said: str
    code: int | None
    stands: str = NOTHING
    offers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Message:
    """An entry.

    Attributes:
        where: module and function that say it, several with a blank between.
        when: the situation, in words.
        cause: what really causes it, see `bench`.
        marked: the words with their marks.
        code, stands, offers: as in Outcome.
        do: one of `WITHOUT_ADVICE` where neither words nor offers say it.
    """

    where: str
    when: str
    cause: Callable[..., Any] = field(repr=False)
    marked: str
    code: int | None = 2
    stands: str = NOTHING
    offers: tuple[str, ...] = ()
    do: str = ""

    @property
    def says(self) -> str:
        """The words."""
        return re.sub("[«»‹›]", "", self.marked)

    @property
    def happened(self) -> str:
        """What is neither advice nor about how things stand."""
        return re.sub(r"«.*?»|‹.*?›", "", self.marked, flags=re.DOTALL).strip(" :;,.\n")

    @property
    def standing(self) -> str:
        """What stands now: in the words, and as it was found."""
        told = re.findall("‹(.*?)›", self.marked, flags=re.DOTALL)
        return "; ".join([*told, *([self.stands] if self.stands not in told else [])])

    @property
    def advice(self) -> str:
        """What to do: in the words, else what is offered with them, else why there is nothing to do."""
        told = re.findall("«(.*?)»", self.marked, flags=re.DOTALL)
        offered = [f"`rollout {name}`" for name in self.offers]
        return "; ".join(told) or ", ".join(offered) or self.do

    @property
    def id(self) -> str:
        """For the test's name."""
        return f"{self.where.split()[0]}: {self.when}"
