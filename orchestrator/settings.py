"""What the environment says, read once at the edge and frozen.

ROLLOUT_HOME      directory for everything kept on this machine; default: the user's state directory
ROLLOUT_STORE     database URL; default: sqlite:///<home>/rollouts.db
ROLLOUT_ACTOR     who is acting, for the journal; default: the user's name
XDG_RUNTIME_DIR   where sockets go; default: a directory of the user's under the temporary one
NO_COLOR, TERM    whether and how to colour
"""

import getpass
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from orchestrator.errors import UsageError


@dataclass(frozen=True, slots=True)
class Settings:
    """The environment, as the orchestrator needs it.

    Attributes:
        home: absolute directory. store: database URL. actor: who acts. runtime: directory for sockets, or None for the
            default.
        environment: for resolving `${env:NAME}`; never shown.
    """

    home: Path
    store: str
    actor: str
    runtime: Path | None
    environment: Mapping[str, str]

    def __repr__(self) -> str:
        return f"Settings(home={self.home!s}, actor={self.actor!r})"


def from_environment(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the environment. Raises UsageError when a setting makes no sense."""
    env = dict(os.environ if environment is None else environment)
    home = _home(env)
    runtime = env.get("XDG_RUNTIME_DIR")
    return Settings(
        home=home,
        store=env.get("ROLLOUT_STORE") or f"sqlite:///{home / 'rollouts.db'}",
        actor=_actor(env),
        runtime=Path(runtime) if runtime and Path(runtime).is_dir() and os.access(runtime, os.W_OK) else None,
        environment=env,
    )


def _home(env: Mapping[str, str]) -> Path:
    given = env.get("ROLLOUT_HOME")
    if given:
        try:
            home = Path.cwd() / Path(given).expanduser()
            usable = home.is_dir() or not home.exists()
        except (RuntimeError, OSError):  # no such user, no permission
            raise UsageError(f"ROLLOUT_HOME is {given}, which cannot be looked at: name another directory") from None
        if not usable:
            raise UsageError(f"ROLLOUT_HOME is {home}, which is not a directory: name a directory, or unset it")
        return home
    from platformdirs import user_state_path  # noqa: PLC0415 - not needed where ROLLOUT_HOME is set

    return user_state_path("rollout")


def _actor(env: Mapping[str, str]) -> str:
    given = env.get("ROLLOUT_ACTOR")
    if not given:
        try:
            given = getpass.getuser()
        except (KeyError, OSError):
            given = f"uid-{os.getuid()}"
    return re.sub(r"[^\x20-\x7e]", "?", given)[:80]


def utc_now() -> datetime:
    """The current time, aware UTC; handed to whoever needs it."""
    return datetime.now(UTC)
