"""Who is who in a report: the two sides with their colours, and what exactly each of them was.

A report is read months later, when `green` means another model: only digests still say which one it was.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from orchestrator.bundle import Bundle
from orchestrator.events import Event, Started
from orchestrator.report.captions import Names
from orchestrator.rollout import Rollout
from orchestrator.views import RolloutView

COLOURS = ("blue", "green")


@dataclass(frozen=True, slots=True)
class Side:
    """A deployment of the rollout: its name and role, the digest of its spec, and what it is made of, as (what, value).

    `digest` is "" where nobody wrote it down.
    """

    name: str
    role: str
    digest: str
    made_of: tuple[tuple[str, str], ...]


def names(seen: RolloutView) -> Names:
    """Who has which colour: its own when it is called blue or green, else that of its role, as in the live view."""
    stable, candidate = seen.stable or "stable", seen.candidate or "candidate"
    free = [colour for colour in COLOURS if colour not in (stable, candidate)]
    of_stable = stable if stable in COLOURS else free.pop(0)
    of_candidate = candidate if candidate in COLOURS else free.pop(0)
    return Names(candidate, stable, of_candidate, of_stable)


def sides(rollout: Rollout, bundle: Bundle, events: Sequence[Event]) -> tuple[Side, ...]:
    """Candidate and stable, as far as the plan has them."""
    began = events[0].body if events else None
    found = began.expected.digests if isinstance(began, Started) else {}
    made = []
    for role, name in (("candidate", rollout.roles.candidate), ("stable", rollout.roles.stable)):
        if name is None:
            continue
        resolved = bundle.deployments.get(name)
        made_of: list[tuple[str, str]] = []
        if resolved is not None:
            made_of.append(("instances", str(resolved.spec.instance_count)))
            for what, source in (("code", resolved.code), ("model", resolved.model)):
                if source is not None:
                    made_of.append((what, f"{_within(source.path, resolved.base)} (sha256 {source.sha256[:12]})"))
            made_of += [(what, str(version)) for what, version in resolved.versions.items()]
        # What served before is not in every plan; then its digest was seen when the rollout began.
        digest = resolved.digest if resolved is not None else found.get(name, "")
        made.append(Side(name, role, digest, tuple(made_of)))
    return tuple(made)


def _within(path: str, base: str) -> str:
    """A path as it is seen from the deployment's file."""
    inside = PurePath(path).is_relative_to(base)
    return str(PurePath(path).relative_to(base)) if inside else path
