"""What gates have in common: all of them, and those that hold the candidate against stable.

Apart from the gates themselves, so that those on our own figures and those on figures from elsewhere share it.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from plans.answers import Answers
from plans.errors import problem, raise_all
from plans.units import Duration, Flag, Rate, Ratio


class GateFields(Answers):
    """What gates of every metric have."""

    min_requests: Annotated[int, Field(ge=1, le=1_000_000_000)] = Field(
        default=100, description="Candidate requests before PASS."
    )
    warm_up: Duration = Field(default=10.0, description="Discarded at the candidate's birth.")
    interval: Annotated[Duration, Field(gt=0)] | None = Field(
        default=None, description="Time between measurements; without it the provider's."
    )
    settle: Duration | None = Field(default=None, description="How late the figures may be; without it the provider's.")
    alpha: Annotated[Rate, Field(gt=0, lt=0.5)] | None = Field(
        default=None, description="As at the top, for this gate."
    )
    beta: Annotated[Rate, Field(gt=0, lt=0.5)] | None = Field(default=None, description="As at the top, for this gate.")
    dispersion: Flag = Field(default=True, description="Correct for errors that come in clusters.")


class ComparingGate(GateFields):
    """What gates have that can compare the candidate with stable."""

    max_ratio: Annotated[Ratio, Field(gt=0)] | None = Field(
        default=None, description="Tolerated: this many times what stable has."
    )
    blame: Flag | None = Field(
        default=None,
        description="Whether `max` counts only while the candidate is also worse than stable; without it: where stable "
        "is measured.",
    )
    source: Literal["mirror", "live", "direct", "auto"] = Field(
        default="auto", description="Which of the candidate's requests count; auto: mirrored ones in a shadow step."
    )


class GuardingGate(ComparingGate):
    """What gates have that can also look at stable alone."""

    guard: Literal["stable"] | None = Field(
        default=None,
        description="Stable is compared with itself before the step, instead of the candidate with stable: does "
        "mirroring hurt it?",
    )

    @model_validator(mode="after")
    def _stable_is_live(self) -> Self:
        if self.guard is not None and self.source not in ("auto", "live"):
            message = "`guard: stable` looks at stable's live requests; write `source: live`, or remove `source`"
            raise_all([problem("misplaced", message, "source")])
        return self
