"""How a one-shot step went."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TaskResult:
    """Whether it went well, one sentence about it, and whether another try makes sense."""

    ok: bool
    detail: str
    retry: bool = False
