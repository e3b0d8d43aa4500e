import pytest

from orchestrator.store.base import Store
from orchestrator.store.memory import MemoryStore
from tests.engine.store_conformance import Opened, StoreConformance


class TestMemoryStore(StoreConformance):
    @pytest.fixture
    def opened(self) -> Opened:
        first = MemoryStore("test")

        async def open_one_more() -> Store:
            return first.handle()

        return open_one_more
