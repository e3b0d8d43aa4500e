"""A gate on figures from elsewhere: the name of a metric that somebody installed, and what it is asked.

The options are the metric's own, and it checks them itself, as a provider does with its own: nothing here knows which
metrics there are. What is checked is what holds for everything in a plan, that no secret stands in it in plain text.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from plans import bounds, references
from plans.compared import ComparingGate
from plans.errors import again, problem, raise_all, refuse

FORM = "{prometheus: {url: ..., total: ..., good: ...}}"
"""How such a metric is written."""
_PLAIN = "a secret would be stored and shown in plain text; write ${env:NAME} or ${file:path}"


def _without_secrets(metric: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The metric, in which secrets stand as references only, and these only where a secret may be."""
    raise_all(_misplaced(metric, (), ""))
    return metric


def _misplaced(value: Any, at: tuple[int | str, ...], field: str) -> Iterator[InitErrorDetails]:
    if isinstance(value, Mapping):
        for name, each in value.items():
            # Whatever is below a key that names a secret is one.
            known = field if field in ("headers", "secret") else "secret" if _names_a_secret(name) else str(name)
            if field == "headers" and isinstance(each, str):
                yield from _header(str(name), each, (*at, name))
            else:
                yield from _misplaced(each, (*at, name), known)
    elif isinstance(value, list | tuple):
        for i, each in enumerate(value):
            yield from _misplaced(each, (*at, i), field)
    elif isinstance(value, str):
        yield from _text(value, at, field)


def _names_a_secret(name: object) -> bool:
    return references.SECRET_NAME.search(str(name)) is not None


def _text(value: str, at: tuple[int | str, ...], field: str) -> Iterator[InitErrorDetails]:
    try:
        if field == "url":
            references.no_plain_password(references.good_references(value))
        elif field == "secret":
            if not references.has_reference(references.good_references(value)):
                yield problem("plain_secret", _PLAIN, *at)
        else:
            references.no_reference(value)
    except PydanticCustomError as error:
        yield InitErrorDetails(type=error, loc=at, input=value)


def _header(name: str, value: str, at: tuple[int | str, ...]) -> Iterator[InitErrorDetails]:
    try:
        references.no_plain_secrets({name: references.good_references(value)})
    except PydanticCustomError as error:
        yield InitErrorDetails(type=error, loc=at, input=value)
    except ValidationError as error:
        for wrong in again(error):
            yield {**wrong, "loc": at}


Metric = Annotated[dict[str, dict[str, Any]], AfterValidator(_without_secrets)]


class ExternalGate(ComparingGate):
    """What another system knows of the candidate, such as Prometheus."""

    misplaced: ClassVar[Mapping[str, str]] = {
        "quantile": "`quantile` is for latency only; ask the metric for the quantile that you mean, and remove it",
        "codes": "`codes` is for error_rate only; ask the metric for what is bad, and remove it",
        "guard": "`guard` is for error_rate and latency only; remove it",
        **{field: f"`{field}` is for prediction only; remove it" for field in ("tolerance", "path", "examples")},
    }

    metric: Metric = Field(description="Who is asked, and what: one name, and that metric's own options.")
    max: bounds.AnyBound | None = Field(
        default=None, description="Absolute bound: a rate for a metric that counts, a number for one of values."
    )
    max_increase: bounds.Increase | None = Field(
        default=None, description="Tolerated on top of `max_ratio` times what stable has; written as `max` is."
    )

    @property
    def external(self) -> tuple[str, Mapping[str, Any]]:
        """The metric's name, and its options with secrets as references."""
        ((name, options),) = self.metric.items()
        return name, options

    @model_validator(mode="after")
    def _decidable(self) -> Self:
        if self.max is None and self.max_ratio is None and self.max_increase is None:
            absolute, relative = "`max` (an absolute bound)", "`max_ratio` or `max_increase` (relative to stable)"
            refuse("no_bound", f"a gate needs {absolute}, or {relative}")
        return self
