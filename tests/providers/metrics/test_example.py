"""The stranger's metric of the documentation: found by its entry point, and as strict as ours."""

import sys
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from providers import registry
from providers.metrics.base import Metric
from providers.testing.metrics import MetricConformance
from tests.providers.metrics.conftest import SPEC

EXAMPLE = Path(__file__).parents[3] / "examples" / "metrics"


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The example's module, and what its pyproject.toml announces, as an installer would leave them."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    site = tmp_path / "site"
    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    (info / "entry_points.txt").write_text(
        "".join(
            f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
            for group, points in groups
        )
    )
    (site / "csv_metric.py").write_text((EXAMPLE / "csv_metric.py").read_text())
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])
    yield
    sys.modules.pop("csv_metric", None)


class TestCsv(MetricConformance):
    @pytest.fixture
    def metric(self, tmp_path: Path, opened: Any) -> Metric:
        self.now, self.file = datetime(2026, 1, 1, tzinfo=UTC), tmp_path / "complaints.csv"
        self.file.write_text("deployment,orders,complaints\ngreen,100,1\nblue,300,3\n")
        return opened("csv", file=str(self.file))

    async def later(self) -> datetime:
        self.now += timedelta(minutes=1)
        return self.now

    async def count(self, total: int, bad: int) -> None:
        with self.file.open("a") as file:
            file.write(f"green,{total},{bad}\nblue,50,0\n")

    async def down(self, *, down: bool) -> None:
        away = self.file.with_suffix(".away")
        (self.file if down else away).rename(away if down else self.file)


def test_it_is_known_by_name() -> None:
    assert "csv" in registry.known_metrics()
    assert registry.metric_form("csv", {"file": "x.csv"}) == "counts"
    with pytest.raises(registry.UnknownMetric, match=r"Metric cvs is not known \(did you mean csv\?\)"):
        registry.metric_form("cvs", {})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("deployment,orders,complaints\n", "the file became shorter"),
        ("deployment,orders,complaints\ngreen,1,0\ngreen,many,0\n", "cannot be read"),
        ("deployment,orders,complaints\ngreen,1,0\ngreen,3,5\n", "5 complaints of 3 orders"),
        ("deployment,orders,complaints\ngreen,1,0\ngreen,3", ""),
    ],
)
async def test_what_is_wrong_with_the_file_is_said(tmp_path: Path, opened: Any, text: str, words: str) -> None:
    file = tmp_path / "c.csv"
    file.write_text("deployment,orders,complaints\ngreen,1,0\n")
    metric = opened("csv", file=str(file))
    mark = (await metric.query(SPEC, None)).mark
    file.write_text(text)
    reading = await metric.query(SPEC, mark)
    assert words in reading.nothing + reading.problem
    assert (reading.count is None) == bool(words)
