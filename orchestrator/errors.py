"""Why the orchestrator could not do what it was asked. The command line maps each branch to an exit code.

    OrchestratorError
    ├── UsageError          2  what was asked makes no sense here: another plan, another flag, another id
    │   ├── Refused         2  the plan cannot be carried out on this endpoint as it stands
    │   └── UnknownRollout  2  there is no such rollout, or more than one is meant
    ├── StoreError          3  the store cannot be reached or read: try again
    │   └── CommitUnknown   3  the connection was lost during a commit: it may have happened
    ├── LeaseLost           3  another process drives the rollout now: this one has stopped before its next effect
    └── Invariant           5  a step would have broken an invariant: nothing was done

`plans.errors.PlanError` exits with 2 and `providers.errors.ProviderError` with 3.
"""


class OrchestratorError(Exception):
    """The orchestrator could not do what it was asked."""


class UsageError(OrchestratorError):
    """What was asked makes no sense here."""


class Refused(UsageError):
    """The plan cannot be carried out on this endpoint as it stands."""


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
