"""The conformance suite: what every provider must do, as tests that its author runs on it.

The protocols of `providers.base` say it in words; here it is said so that it can fail. Subclass `ProviderConformance`
in a test module, give it the fixtures and hooks that it names, and pytest (with pytest-asyncio, in its auto mode) does
the rest. It waits by the hook `settle` only, so it runs in real time, and on a virtual clock alike. What a provider
cannot do at all (no `measure`, no mirror) is skipped, with the reason.

    pytest.register_assert_rewrite("providers.testing")   # in conftest.py: failed assertions then show their values

    class TestMine(ProviderConformance):
        @pytest.fixture
        def provider(self, ...): ...
        @pytest.fixture
        def other(self, provider, ...): ...

Each test begins in a world where the endpoint does not exist, and leaves what it made there: the fixtures clean up.
"""

from typing import Any

from providers.testing.control import ControlPlane
from providers.testing.data import DataPlane
from providers.testing.predictions import Predictions
from providers.testing.suite import pytest

__all__ = ["ProviderConformance"]


class ProviderConformance(ControlPlane, DataPlane, Predictions):
    """Subclass it with a name that pytest collects; `providers.testing.suite.Suite` lists the fixtures and hooks."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Raises ImportError when pytest is not installed; the module alone can be imported without it."""
        super().__init_subclass__(**kwargs)
        if pytest is None:
            raise ImportError(
                "The conformance suite runs under pytest: install pytest and pytest-asyncio, then run it again."
            )
