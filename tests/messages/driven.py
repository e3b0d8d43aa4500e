"""What is said about other drivers of a rollout, and about a journal that would not be right."""

from dataclasses import replace
from typing import Any

from orchestrator.errors import StoreError
from orchestrator.events import Driven, Waited
from orchestrator.store.base import Consumed
from orchestrator.store.memory import MemoryStore
from orchestrator.store.sql import SqlStore
from tests.engine.store_samples import Story, command, measurement, worker
from tests.messages.asked import held
from tests.messages.bench import Bed, Bench, lab, real
from tests.messages.entry import NOT_YOURS, Message
from tests.messages.kept import TRY_AGAIN, stored


async def second_driver(made: Bed) -> Any:
    """The first one lives."""
    await held(made)
    return made.resume()


async def asleep(made: Bed) -> Any:
    """The beats do not get through."""
    await held(made)

    async def no_beat(_: str) -> None:
        raise StoreError("the store does not answer")

    made.bench.patch(made.app.store, "beat", no_beat)
    return await made.running


async def taken_over(store: SqlStore, story: Story) -> Any:
    """w2 drives now."""
    await store.acquire("r1", worker=worker("w2", 4712), held_by="w1", at_least=0)
    await store.commit(story.drive())


async def taken_over_and_left(store: SqlStore, story: Story) -> Any:
    """w2 has driven."""
    taken = await store.acquire("r1", worker=worker("w2", 4712), held_by="w1", at_least=0)
    await store.release(taken)
    await store.commit(story.drive())


async def let_go(store: SqlStore, story: Story) -> Any:
    """w1 left."""
    await store.release(story.rollout)
    await store.acquire("r1", worker=worker("w2"), held_by="w1", at_least=0)


async def ended(store: SqlStore, story: Story) -> Any:
    """It ended meanwhile."""
    await store.commit(story.drive())
    await store.commit(story.finish())
    await store.acquire("r1", worker=worker("w2"), held_by="w1", at_least=0)


async def over(store: SqlStore, story: Story) -> Any:
    """It ended, and a driver that does not know goes on."""
    await store.commit(story.drive())
    behind = Story(writer="behind")
    behind.rollout = story.rollout
    await store.commit(story.finish())
    await store.commit(behind.next(Waited(None)))


async def spent(store: SqlStore, story: Story) -> Any:
    """It was acted on before."""
    await store.post(command("c1"))
    await store.commit(story.next(Driven("w1", "alpha", 4711, 1), consumed=[Consumed("c1", 2, "accepted")]))
    await store.commit(story.next(Waited(None), consumed=[Consumed("c1", 3, "accepted")]))


async def torn(store: SqlStore, story: Story) -> Any:
    """Half of a commit is there."""
    first = story.drive()
    await store.commit(first)
    second = story.next(Waited(None))
    await store.commit(replace(second, events=(*first.events, *second.events)))


async def gap(store: SqlStore, story: Story) -> Any:
    """One is left out."""
    story.drive()
    await store.commit(story.next(Waited(None)))


async def miscounted(store: SqlStore, story: Story) -> Any:
    """The row says more."""
    made = story.drive()
    await store.commit(replace(made, rollout=replace(made.rollout, last_seq=3)))


async def other_epoch(store: SqlStore, story: Story) -> Any:
    """The event says another one than the row."""
    made = story.drive()
    await store.commit(replace(made, events=(replace(made.events[0], epoch=7),)))


async def closed(bench: Bench) -> Any:
    """Too late."""
    store = await SqlStore.open(f"sqlite:///{bench.folder}/rollouts.db", token=lambda: "s", inline=True)
    await store.aclose()
    await store.rollouts()


async def closed_memory() -> Any:
    """Too late."""
    store = MemoryStore()
    await store.aclose()
    await store.rollouts()


async def same_id() -> Any:
    """Chosen twice, on two endpoints."""
    store = MemoryStore()
    await Story("r1").begin(store)
    await Story("r1", endpoint="machine:/other", writer="other").begin(store)


async def twice() -> Any:
    """The same number."""
    store, story = MemoryStore(), Story()
    await story.begin(store)
    for _ in range(2):
        await store.commit(story.next(Waited(None), measurement=(1, 0, measurement(1))))


