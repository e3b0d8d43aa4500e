"""What is to be done when the evidence is bad, missing or not enough: fields that a plan, a step and a gate share.

The nearest one counts: a gate's own, else its step's, else the plan's.
"""

from typing import Literal

from pydantic import Field

from plans.errors import Part

Consequence = Literal["rollback", "pause"]


class Answers(Part):
    """None: as the next level up says."""

    on_fail: Consequence | None = Field(default=None, description="As at the top, for this one.")
    on_no_data: Consequence | None = Field(default=None, description="As at the top, for this one.")
    on_undecided: Consequence | None = Field(default=None, description="As at the top, for this one.")
    on_error: Consequence | None = Field(default=None, description="As at the top, for this one.")
