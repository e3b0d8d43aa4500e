"""What every store promises, as a suite. Subclass it with a fixture `opened`, which gives handles on one store."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from orchestrator.errors import LeaseLost, StoreError, UnknownRollout, UsageError
from orchestrator.events import Commanded, Driven, Intended, Released, Waited
from orchestrator.rollout import apply
from orchestrator.standing import Waiting
from orchestrator.store.base import Commit, Consumed, Evidence, Store
from tests.engine.store_samples import (
    T0,
    Story,
    bundle,
    command,
    every_body,
    evidence,
    gates,
    intent,
    measurement,
    operation,
    worker,
)

Opened = Callable[[], Awaitable[Store]]


class StoreConformance:
    """Needs a fixture `opened`: an async function that opens one more handle on the same store."""

    @pytest.fixture
    async def store(self, opened: Opened) -> Store:
        return await opened()

    # --- creating -----------------------------------------------------------------------------------------------

    async def test_a_created_rollout_drives_its_endpoint_under_a_new_epoch(self, store: Store) -> None:
        created = await Story().begin(store, worker("w1"), at_least=7)
        assert (created.epoch, created.worker) == (8, "w1")
        assert await store.rollout("r1") == created
        (event,) = await store.events("r1")
        assert event.epoch == 8
        assert await store.worker("w1") == worker("w1")
        assert await store.bundle(created.bundle) == bundle()

    async def test_the_first_events_carry_the_epoch_so_that_replay_gives_the_row(self, store: Store) -> None:
        story = Story()
        first = story.beginning
        driven = replace(first, seq=2, id="r1..2", body=Driven("w1", "alpha", 4711, 0))
        rollout = apply(story.rollout, driven)
        created = await store.create(
            rollout, bundle(), [first, driven], worker=worker("w1"), provider="memory", at_least=3
        )
        replayed = None
        for event in await store.events("r1"):
            replayed = apply(replayed, event)
        assert replayed == created
        assert created.epoch == 4

    async def test_creating_again_does_nothing(self, store: Store) -> None:
        story = Story()
        first = story.rollout
        created = await story.begin(store)
        again = await store.create(first, bundle(), [story.beginning], worker=worker(), provider="memory", at_least=9)
        assert again == created
        assert len(await store.events("r1")) == 1

    async def test_an_endpoint_has_one_active_rollout_and_pending_counts(self, store: Store) -> None:
        await Story("r1").begin(store)
        with pytest.raises(UsageError, match=r"r1 \(pending\)"):
            await Story("r2").begin(store)
        with pytest.raises(UnknownRollout):
            await store.rollout("r2")
        assert await store.events("r2") == ()
        other = await Story("r3", endpoint="machine:/other").begin(store)
        assert other.epoch == 1

    async def test_a_rollout_that_ended_frees_its_endpoint(self, store: Store) -> None:
        story = Story("r1")
        await story.begin(store)
        await store.commit(story.drive())
        behind = Story("r1", writer="behind")
        behind.rollout = story.rollout
        await store.commit(story.finish())
        after = await Story("r2").begin(store)
        assert after.epoch == 2
        assert [rollout.id for rollout in await store.rollouts()] == ["r2", "r1"]
        assert [rollout.id for rollout in await store.rollouts(active=True)] == ["r2"]
        assert [rollout.id for rollout in await store.rollouts(active=False)] == ["r1"]
        assert [rollout.id for rollout in await store.rollouts(limit=1)] == ["r2"]
        assert await store.rollouts(endpoint="elsewhere") == ()
        with pytest.raises(LeaseLost, match="has ended"):
            await store.commit(behind.next(Waited(None)))
        with pytest.raises(UsageError, match="has ended"):
            await store.acquire("r1", worker=worker(), held_by=None, at_least=0)
        assert (await store.rollout("r2")).epoch == 2

    async def test_two_creates_at_once_and_one_wins(self, opened: Opened) -> None:
        stores = [await opened() for _ in range(4)]
        stories = [Story(f"r{n}") for n in range(4)]
        results = await asyncio.gather(
            *(story.begin(one) for story, one in zip(stories, stores, strict=True)), return_exceptions=True
        )
        assert sum(isinstance(result, UsageError) for result in results) == 3, results
        assert len(await stores[0].rollouts()) == 1

    # --- the lease ----------------------------------------------------------------------------------------------

    async def test_two_acquires_at_once_and_one_wins(self, opened: Opened) -> None:
        stores = [await opened() for _ in range(4)]
        story = Story()
        await story.begin(stores[0], worker("dead"))
        results = await asyncio.gather(
            *(one.acquire("r1", worker=worker(f"w{n}"), held_by="dead", at_least=0) for n, one in enumerate(stores)),
            return_exceptions=True,
        )
        (won,) = [result for result in results if not isinstance(result, BaseException)]
        lost = [result for result in results if isinstance(result, BaseException)]
        assert all(isinstance(result, LeaseLost) and "pid 4711 on host alpha" in str(result) for result in lost)
        assert won.epoch == 2
        assert await stores[0].rollout("r1") == won

    async def test_the_epoch_only_grows_and_passes_the_providers(self, store: Store) -> None:
        story = Story()
        await story.begin(store, at_least=0)
        taken = await store.acquire("r1", worker=worker("w2"), held_by="w1", at_least=41)
        assert taken.epoch == 42
        again = await store.acquire("r1", worker=worker("w3"), held_by="w2", at_least=0)
        assert again.epoch == 43

    async def test_a_driver_that_was_followed_cannot_write_any_more(self, store: Store) -> None:
        story = Story()
        await story.begin(store)
        await store.commit(story.drive())
        await store.post(command("c1"))
        before = await store.rollout("r1")
        taken = await store.acquire("r1", worker=worker("w2", pid=5), held_by="w1", at_least=0)
        late = story.next(
            Waited(Waiting("hold", "holds")),
            intents=(intent(),),
            consumed=(Consumed("c1", 3, "accepted"),),
            measurement=(1, 1, measurement()),
            evidence=evidence(),
        )
        with pytest.raises(LeaseLost, match="pid 5 on host alpha"):
            await store.commit(late)
        assert await store.rollout("r1") == taken == replace(before, epoch=2, worker="w2")
        assert len(await store.events("r1")) == 2
        assert await store.intents("r1") == ()
        assert len(await store.commands("r1")) == 1
        assert await store.measurements("r1") == ()
        assert await store.evidence("r1") is None

    async def test_a_commit_in_doubt_can_be_repeated_even_when_fenced_meanwhile(self, store: Store) -> None:
        story = Story()
        await story.begin(store)
        commit = story.next(Driven("w1", "alpha", 4711, 1), measurement=(1, 1, measurement()))
        await store.commit(commit)
        await store.commit(commit)
        await store.commit(story.next(Waited(None)))
        await store.commit(commit)
        await store.acquire("r1", worker=worker("w2"), held_by="w1", at_least=0)
        await store.commit(commit)
        assert [event.seq for event in await store.events("r1")] == [1, 2, 3]
        assert (await store.rollout("r1")).worker == "w2"

    async def test_release_only_ends_ones_own_drive(self, store: Store) -> None:
        story = Story()
        first = await story.begin(store)
        taken = await store.acquire("r1", worker=worker("w2"), held_by="w1", at_least=0)
        await store.release(first)
        assert (await store.rollout("r1")).worker == "w2"
        await store.release(taken)
        assert (await store.rollout("r1")).worker is None
        await store.release(taken)
        with pytest.raises(LeaseLost):
            await store.acquire("r1", worker=worker("w3"), held_by="w2", at_least=0)
        assert (await store.acquire("r1", worker=worker("w3"), held_by=None, at_least=0)).epoch == 3

    async def test_a_released_rollout_has_no_worker(self, store: Store) -> None:
        story = Story()
        await story.begin(store)
        await store.commit(story.drive())
        await store.commit(story.next(Released("asked")))
        assert (await store.rollout("r1")).worker is None

    # --- committing ---------------------------------------------------------------------------------------------

    async def test_a_gap_in_the_journal_is_refused_whole(self, store: Store) -> None:
        story = Story()
        created = await story.begin(store)
        story.drive()
        with pytest.raises(StoreError, match="cannot follow"):
            await store.commit(story.next(Waited(None), intents=(intent(),)))
        with pytest.raises(StoreError, match="counts 3 events"):
            await store.commit(replace(story.next(), events=()))
        assert await store.rollout("r1") == created
        assert await store.intents("r1") == ()

    async def test_events_of_two_writers_under_one_epoch_are_refused(self, store: Store) -> None:
        story, twin = Story(), Story(writer="other")
        twin.rollout = await story.begin(store)
        await store.commit(story.drive())
        with pytest.raises(StoreError):
            await store.commit(twin.drive())
        assert [event.id for event in await store.events("r1")] == ["r1..1", "r1..2"]

    async def test_every_kind_of_event_comes_back_as_it_was(self, store: Store) -> None:
        story = Story()
        created = await story.begin(store)
        for body in every_body():
            seq = created.last_seq + 1
            event = replace(story.beginning, seq=seq, id=f"x{seq}", body=body, epoch=created.epoch)
            created = replace(created, last_seq=seq)
            await store.commit(Commit(created, (event,)))
            assert await store.events("r1", after=seq - 1) == (event,)
        assert [event.seq for event in await store.events("r1")] == list(range(1, created.last_seq + 1))
        assert len(await store.events("r1", after=2, limit=3)) == 3

    async def test_the_row_comes_back_as_it_was(self, store: Store) -> None:
        story = Story()
        await story.begin(store)
        await store.commit(story.drive())
        open_intent = intent(epoch=1, operation=operation(), state="begun", attempt=2, not_before=T0)
        commit = story.next(Intended(open_intent), Waited(Waiting("operation", "moves", T0)), intents=(open_intent,))
        await store.commit(commit)
        assert await store.rollout("r1") == commit.rollout
        assert commit.rollout.intents == {"r1.1": open_intent}

    async def test_intents_are_replaced_by_key_and_keep_their_order(self, store: Store) -> None:
        story = Story()
        await story.begin(store)
        await store.commit(story.drive())
        await store.commit(story.next(intents=(intent("r1.2"), intent("r1.10"))))
        await store.commit(story.next(intents=(intent("r1.1"), intent("r1.2", state="done", operation=operation()))))
        stored = await store.intents("r1")
        assert [(one.key, one.state) for one in stored] == [("r1.2", "done"), ("r1.10", "open"), ("r1.1", "open")]
        assert stored[0].operation == operation()

    async def test_measurement_cursor_and_evidence_change_together(self, store: Store) -> None:
        story = Story()
        await story.begin(store)
        assert await store.evidence("r1") is None
        await store.commit(story.drive())
        for number in (1, 2, 3):
            waiting = Waited(Waiting("evidence", str(number)))
            feed = (number, 1, measurement(number))
            await store.commit(story.next(waiting, measurement=feed, evidence=evidence(number, logs=-number)))
            assert await store.evidence("r1") == evidence(number, logs=-number)
        assert [seq for seq, _, _ in await store.measurements("r1")] == [1, 2, 3]
        assert await store.measurements("r1", after=2) == ((3, 1, measurement(3)),)
        # A measurement that is already there spoils the whole commit, the evidence included.
        with pytest.raises(StoreError):
            await store.commit(story.next(Waited(None), measurement=(3, 1, measurement(3)), evidence=evidence(4)))
        assert await store.evidence("r1") == evidence(3, logs=-3)
        assert len(await store.events("r1")) == 5

    async def test_infinite_evidence_survives(self, store: Store) -> None:
        story = Story()
        await story.begin(store)
        for logs in (-math.inf, math.inf):
            await store.commit(story.next(evidence=Evidence(1, measurement().cursor, gates(logs))))
            stored = await store.evidence("r1")
            assert stored is not None
            assert stored.gates == gates(logs)
            wealth = stored.gates.tracks[0].starts[0].wealth
            assert {purse.log for purse in wealth.values()} == {purse.logs[0] for purse in wealth.values()} == {logs}

    async def test_an_adopted_bundle_has_to_be_kept_first(self, store: Store) -> None:
        story = Story()
        await story.begin(store)
        story.rollout = replace(story.rollout, bundle="c" * 64)
        with pytest.raises(StoreError):
            await store.commit(story.next())
        await store.put_bundle(bundle("c" * 64))
        await store.put_bundle(bundle("c" * 64))
        await store.commit(story.next())
        assert (await store.bundle("c" * 64)).sha256 == "c" * 64
        with pytest.raises(StoreError, match="no bundle"):
            await store.bundle("d" * 64)

    async def test_only_a_registered_worker_drives(self, store: Store) -> None:
        story = Story()
        await story.begin(store)
        with pytest.raises(StoreError):
            await store.commit(story.next(Driven("nobody", "alpha", 1, 1)))

    # --- commands -----------------------------------------------------------------------------------------------

    async def test_commands_are_taken_in_order_and_once(self, opened: Opened) -> None:
        one, two = await opened(), await opened()
        await Story().begin(one)
        posted = [await (one, two)[n % 2].post(command(f"c{n}")) for n in range(5)]
        assert [c.n for c in posted] == sorted({c.n for c in posted})
        again = await two.post(command("c1", kind="abort", args={}))
        assert again == posted[1]
        assert await one.commands("r1") == tuple(posted)
        assert posted[0].args == {"reason": "lunch", "n": [1, None, 0.5]}
        with pytest.raises(UnknownRollout):
            await one.post(command("c9", rollout="r9"))
        assert await one.commands("r9") == ()

    async def test_a_command_is_consumed_in_the_commit_that_acts_on_it(self, store: Store) -> None:
        story = Story()
        await story.begin(store)
        for name in ("c1", "c2"):
            await store.post(command(name))
        acted = story.next(Commanded("pause", True, "asked"), consumed=(Consumed("c1", 2, "accepted"),))
        await store.commit(acted)
        await store.commit(acted)
        assert [c.id for c in await store.commands("r1")] == ["c2"]
        first, second = await store.commands("r1", pending=False)
        assert (first.consumed_seq, first.outcome) == (2, "accepted")
        assert (second.consumed_seq, second.outcome) == (None, None)

    async def test_a_command_that_is_not_pending_spoils_the_commit(self, store: Store) -> None:
        story = Story()
        await story.begin(store)
        await store.post(command("c1"))
        await store.commit(story.next(Commanded("pause", True, "asked"), consumed=(Consumed("c1", 2, "accepted"),)))
        before = story.rollout
        for gone in ("c1", "never"):
            bad = Story()
            bad.rollout = before
            with pytest.raises(StoreError, match="not pending"):
                await store.commit(bad.next(Waited(None), consumed=(Consumed(gone, 3, "accepted"),)))
        assert await store.rollout("r1") == before
        assert len(await store.events("r1")) == 2

    # --- workers ------------------------------------------------------------------------------------------------

    async def test_beats_count_and_taking_over_does_not_reset_them(self, store: Store) -> None:
        assert await store.worker("w1") is None
        await store.put_worker(worker("w1"))
        for _ in range(3):
            await store.beat("w1")
        await Story().begin(store, worker("w1"))
        registered = await store.worker("w1")
        assert registered is not None
        assert registered.beat == 3
        await store.put_worker(worker("w1", pid=1))
        assert await store.worker("w1") == worker("w1", pid=1)
        with pytest.raises(StoreError, match="no worker"):
            await store.beat("nobody")

    # --- asking for what is not there ---------------------------------------------------------------------------

    async def test_what_is_not_there_is_said_or_empty(self, store: Store) -> None:
        with pytest.raises(UnknownRollout, match="rollout list"):
            await store.rollout("r1")
        with pytest.raises(UnknownRollout):
            await store.acquire("r1", worker=worker(), held_by=None, at_least=0)
        with pytest.raises(UnknownRollout):
            await store.commit(Story().next())
        assert await store.rollouts() == ()
        assert await store.events("r1") == ()

    async def test_a_closed_handle_says_so_and_leaves_the_others_alone(self, opened: Opened) -> None:
        one, two = await opened(), await opened()
        await one.aclose()
        await one.aclose()
        with pytest.raises(StoreError, match="is closed"):
            await one.rollouts()
        assert await two.rollouts() == ()
        assert two.id == one.id
