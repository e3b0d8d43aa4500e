"""Complaints among orders, from a CSV file that somebody appends to: deployment,orders,complaints."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from providers.base import Context
from providers.measurement import Count
from providers.metrics.base import Form, Reading, Spec


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")

    file: Path


class CsvMetric:
    Options: ClassVar[type[BaseModel]] = Options

    def __init__(self, options: BaseModel, context: Context) -> None:
        self.file = Options.model_validate(options).file

    @property
    def form(self) -> Form:
        return "counts"

    async def query(self, spec: Spec, since: Mapping[str, Any] | None) -> Reading:
        shown = f"rows of {spec.deployment} in {self.file}"
        try:
            whole, _, _ = self.file.read_text().rpartition("\n")  # the last line may be half written
            rows = list(csv.DictReader(whole.splitlines()))
            now = {"row": len(rows)}
            if not since:
                return Reading(now, query=shown)
            if len(rows) < since["row"]:
                return Reading(now, nothing="the file became shorter: what was lost is not known", query=shown)
            mine = [row for row in rows[since["row"] :] if row["deployment"] == spec.deployment]
            orders, complaints = (sum(int(row[name]) for row in mine) for name in ("orders", "complaints"))
        except (OSError, KeyError, TypeError, ValueError) as error:
            return Reading(since or {}, problem=f"{self.file} cannot be read: {error}", query=shown)
        if not 0 <= complaints <= orders:
            return Reading(since, problem=f"{complaints} complaints of {orders} orders", query=shown)
        return Reading(now, Count(complaints, orders), query=shown)

    async def aclose(self) -> None:
        pass
