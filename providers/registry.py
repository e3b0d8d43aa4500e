"""From a name in a plan to a provider or a metric, so that either can come from any distribution without a line changed
here.

A distribution offers a provider in the entry point group `rollout.providers` and a metric in `rollout.metrics`, as
`name = "package.module:Class"`; see `providers.offers`.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from providers.base import Context, Provider
from providers.errors import Permanent, ProviderError
from providers.metrics.base import Form, Metric
from providers.offers import Offers

GROUP = "rollout.providers"
METRICS_GROUP = "rollout.metrics"


class UnknownProvider(Permanent, LookupError):
    """No installed distribution offers a provider of that name."""


class UnknownMetric(Permanent, LookupError):
    """No installed distribution offers a metric of that name."""


_PROVIDERS: Offers[Provider] = Offers(GROUP, "Provider", "providers.base.Provider", UnknownProvider)
_METRICS: Offers[Metric] = Offers(METRICS_GROUP, "Metric", "providers.metrics.base.Metric", UnknownMetric)


def known() -> tuple[str, ...]:
    """Names of all providers that are installed, sorted."""
    return _PROVIDERS.known()


def find(name: str) -> type[Provider]:
    """The provider class of that name, imported now.

    Raises UnknownProvider, and Permanent when it is offered twice, cannot be imported, or is no provider.
    """
    return _PROVIDERS.find(name)


def open_provider(name: str, options: Mapping[str, Any], context: Context) -> Provider:
    """A provider, with its own options as the plan gives them (without its name).

    Raises UnknownProvider, and Permanent when the options are not what the provider allows; never shows their values,
    which may be secret.
    """
    provider, chosen = _PROVIDERS.read(name, options)
    return provider(chosen, context)


def known_metrics() -> tuple[str, ...]:
    """Names of all metrics that are installed, sorted."""
    return _METRICS.known()


def find_metric(name: str) -> type[Metric]:
    """The metric class of that name, imported now.

    Raises UnknownMetric, and Permanent when it is offered twice, cannot be imported, or is no metric.
    """
    return _METRICS.find(name)


def open_metric(name: str, options: Mapping[str, Any], context: Context) -> Metric:
    """A metric, with its own options as the plan gives them; nothing is asked and no secret is resolved yet.

    Raises UnknownMetric, and Permanent when the options are not what the metric allows, or it makes a mistake; never
    shows their values, which may be secret.
    """
    metric, chosen = _METRICS.read(name, options)
    try:
        return metric(chosen, context)
    except ProviderError:
        raise
    except Exception as error:
        wrong = f"it failed by a mistake of its own ({type(error).__name__})"
        raise Permanent(f"Metric {name} cannot be opened: {wrong}; tell its author.") from error


def metric_form(name: str, options: Mapping[str, Any]) -> Form:
    """Whether a metric with these options answers with counts or with values: offline, secrets stay references.

    Raises as `open_metric` does, and Permanent when the metric names no such form.
    """
    form = open_metric(name, options, _OFFLINE).form
    if form not in ("counts", "values"):
        raise Permanent(f"Metric {name} is not one: its form is neither counts nor values (see {_METRICS.protocol}).")
    return form


# A metric keeps what it is given until it is asked; one that looks here before that finds nothing.
_OFFLINE = Context(Path(), lambda: datetime.min.replace(tzinfo=UTC), lambda: "")
