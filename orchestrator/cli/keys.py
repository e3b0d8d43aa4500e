"""The keys of the live view: which make sense now, what a press asks for, and what the footer says about it.

Pure but for what it remembers. A press becomes a wish, which goes the way of a command from another terminal: it is
recorded, and whoever drives acts on it, or refuses. Nothing here touches a terminal; see `terminal`.
"""

import re
from dataclasses import dataclass
from typing import Literal

from rich.cells import cell_len

from orchestrator.explain import commands
from orchestrator.views import RolloutView

Wish = Literal["pause", "resume", "approve", "abort", "leave"]
SHOWN_FOR = 6.0
"""Seconds that the outcome of a key stands in the footer."""
UNREAD = 1.0
"""Seconds in which nobody has read a notice: the next one stands beside it then."""
KEYS = "paxq"
_SEQUENCE = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]?|O.?|.|$)", re.DOTALL)


def pressed(data: bytes) -> str:
    """The first key of what was read at once; "" when there is none.

    Arrows, function keys and Alt send sequences that hold letters (F1 is ESC O P): they are no keys of ours. Of several
    letters at once only the first counts, so that text pasted by mistake asks a question and does not answer it too.
    """
    return _SEQUENCE.sub(b"", data).decode("ascii", "replace")[:1]


@dataclass(frozen=True, slots=True)
class Offer:
    """A key that makes sense now: what the footer calls it, what it asks for, and the command that does the same."""

    key: str
    label: str
    wish: Wish
    command: str | None = None


def offers(view: RolloutView | None, *, driving: bool) -> tuple[Offer, ...]:
    """The keys that make sense, in the order in which the footer shows them.

    Args:
        view: None while nothing is known yet. driving: q stops this process safely, instead of leaving a view.
    """
    leave = Offer("q", "stop safely" if driving else "quit", "leave")
    if view is None or view.driver is None or not view.active:
        return (leave,)  # nobody would act on anything else
    found = []
    undoing = view.phase == "rolling_back" or view.no_return
    if view.phase == "paused" and view.paused != "drift":
        found.append(Offer("p", "resume", "resume", f"rollout resume {view.id}"))
    elif view.phase in ("pending", "running") and not undoing:
        found.append(Offer("p", "pause", "pause", f"rollout pause {view.id}"))
    if view.approval:
        found.append(Offer("a", "approve", "approve", f"rollout approve {view.id}"))
    if not undoing:
        found.append(Offer("x", "abort", "abort", f"rollout abort {view.id}"))
    return (*found, leave)


def no_use(key: str, view: RolloutView) -> str:
    """Why a key of ours does nothing now."""
    if view.driver is None:
        return f"nobody drives it now: {commands(view)[0][0]}"
    if key == "a":
        return "no step waits for approval now"
    if view.phase == "rolling_back":
        return "it is being rolled back already"
    if view.no_return:
        return "it is past the point of no return, and goes on to its end"
    return f"somebody else changed the endpoint: rollout resume {view.id} --take-back, or --keep-theirs"


class Keys:
    """What was pressed and what came of it. Times are seconds on any clock that only goes forward.

    Args:
        driving: as in `offers`. heard: whether keys arrive at all; the footer else says what Ctrl-C does.
        without: the footer then.
    """

    def __init__(self, *, driving: bool, heard: bool, without: str) -> None:
        self._driving, self._heard, self._without = driving, heard, without
        self._asking = False
        self._pending: list[Wish] = []
        self._notice: str | None = None
        self._until = float("-inf")
        self._closed = False

    def press(self, key: str, view: RolloutView | None, now: float) -> Wish | None:
        """What the key asks for; None when it asks for nothing, or for nothing yet."""
        if self._closed or not key:
            return None
        offered = {offer.key: offer.wish for offer in offers(view, driving=self._driving)}
        if self._asking:
            self._asking = False
            if key == "y" and offered.get("x"):
                return self._ask("abort")
            self._say("not aborted", now)
            return None
        wish = offered.get(key)
        if wish == "leave":
            self._closed = True
        elif wish in self._pending:
            return None  # it was asked for already, and is not answered yet
        elif wish == "abort":
            self._asking = True
            return None
        elif wish is not None:
            return self._ask(wish)
        elif view is not None and view.active and key in KEYS:
            self._say(no_use(key, view), now)
        return wish

    def answered(self, wish: Wish, outcome: str, now: float) -> None:
        """What came of a wish."""
        self._pending.remove(wish)
        self._say(outcome, now)

    def close(self) -> None:
        """From here on keys do nothing: this process is leaving."""
        self._closed, self._asking = True, False

    def footer(self, view: RolloutView, width: int, now: float) -> str:
        """What stands at the bottom of the picture, on one line of `width` columns where that is possible."""
        if not view.active:
            return ""
        found = offers(view, driving=self._driving)
        if self._asking and any(offer.key == "x" for offer in found):
            return _fitting(width, f"abort {view.id}? y/n", "abort? y/n")
        if self._notice is not None and now < self._until:
            return self._notice
        if self._pending:
            return f"{self._pending[-1]} asked for, waiting for the driver to act on it"
        if not self._heard:
            return self._without
        keys = "  ".join(f"{offer.key} {offer.label}" for offer in found)
        command = self._command(view)
        hint = [f"{keys}  (or: {command})"] if command else []
        return _fitting(width, *hint, keys, f"keys {' '.join(offer.key for offer in found)}")

    def _command(self, view: RolloutView) -> str | None:
        """The one that is most likely wanted: an approval that is waited for, else that of the first key."""
        if view.driver is None:
            return commands(view)[0][0]
        said = [offer for offer in offers(view, driving=self._driving) if offer.command]
        return next((offer.command for offer in sorted(said, key=lambda offer: offer.wish != "approve")), None)

    def _ask(self, wish: Wish) -> Wish:
        self._pending.append(wish)
        self._notice = None
        return wish

    def _say(self, notice: str, now: float) -> None:
        unread = self._notice if now < self._until - SHOWN_FOR + UNREAD else None
        self._notice, self._until = f"{unread}; {notice}" if unread else notice, now + SHOWN_FOR


def _fitting(width: int, *texts: str) -> str:
    """The first that fits, else the last."""
    return next((text for text in texts if cell_len(text) <= width), texts[-1])
