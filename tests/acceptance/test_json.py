"""`--output json` of the commands that work on an endpoint, of a real one: the same documents as of a simulated one.

The snapshots and the documents' words are those of tests/contract; `kept` there says how to write them anew.
"""

import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import PATIENCE, ROLLOUT
from tests.contract.desk import Said
from tests.contract.kept import Keeper

pytestmark = pytest.mark.needs("linux", "envoy")

STEPS = """
  - deploy: green
    deadline: 30s
"""


@pytest.fixture
def keeper(site: Any) -> Iterator[Keeper]:
    """Compares at once, and tells all differences at the end."""
    made = Keeper({str(site.home): "<home>", str(site.files): "<folder>", socket.gethostname(): "<host>"})
    yield made
    made.close()


def typed(site: Any, line: str, code: int = 0) -> Said:
    """`rollout LINE --output json` to its end, both streams apart."""
    done = subprocess.run(
        [*ROLLOUT, *line.split(), "--output", "json"],
        cwd=site.files,
        env=site.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == code, f"{line} ended with {done.returncode}, not {code}:\n{done.stdout}{done.stderr}"
    return Said(f"{line} --output json", done.returncode, done.stdout, done.stderr)


def test_a_real_endpoint(site: Any, keeper: Keeper) -> None:
    keeper.keep("local-endpoint-create", typed(site, "endpoint create endpoint.yml"), "endpoint")
    site.rollout("run", site.plan(steps=STEPS))
    keeper.keep("local-endpoint-show", typed(site, "endpoint show shop"), "endpoint")
    request = "--request sample-request.json"
    keeper.keep("local-endpoint-invoke", typed(site, f"endpoint invoke shop {request}"), "invoke")
    keeper.keep("local-endpoint-logs", typed(site, "endpoint logs shop"), "logs")
    keeper.keep("local-endpoint-keys", typed(site, "endpoint keys shop"), "keys")
    keeper.keep("local-endpoint-scale", typed(site, "endpoint scale shop green=2"), "scaled")
    moved = typed(site, "endpoint traffic shop blue=87.5 green=12.5 --yes")
    keeper.keep("local-endpoint-traffic", moved, "traffic")
    keeper.keep("local-load", typed(site, f"load shop {request} --rate 20/s --count 10 --deployment green"), "load")
    keeper.keep("endpoint-start", typed(site, "endpoint start shop"), "endpoint")
    keeper.keep("local-endpoint-delete", typed(site, "endpoint delete shop --yes"), "deleted")


def test_what_the_real_answers_have_in_common_with_simulated_ones() -> None:
    folder = Path(__file__).parents[1] / "contract" / "snapshots"
    for path in folder.glob("local-*.json"):
        real, made = json.loads(path.read_text()), json.loads((folder / path.name.removeprefix("local-")).read_text())
        assert real["document"] == made["document"]
        assert list(real["stdout"]) == list(made["stdout"]), f"{path.name}: other keys, or in another order"
