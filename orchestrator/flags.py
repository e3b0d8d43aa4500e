"""What the caller of a use case insists on, in one value, so that it reaches the place where it counts unchanged."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Flags:
    """What the caller insists on.

    Attributes:
        steal: take the endpoint from another store's claim. replace: a deployment of the candidate's name may be
            replaced.
        bootstrap: an endpoint that serves nothing is brought into service. adopt: the edited plan takes the pinned
            one's place.
        take_back, keep_theirs: what to do about what others changed. exit_on_pause, leave_exposed: whether to stay
            while paused, and exposed.
        vars: values for the plan's variables, over those in its file. advisory: measure and judge, change nothing.
        extend: seconds more for the current step's deadline, or None.
    """

    steal: bool = False
    replace: bool = False
    bootstrap: bool = False
    adopt: bool = False
    take_back: bool = False
    keep_theirs: bool = False
    exit_on_pause: bool = False
    leave_exposed: bool = False
    vars: Mapping[str, str] = field(default_factory=dict)
    advisory: bool = False
    extend: float | None = None
