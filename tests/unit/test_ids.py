"""Names that must never be confused, and the waits that are derived from them."""

import re
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from orchestrator import ids


def test_names_are_fresh_and_say_what_they_name():
    at = datetime(2026, 11, 22, 23, 59, tzinfo=UTC)
    made = {ids.rollout_id("diabetes", at) for _ in range(50)}
    assert len(made) == 50
    assert all(re.fullmatch(r"diabetes-20261122-[a-hj-km-np-z2-9]{5}", name) for name in made)
    assert len({ids.token() for _ in range(50)} | {ids.event_id() for _ in range(50)}) == 100
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{32}", ids.token()) for _ in range(20))
    assert re.fullmatch(r"[0-9a-f]{32}", ids.event_id())


def test_the_same_intent_has_the_same_key_after_a_crash():
    assert ids.intent_key("shop-1", 3) == ids.intent_key("shop-1", 3) == "shop-1.3"


@given(key=st.text(), attempt=st.integers(0, 10_000))
def test_back_off_is_decided_by_key_and_attempt(key, attempt):
    assert 0 <= ids.jitter(key, attempt) < 1
    wait = ids.back_off(key, attempt)
    assert wait == ids.back_off(key, attempt)
    full = min(30.0, 0.5 * 2.0 ** min(attempt - 1, 20))
    assert full / 2 < wait <= full


def test_two_keys_do_not_wait_alike():
    assert len({ids.back_off(f"key-{number}", 3) for number in range(50)}) == 50
    assert len({ids.jitter("key", attempt) for attempt in range(50)}) == 50
