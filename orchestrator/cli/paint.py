"""What the parts of the picture look like: characters, colours of phases and verdicts, and each deployment's colour.

A deployment has its own colour when it is called blue or green, else that of its role. Most plans call stable blue and
candidate green; where they have changed places, the names win, because a green bar labelled blue helps nobody.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from rich.text import Text

from orchestrator.views import RolloutView

NAMED = {"blue": "bright_blue", "green": "green"}
OTHER = "magenta"
PHASES = {
    "pending": "cyan",
    "running": "green",
    "paused": "yellow",
    "rolling_back": "yellow",
    "succeeded": "bold green",
    "rolled_back": "bold red",
    "failed": "bold red",
}
STATES = {
    "waiting": "dim",
    "running": "cyan",
    "passed": "green",
    "failed": "red",
    "skipped": "dim",
    "undone": "yellow",
}
VERDICTS = {"PASS": "green", "FAIL": "bold red", "CONTINUE": "yellow", "NO_DATA": "yellow", "ERROR": "red"}


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The characters of a frame: those of Unicode, or of ASCII for terminals that have no others."""

    dot: str = "●"
    branch: str = "├── "
    last: str = "└── "
    trunk: str = "│   "
    states: str = "·◌✔✗–↩"
    verdicts: str = "✔✗?∅!"
    blocks: str = "▁▂▃▄▅▆▇█"
    bar: str = "█▒░"
    cut: str = "…"


UNICODE = Glyphs()
ASCII = Glyphs("*", "|-- ", "`-- ", "|   ", ".o+x-<", "+x?0!", "_.-=+*%#", "#+.", "~")


@dataclass(frozen=True, slots=True)
class Paint:
    """Styles and textures of deployments.

    Attributes:
        styles: deployment -> style. ranks: deployment -> 0 stable, 1 candidate. colour: whether styles can be seen.
    """

    styles: Mapping[str, str]
    ranks: Mapping[str, int]
    colour: bool

    @staticmethod
    def of(view: RolloutView, colour: bool) -> "Paint":
        """The paint of a rollout's two sides."""
        sides = {name: rank for rank, name in enumerate((view.stable, view.candidate)) if name}
        free = [style for name, style in NAMED.items() if name not in sides]
        styles = {name: NAMED[name] if name in NAMED else free.pop(0) for name in sides}
        return Paint(styles, sides, colour)

    def style(self, name: str) -> str:
        """Of a deployment."""
        return self.styles.get(name, OTHER)

    def order(self, name: str) -> tuple[int, str]:
        """Sorts stable first, then the candidate, then others."""
        return self.ranks.get(name, 2), name

    def texture(self, name: str, bar: str) -> str:
        """What its part of a bar is made of: one of three characters, all the same where colours tell sides apart."""
        return bar[0] if self.colour else bar[self.ranks.get(name, 2)]

    def share(self, name: str, percent: float, *, shown: str | None = None) -> Text:
        """`blue 90%` in the deployment's colour; `shown`: what to call it instead."""
        return Text(f"{shown or name} {percent:g}%", style=self.style(name))
