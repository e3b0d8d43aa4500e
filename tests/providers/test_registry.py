"""Providers and metrics are found by entry points, from real distributions' metadata on the path."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import BaseModel

from providers import registry
from providers.base import Context
from providers.errors import Permanent
from providers.memory import MemoryProvider
from providers.metrics.prometheus import PrometheusMetric

CLOCK = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def offer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Install one more distribution, which offers these providers."""

    def install(distribution: str, group: str = "rollout.providers", **points: str) -> None:
        info = tmp_path / f"{distribution}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        lines = "".join(f"{name} = {value}\n" for name, value in points.items())
        (info / "entry_points.txt").write_text(f"[{group}]\n{lines}")

    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return install


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(home=tmp_path, clock=lambda: CLOCK, token=lambda: "t")


def test_our_own_providers_are_known() -> None:
    assert {"local", "memory"} <= set(registry.known())
    assert registry.find("memory") is MemoryProvider


def test_a_strangers_provider_is_found(offer) -> None:
    offer("stranger", elsewhere="providers.memory:MemoryProvider")
    assert "elsewhere" in registry.known()
    assert registry.find("elsewhere") is MemoryProvider


def test_an_unknown_name_is_answered_with_the_known_ones(offer) -> None:
    offer("stranger", elsewhere="providers.memory:MemoryProvider")
    with pytest.raises(
        registry.UnknownProvider, match=r"Provider elswhere is not known \(did you mean elsewhere\?\)"
    ) as e:
        registry.find("elswhere")
    assert isinstance(e.value, Permanent)
    assert isinstance(e.value, LookupError)
    assert "memory" in str(e.value)


def test_nothing_is_imported_before_it_is_asked_for(offer) -> None:
    offer("stranger", broken="no_such_module_anywhere:Provider")
    assert "broken" in registry.known()
    with pytest.raises(
        Permanent, match=r"Provider broken cannot be loaded .* No module named 'no_such_module_anywhere'"
    ):
        registry.find("broken")


def test_what_is_no_provider_is_refused(offer) -> None:
    offer("stranger", json="json:JSONDecoder")
    with pytest.raises(Permanent, match="Provider json is not one"):
        registry.find("json")


def test_the_same_offer_twice_is_one_and_two_different_ones_are_refused(offer) -> None:
    offer("one", twice="providers.memory:MemoryProvider")
    offer("two", twice="providers.memory:MemoryProvider")
    assert registry.find("twice") is MemoryProvider
    offer("three", twice="providers.memory.provider:MemoryProvider")
    with pytest.raises(
        Permanent, match=r"offered by providers.memory.provider:MemoryProvider and by providers.memory:"
    ):
        registry.find("twice")


def test_options_are_given_to_the_provider(context: Context) -> None:
    provider = registry.open_provider("memory", {"world": "registry", "capabilities": {"mirror_limit": "100"}}, context)
    assert isinstance(provider, MemoryProvider)
    assert provider.world.name == "registry"
    assert provider.world.capabilities.mirror_limit == 100
    again = registry.open_provider("memory", {"world": "registry"}, context)
    assert isinstance(again, MemoryProvider)
    assert again.world is provider.world


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"wrld": "x"}, r"^Provider memory: option wrld is not known \(did you mean world\?\): there is .*seed.*\.$"),
        ({"rate": "s3cret"}, r"^Provider memory: option rate: Input should be a valid number.*\.$"),
        ({"rate": -1}, r"^Provider memory: option rate: Input should be greater than or equal to 0\.$"),
        (
            {"durations": {"fly": 1}},
            r"^Provider memory: option durations: fly is no kind of operation; there are .*scale",
        ),
        (
            {"capabilities": {"mirror": 1}},
            r"^Provider memory: option capabilities: mirror is no capability; there are ",
        ),
    ],
)
def test_wrong_options_are_refused_in_a_sentence_without_their_value(context: Context, options, sentence) -> None:
    with pytest.raises(Permanent, match=sentence) as error:
        registry.open_provider("memory", options, context)
    assert "s3cret" not in str(error.value)
    assert "\n" not in str(error.value)


# --- metrics --------------------------------------------------------------------------------------


class Careless:
    """A metric of a stranger, who made a mistake."""

    class Options(BaseModel):
        s: str = ""

    form = "counts"

    def __init__(self, options: Options, context: Context) -> None:
        if options.s:
            raise ValueError(options.s)


def test_our_own_metrics_are_known_and_are_no_providers() -> None:
    assert {"prometheus", "http"} <= set(registry.known_metrics())
    assert registry.find_metric("prometheus") is PrometheusMetric
    assert "prometheus" not in registry.known()
    with pytest.raises(registry.UnknownMetric, match=r"^Metric promteheus is not known \(did you mean prometheus\?\)"):
        registry.find_metric("promteheus")


def test_a_provider_is_no_metric(offer) -> None:
    offer("stranger", "rollout.metrics", json="json:JSONDecoder", gone="no_such_module_anywhere:Metric")
    with pytest.raises(Permanent, match=r"Metric json is not one: .* \(see providers.metrics.base.Metric\)"):
        registry.metric_form("json", {})
    with pytest.raises(Permanent, match="Metric gone cannot be loaded from no_such_module_anywhere:Metric"):
        registry.metric_form("gone", {})


def test_a_form_is_told_offline_and_without_secrets() -> None:
    options = {"url": "${env:NOT_SET_ANYWHERE}", "headers": {"Authorization": "${file:/not/there}"}}
    assert registry.metric_form("prometheus", {**options, "value": "up"}) == "values"
    assert registry.metric_form("prometheus", {**options, "total": "a", "bad": "b"}) == "counts"


def test_a_strangers_mistake_is_a_sentence(offer, monkeypatch: pytest.MonkeyPatch) -> None:
    offer("stranger", "rollout.metrics", careless="careless_metric:Careless")
    module = ModuleType("careless_metric")
    module.Careless = Careless  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "careless_metric", module)
    assert registry.metric_form("careless", {}) == "counts"
    with pytest.raises(Permanent, match=r"it failed by a mistake of its own \(ValueError\); tell its author\.$") as e:
        registry.metric_form("careless", {"s": "s3cret"})
    assert "s3cret" not in str(e.value)
