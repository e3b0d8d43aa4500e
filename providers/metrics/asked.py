"""What every metric asks for in the same words: running totals, or a value at points in time.

`total` with `good` or `bad` gives counts, `value` gives values; what these texts mean, PromQL or a path, is the
metric's own.
"""

from typing import Self

from pydantic import Field, model_validator

from providers.metrics import counters
from providers.metrics.base import Form
from providers.metrics.door import DoorOptions, Seconds


class Asked(DoorOptions):
    """Options of a metric that asks a server.

    Attributes:
        total, good, bad: of counts: all requests, and either part of them.
        value: of values.
        step: between two points of a value, seconds.
    """

    total: str | None = None
    good: str | None = None
    bad: str | None = None
    value: str | None = None
    step: Seconds = Field(60.0, ge=1, le=86_400)

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        counts = [name for name in ("total", "good", "bad") if getattr(self, name) is not None]
        if (self.value is None) == (not counts):
            raise ValueError("give it either value, or total with good or bad")
        if counts and (self.total is None or len(counts) != 2):
            raise ValueError("total needs one of good and bad beside it, and either of them needs total")
        return self

    @property
    def part(self) -> counters.Part:
        """Which part of all requests is counted."""
        return "good" if self.good is not None else "bad"

    @property
    def form(self) -> Form:
        """Counts where there is a total."""
        return "counts" if self.total is not None else "values"
