"""Why a provider could not do what it was asked, in the only words the orchestrator understands.

    ProviderError
    ├── Permanent      the same call will fail again; a human or another plan must change something
    │   ├── Unsupported    this provider, or this kind of endpoint, cannot do that at all
    │   └── NotFound       the endpoint or deployment does not exist
    ├── Temporary      may work later; `retry_after` says when, if the provider knows
    │   └── Conflict       something else is changing the endpoint now, or it is not in the state the call assumed
    └── Fenced         another driver with a higher epoch, or another store's claim, owns the endpoint

Every message is one sentence that a person can act on; it never holds a key, a token or a request body.
"""


class ProviderError(Exception):
    """The provider could not do what it was asked."""


class Permanent(ProviderError):
    """The same call will fail again: something must be changed first."""


class Unsupported(Permanent):
    """This provider, or this kind of endpoint, cannot do that."""


class NotFound(Permanent):
    """The endpoint or the deployment does not exist."""


class Temporary(ProviderError):
    """The call may work later.

    Attributes:
        retry_after: seconds the provider asked us to wait, or None when it did not say.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Conflict(Temporary):
    """Something else is changing the endpoint now; wait and observe again."""


class Fenced(ProviderError):
    """Another driver owns the endpoint: this one must stop before its next effect."""