DRIVERS = [
    Message(
        "lease.take",
        "a resume, while another process drives",
        lab(second_driver),
        "rollout <id> is driven by pid <pid> on host <host> since <time> UTC: «watch it with `rollout watch <id>`, or "
        "stop that process first»",
        TRY_AGAIN,
        stands="it is running as before",
    ),
    Message(
        "lease.check",
        "a driver could not renew its lease, because it was stopped for a while",
        lab(asleep),
        "this process could not renew its lease for 10 s (the store does not answer): ‹it has stopped before its next "
        "effect›, because another one may drive now; «`rollout resume` goes on»",
        TRY_AGAIN,
        "traffic blue 90%, green 10%; blue 2 of 2 healthy; green 2 of 2 healthy",
    ),
    Message(
        "store.rules.lease_lost",
        "another process took over, and the first one goes on",
        stored(taken_over),
        "rollout r1: pid 4712 on host alpha took over (epoch 2); ‹this process has stopped before its next effect›, "
        "«look with `rollout status r1`»",
        TRY_AGAIN,
    ),
    Message(
        "store.rules.lease_lost",
        "another process took over and left, and the first one goes on",
        stored(taken_over_and_left),
        "rollout r1: another process, which let it go again, took over (epoch 2); ‹this process has stopped before "
        "its next effect›, «look with `rollout status r1`»",
        TRY_AGAIN,
    ),
    Message(
        "store.rules.too_late",
        "two processes want to take it up, and the other one is quicker",
        stored(lambda store, story: store.acquire("r1", worker=worker("w2"), held_by=None, at_least=0)),
        "rollout r1 is driven by pid 4711 on host alpha now: «try again, or look with `rollout status r1`»",
        TRY_AGAIN,
    ),
    Message(
        "store.rules.too_late",
        "it is let go by the process that was believed to drive it",
        stored(let_go),
        "rollout r1 was let go by another process just now: «try again, or look with `rollout status r1`»",
        TRY_AGAIN,
    ),
    Message(
        "store.rules.ended",
        "it ends in the moment in which another process takes it up",
        stored(ended),
        "rollout r1 has ended (succeeded): ‹nobody can drive it any more›; «`rollout run` begins a new one»",
    ),
    Message(
        "store.rules.over",
        "a driver writes to what another one has ended",
        stored(over),
        "rollout r1 has ended (succeeded): ‹nothing more can be written to it›",
        TRY_AGAIN,
    ),
    Message(
        "store.rules.occupied",
        "two runs begin on one endpoint at the same moment",
        stored(lambda store, story: Story("r2").begin(store)),
        "endpoint diabetes already has an active rollout, r1 (pending): «let it end, `rollout resume r1`, or `rollout "
        "abort r1`»",
    ),
    Message(
        "store.rules.unknown",
        "a rollout that this store does not have",
        stored(lambda store, story: store.rollout("r9")),
        "there is no rollout r9 in this store: «`rollout list` shows those that are»",
    ),
]

MISTAKES = [
    Message(
        "store.rules.unknown_worker",
        "a worker beats that was never registered",
        stored(lambda store, story: store.beat("w9")),
        "there is no worker w9 in this store: it has to be registered before it can drive",
        TRY_AGAIN,
        do=NOT_YOURS,
    ),
    Message(
        "store.rules.unknown_bundle",
        "the bundle of a rollout is gone",
        stored(lambda store, story: store.bundle("f" * 64)),
        "there is no bundle ffffffffffff in this store: it is damaged, or not the one that the rollout was started "
        "with",
        TRY_AGAIN,
    ),
    Message(
        "store.rules.spent",
        "a command is acted on twice",
        stored(spent),
        "command c1 is not pending for rollout r1: ‹nothing was written›; «please report this»",
        TRY_AGAIN,
    ),
    Message(
        "store.rules.torn",
        "a journal has another event where one is to be written",
        stored(torn),
        "the journal of rollout r1 has other events in this place: ‹nothing was written›; «please report this»",
        TRY_AGAIN,
    ),
    Message(
        "store.rules.check_sequence",
        "an event does not follow the last one",
        stored(gap),
        "the journal of rollout r1 ends at 1, event 3 of r1 cannot follow: ‹nothing was written›; «please report this»",
        TRY_AGAIN,
    ),
    Message(
        "store.rules.check_sequence",
        "a rollout counts other events than its journal has",
        stored(miscounted),
        "rollout r1 counts 3 events, its journal would have 2: ‹nothing was written›; «please report this»",
        TRY_AGAIN,
    ),
    Message(
        "store.rules.check_writer",
        "an event of another epoch",
        stored(other_epoch),
        "event 2 of rollout r1 has epoch 7, its writer has 1: ‹nothing was written›; «please report this»",
        TRY_AGAIN,
    ),
    Message(
        "store.sql._opened store.memory._opened",
        "a store is used after it was closed",
        real(closed),
        "the store <folder>/rollouts.db is closed",
        TRY_AGAIN,
        do=NOT_YOURS,
    ),
    Message(
        "store.memory._opened",
        "a store in memory is used after it was closed",
        real(closed_memory),
        "the store memory is closed",
        TRY_AGAIN,
        do=NOT_YOURS,
    ),
    Message(
        "store.memory.create",
        "a rollout's id is there already",
        real(same_id),
        "there already is a rollout r1 in this store: «choose another id»",
        TRY_AGAIN,
    ),
    Message(
        "store.memory._check",
        "a measurement is kept twice",
        real(twice),
        "measurement 1 of rollout r1 is already kept",
        TRY_AGAIN,
        do=NOT_YOURS,
    ),
]

ENTRIES = [*DRIVERS, *MISTAKES]
