"""The quickstart's models: score.py gives what the coefficients say, and the bad candidates are bad as described."""

import importlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "quickstart"
REQUEST = (EXAMPLE / "sample-request.json").read_text(encoding="utf-8")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """Imports a script of the example as the scoring host does, and leaves nothing behind, not even bytecode."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(str(EXAMPLE / "onlinescoring"))
    before = set(sys.modules)

    def load(name: str, model: str = "model-2") -> ModuleType:
        monkeypatch.setenv("AZUREML_MODEL_DIR", str(EXAMPLE / model))
        return importlib.import_module(name)

    yield load
    for name in set(sys.modules) - before:
        if name.startswith("score"):
            del sys.modules[name]


def by_hand(model: str) -> list[float]:
    """The predictions in plain arithmetic: no numpy, nothing shared with score.py."""
    ridge = json.loads((EXAMPLE / model / "model" / "ridge.json").read_text(encoding="utf-8"))
    rows = json.loads(REQUEST)["data"]
    return [ridge["intercept"] + sum(x * c for x, c in zip(row, ridge["coefficients"], strict=True)) for row in rows]


@pytest.mark.parametrize("model", ["model-1", "model-2"])
def test_predictions_are_those_of_the_coefficients(script, model):
    score = script("score", model)
    score.init()
    answer = score.run(REQUEST)
    assert answer["predictions"] == pytest.approx(by_hand(model), abs=0.006)  # rounded to two places
    for (low, high), prediction in zip(answer["intervals"], answer["predictions"], strict=True):
        assert low < prediction < high
        assert 100 < high - low < 300  # 2 x 1.645 sigma, with a noise of 54 to 60 and some for the coefficients
    json.dumps(answer)


def test_the_two_models_differ_and_the_plan_expects_green(script):
    assert by_hand("model-1") != pytest.approx(by_hand("model-2"), abs=1)
    assert f"predictions.0: {by_hand('model-2')[0]:.2f}" in (EXAMPLE / "plan.yml").read_text(encoding="utf-8")


def test_every_instance_gives_the_same_answer(script):
    score = script("score")
    score.init()
    first = score.run(REQUEST)
    score.init()
    assert score.run(REQUEST) == first


@pytest.mark.parametrize("body", ['{"data": [[1, 2, 3]]}', '{"data": []}', "{}", "no json"])
def test_a_bad_request_raises(script, body):
    score = script("score")
    score.init()
    with pytest.raises((ValueError, KeyError)):
        score.run(body)


def test_errors_fails_every_tenth_request_and_not_the_first(script):
    candidate = script("score_errors")
    candidate.init()
    outcomes = []
    for _ in range(30):
        try:
            candidate.run(REQUEST)
            outcomes.append(True)
        except RuntimeError:
            outcomes.append(False)
    assert [n for n, fine in enumerate(outcomes, 1) if not fine] == [10, 20, 30]


def test_slow_is_slow_and_right(script):
    good, slow = script("score"), script("score_slow")
    slow.init()
    started = time.perf_counter()
    answer = slow.run(REQUEST)
    assert time.perf_counter() - started >= 0.010
    assert answer == good.run(REQUEST)


def test_crashes_does_not_survive_its_start(script):
    with pytest.raises(RuntimeError, match="unknown format"):
        script("score_crashes").init()


def test_hangs_never_returns_from_init(script, monkeypatch):
    candidate = script("score_hangs")

    class EnoughError(Exception):
        pass

    naps = iter([None] * 3)

    def sleep(seconds):
        if next(naps, "over") == "over":
            raise EnoughError

    monkeypatch.setattr(candidate.time, "sleep", sleep)
    with pytest.raises(EnoughError):
        candidate.init()
