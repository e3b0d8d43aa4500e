"""What a snapshot hides, and that it hides nothing else."""

import copy
import json
from typing import Any

import pytest

from tests.contract.kept import FOLDER
from tests.contract.shapes import keys, misfits, shape

STATUS: dict[str, Any] = {
    "id": "shop-20261122-7kq3m",
    "phase": "running",
    "reason": None,
    "traffic": {"blue": 90, "green": 10},
    "started_at": "2026-11-22T10:00:00.123456+00:00",
    "driver": {"worker": "IJg-Dcre0r7cG3e1iD1L7U3AaFPGH7Oc", "host": "ada", "pid": 4711},
    "gates": [
        {
            "name": "errors",
            "verdict": "PASS",
            "candidate": {"requests": 20, "bad": 0, "rate": 0.0},
            "log_evidence_pass": 4.2,
            "notes": ["not corrected"],
        }
    ],
}


def test_what_varies_becomes_a_word_for_its_type() -> None:
    assert shape("rollout", STATUS, {"ada": "<host>"}) == {
        "id": "<rollout>",
        "phase": "running",
        "reason": None,
        "traffic": {"blue": 90, "green": 10},
        "started_at": "<time>",
        "driver": {"worker": "<token>", "host": "<host>", "pid": "<integer>"},
        "gates": [
            {
                "name": "errors",
                "verdict": "PASS",
                "candidate": {"requests": "<integer>", "bad": "<integer>", "rate": "<number>"},
                "log_evidence_pass": "<number>",
                "notes": ["<text>"],
            }
        ],
    }


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("phase",), "paused"),
        (("reason",), "why"),
        (("traffic", "green"), 0.1),
        (("started_at",), None),
        (("started_at",), 1795341600.0),
        (("started_at",), "2026-11-22T10:00:00"),
        (("started_at",), "2026-11-22T10:00:00Z"),
        (("started_at",), "2026-11-22T19:00:00+09:00"),
        (("id",), "shop"),
        (("driver", "pid"), "4711"),
        (("driver", "pid"), 4711.0),
        (("driver", "worker"), "short"),
        (("driver", "host"), "another"),
        (("gates", 0, "verdict"), "pass"),
        (("gates", 0, "candidate", "requests"), None),
        (("gates", 0, "candidate", "rate"), "0%"),
        (("gates", 0, "log_evidence_pass"), None),
        (("gates", 0, "notes"), "not corrected"),
        (("gates", 0, "notes"), [""]),
        (("gates",), []),
    ],
)
def test_another_type_or_form_is_not_hidden(path: tuple[Any, ...], value: Any) -> None:
    changed = copy.deepcopy(STATUS)
    place: Any = changed
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    assert shape("rollout", changed, {"ada": "<host>"}) != shape("rollout", STATUS, {"ada": "<host>"})


@pytest.mark.parametrize("key", STATUS)
def test_a_key_that_goes_or_moves_is_not_hidden(key: str) -> None:
    def text(value: dict[str, Any]) -> str:
        return json.dumps(shape("rollout", value, {}))

    assert text({name: each for name, each in STATUS.items() if name != key}) != text(STATUS)
    assert text({(f"{name}_" if name == key else name): each for name, each in STATUS.items()}) != text(STATUS)
    moved = {**{name: each for name, each in STATUS.items() if name != key}, key: STATUS[key]}
    assert (text(moved) == text(STATUS)) is (key == list(STATUS)[-1])


@pytest.mark.parametrize(
    ("document", "found", "misfit"),
    [
        ("rollout", {"traffic": {"blue": 100}}, None),
        ("rollout", {"traffic": {"blue": 87.5, "green": 12.5}}, None),
        ("rollout", {"traffic": {}}, None),
        ("rollout", {"traffic": {"blue": 1000}}, "sums neither to 0 nor to 100"),
        ("event", {"body": {"traffic": {"blue": 1000}}}, None),
        ("event", {"body": {"traffic": {"blue": 100}}}, "sums neither to 0 nor to 1000"),
        ("rollout", {"gates": [{"candidate": {"rate": 2.5}}]}, "no rate from 0 to 1"),
        ("load", {"rate": 2.5}, None),
        ("load", {"latency_us": {"p50": 1.5}}, "no whole number of microseconds"),
        ("rollout", {"quantile_us": 1.5}, "no whole number of microseconds"),
        ("rollout", {"step": {"hold_left": -1.0}}, "less than nothing"),
    ],
)
def test_units_are_looked_after(document: str, found: Any, misfit: str | None) -> None:
    told = list(misfits(document, found))
    assert (misfit is None) is (told == [])
    assert misfit is None or misfit in told[0]


def test_keys_are_named_as_in_the_page() -> None:
    assert keys("endpoint", {"deployments": {"blue": {"born": "<time>"}}, "traffic": {"blue": 12.5, "green": 87}}) == {
        "endpoint": {
            "deployments": {"map of objects"},
            "deployments.*.born": {"time"},
            "traffic": {"map of numbers"},
        }
    }
    told = keys("event", {"body": {"kind": "waited", "waiting": {"kind": "hold", "until": None}}})
    assert told == {
        "event": {"body": {"object"}},
        "waited": {"waiting": {"object"}},
        "waiting": {"kind": {"string"}, "until": {"null"}},
    }


def test_no_snapshot_holds_what_belongs_to_one_run_only() -> None:
    for path in FOLDER.glob("*.json"):
        text = path.read_text("utf-8")
        assert "/tmp/" not in text, path.name
        assert "2026-" not in text.replace("2026-11-22", ""), path.name
