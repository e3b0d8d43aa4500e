"""Names for things that must never be confused: rollouts, workers, events, idempotency keys. The only place of
randomness.

Everything else that must differ between two tries is derived from these by hashing, so that a decision taken again
after a crash is the same.
"""

import hashlib
import secrets
from datetime import datetime

_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"


def rollout_id(name: str, at: datetime) -> str:
    """`diabetes-20261122-7kq3m`: the plan's name, the day, and 5 random characters without look-alikes."""
    tail = "".join(secrets.choice(_ALPHABET) for _ in range(5))
    return f"{name}-{at:%Y%m%d}-{tail}"


def token() -> str:
    """A fresh URL-safe secret of 192 bits."""
    return secrets.token_urlsafe(24)


def event_id() -> str:
    """A fresh id of 128 bits, in hexadecimal."""
    return secrets.token_hex(16)


def intent_key(rollout: str, number: int) -> str:
    """The idempotency key of the rollout's `number`th intent; the same after a crash."""
    return f"{rollout}.{number}"


def jitter(key: str, attempt: int) -> float:
    """A number in [0, 1) that is always the same for this key and attempt, and unrelated for another."""
    digest = hashlib.sha256(f"{key}#{attempt}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def back_off(key: str, attempt: int, *, first: float = 0.5, most: float = 30.0) -> float:
    """Seconds before try number `attempt` + 1: doubling from `first` up to `most`, of which a random-looking half is
    taken off.
    """
    return min(most, first * 2.0 ** min(attempt - 1, 20)) * (1 - jitter(key, attempt) / 2)
