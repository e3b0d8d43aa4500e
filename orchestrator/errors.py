"""Why the orchestrator could not do what it was asked. The command line maps each branch to an exit code.

    OrchestratorError
    ├── UsageError          2  what was asked makes no sense here: another plan, another flag, another id
    │   ├── Refused         2  the plan cannot be carried out on this endpoint as it stands
    │   │   └── Unfit       2  some of its steps cannot, each told at its place
    │   └── UnknownRollout  2  there is no such rollout, or more than one is meant
    ├── StoreError          3  the store cannot be reached or read: try again
    │   └── CommitUnknown   3  the connection was lost during a commit: it may have happened
    ├── LeaseLost           3  another process drives the rollout now: this one has stopped before its next effect
    └── Invariant           5  a step would have broken an invariant: nothing was done

`plans.errors.PlanError` exits with 2 and `providers.errors.ProviderError` with 3.
"""

from collections.abc import Iterable

from plans.errors import PlanError, Problem


class OrchestratorError(Exception):
    """The orchestrator could not do what it was asked."""


class UsageError(OrchestratorError):
    """What was asked makes no sense here."""


class Refused(UsageError):
    """The plan cannot be carried out on this endpoint as it stands."""


class Unfit(Refused):
    """Some steps of the plan cannot be carried out here. Prints them as a PlanError does, and what could be run."""

    def __init__(self, problems: Iterable[Problem], alternative: str | None = None) -> None:
        """`alternative`: the text of the plan that this provider could run, where there is one."""
        self.problems = PlanError(problems).problems
        self.alternative = alternative
        super().__init__(self.problems)

    def __str__(self) -> str:
        told = "\n".join(map(str, self.problems))
        return f"{told}\nthis provider could run:\n\n{self.alternative}" if self.alternative else told


class UnknownRollout(UsageError):
    """There is no such rollout, or more than one is meant."""


class StoreError(OrchestratorError):
    """The store cannot be reached or read."""


class CommitUnknown(StoreError):
    """The connection was lost during a commit: it may have happened."""


class LeaseLost(OrchestratorError):
    """Another process drives the rollout now."""


class Invariant(OrchestratorError):
    """A step would have broken an invariant."""
