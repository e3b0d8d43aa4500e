"""What a deployment that goes leaves behind: its last words in the reason, its logs on disk.

Best effort, by design: a log that cannot be read must not stand in the way of a rollback.
"""

from orchestrator import events as ev
from providers.base import HasLogs, Provider
from providers.errors import ProviderError

LAST_WORDS = 10
"""Lines of a deployment's log in the reason why it could not start."""


async def with_last_words(provider: Provider, endpoint: str, reason: str, about: str | None) -> str:
    """The reason, with what the deployment printed last, where it is about one that could not start."""
    if about is None or not isinstance(provider, HasLogs):
        return reason
    try:
        said = (await provider.logs(endpoint, about, instance=None, tail=LAST_WORDS)).strip()
    except ProviderError:
        return reason
    return f"{reason}; its log ends with:\n{said}" if said else f"{reason}; its log is empty"


async def saved_logs(provider: Provider, endpoint: str, deployment: str, *, rollout: str) -> ev.LogsSaved:
    """Keep the logs; the event says where, or why not."""
    if not isinstance(provider, HasLogs):
        return ev.LogsSaved(deployment, None)
    try:
        return ev.LogsSaved(deployment, await provider.save_logs(endpoint, deployment, rollout=rollout))
    except ProviderError as error:
        return ev.LogsSaved(deployment, None, str(error))
