"""Whether requests go where they were sent: the sample-ratio check.

A canary of 10% that gets 13% of the requests is not the experiment that was planned: something filters, caches or
retries, and what it does to one side it may not do to the other, so that no comparison can be trusted (Fabijan and
others, "Diagnosing sample ratio mismatch in online controlled experiments", 2019). The check is an e-process as well,
so it too may be looked at after every poll: requests are taken as drawn one by one, and a mixture over all shares that
they could have is bet against the asked one (Lindon, Malek, "Anytime-valid inference for multinomial count data",
2022).
"""

import math
from dataclasses import dataclass

CHANCE = 1e-4
"""Probability, over a whole stage, that a split as it was asked for is called another one."""
NEAR = 0.02
"""Relative difference that is nobody's concern: a proxy's rounding, requests that are still on their way."""
PRIOR = 20.0
"""Weight of the mixture's prior, in requests: how far from the asked share it looks first."""


@dataclass(frozen=True, slots=True)
class Split:
    """What a stage asks for, and what came.

    Attributes:
        asked: the candidate's share of what candidate and stable get; of a mirror, the copies for each live request.
            None where nothing is asked that could be checked.
        candidate, total: requests since the stage began, after the warm-up.
        recent: the same of the last poll.
        off: polls in a row after which the split differed.
    """

    asked: float | None = None
    candidate: int = 0
    total: int = 0
    recent: tuple[int, int] = (0, 0)
    off: int = 0

    def add(self, candidate: int, total: int) -> "Split":
        """With one more poll of `candidate` requests among `total`."""
        if self.asked is None or not total:
            return self
        grown = Split(self.asked, self.candidate + candidate, self.total + total, (candidate, total), self.off)
        return Split(grown.asked, grown.candidate, grown.total, grown.recent, self.off + 1 if grown._differs() else 0)

    def _differs(self) -> bool:
        return log_evidence(self.candidate, self.total, self.asked or 0.0) >= -math.log(CHANCE)


def log_evidence(candidate: int, total: int, asked: float) -> float:
    """log e-value against *the share is `asked`, but for NEAR*, from the requests so far."""
    if not 0 < asked < 1 or candidate > total:
        return 0.0
    low, high = asked * (1 - NEAR), min(asked * (1 + NEAR), 1.0)
    best = min(max(candidate / total, low), high)
    a, b = PRIOR * asked, PRIOR * (1 - asked)
    mixture = _log_beta(a + candidate, b + total - candidate) - _log_beta(a, b)
    # At most: where the null is an interval, its likeliest share is the one to beat.
    return mixture - _times_log(candidate, best) - _times_log(total - candidate, 1 - best)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _times_log(n: int, share: float) -> float:
    return n * math.log(share) if n else 0.0
