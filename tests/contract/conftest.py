"""A desk for each scene, and the keeper of its snapshots."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.desk import Desk, opened
from tests.contract.kept import Keeper


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A folder, a home and a cloud of the test's own."""
    with opened(tmp_path) as made:
        yield made


@pytest.fixture
def keeper(desk: Desk) -> Iterator[Keeper]:
    """Compares at once, and tells all differences at the end."""
    made = Keeper(desk.places)
    yield made
    made.close()
