"""A simulated provider with faults to order, for tests of the orchestrator and of anyone's own tools.

    world = World(durations={"put_deployment": 30.0})
    provider = MemoryProvider.in_world(world, context)
    world.traffic("shop", rate=200.0)
    world.behave("shop", "green", Behaviour(error_rate=0.1))
    world.fail_next("set_traffic", Temporary("The answer was lost."), after_effect=True)

It keeps time by the context's clock and sleeps in asyncio's loop time only, so hours pass in milliseconds under a
virtual clock.
"""

from providers.memory.provider import MemoryProvider, named_world
from providers.memory.state import Effect
from providers.memory.traffic import Behaviour
from providers.memory.world import DURATIONS, World

__all__ = ["DURATIONS", "Behaviour", "Effect", "MemoryProvider", "World", "named_world"]
