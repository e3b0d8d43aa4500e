"""The plan language, version 1: what a plan file may say.

One model for each thing that a person writes; nothing here knows files, providers or time. A field of the language that
this version does not build yet is refused by its name: silence would be worse than refusal. What needs only the plan is
checked here, all of it at once; what needs the provider or the world is checked by the orchestrator's stages.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails

from plans import units
from plans.errors import Part, again, problem, raise_all, refuse
from plans.units import Duration, Flag, Frequency, Latency, Name, Names, Rate, Ratio, Slug, Text, quoted, show_share

Consequence = Literal["rollback", "pause"]
Version = Annotated[Literal[1], BeforeValidator(lambda v: 1 if v == "1" else v)]


class FileRef(Part):
    """A file, relative to the plan."""

    file: Text


class ProviderRef(BaseModel):
    """A provider by name, with its own options, which the provider checks itself."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str

    @property
    def options(self) -> dict[str, Any]:
        """Everything but the name."""
        return dict(self.model_extra or {})


_BY_NAME = BeforeValidator(lambda value: {"name": value} if isinstance(value, str) else value)


class _Answers(Part):
    on_fail: Consequence | None = None
    on_no_data: Consequence | None = None
    on_undecided: Consequence | None = None
    on_error: Consequence | None = None


class _Gate(_Answers):
    not_built: ClassVar[frozenset[str]] = frozenset({"guard"})

    max_ratio: Ratio | None = None
    blame: Flag | None = None
    source: Literal["mirror", "live", "direct", "auto"] = "auto"
    min_requests: Annotated[int, Field(ge=1)] = 100
    warm_up: Duration = 10.0
    interval: Annotated[Duration, Field(gt=0)] | None = None
    settle: Duration | None = None
    alpha: Annotated[Rate, Field(gt=0, lt=0.5)] | None = None
    beta: Annotated[Rate, Field(gt=0, lt=0.5)] | None = None
    dispersion: Flag = True


class ErrorRateGate(_Gate):
    """How often the candidate answers with an error."""

    misplaced: ClassVar[Mapping[str, str]] = {"quantile": "`quantile` is for latency only; remove it"}

    metric: Literal["error_rate"]
    max: Annotated[Rate, Field(gt=0, lt=1)] | None = None
    max_increase: Rate | None = None
    codes: units.ErrorClasses = ("5xx", "424", "429", "timeout", "reset")

    @model_validator(mode="after")
    def _decidable(self) -> Self:
        if self.max is None and self.max_ratio is None and self.max_increase is None:
            absolute, relative = "`max` (an absolute bound)", "`max_ratio` and `max_increase` (relative to stable)"
            refuse("no_bound", f"a gate needs {absolute}, or {relative}")
        if self.max_ratio is not None and not self.max_increase:
            why = "when stable has no errors at all, nothing can be proved against a ratio of zero"
            refuse("unprovable", f"`max_ratio` needs a `max_increase` above 0%: {why}")
        return self


class LatencyGate(_Gate):
    """How slow the candidate is at a quantile."""

    misplaced: ClassVar[Mapping[str, str]] = {
        "max_increase": "`max_increase` is for error_rate only; for latency write `max_ratio`, such as 1.10",
        "codes": "`codes` is for error_rate only; a latency gate counts every answer, so remove it",
    }

    metric: Literal["latency"]
    quantile: units.Quantile = 0.95
    max: Latency | None = None
    max_ratio: Annotated[Ratio, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _decidable(self) -> Self:
        if self.max is None and self.max_ratio is None:
            absolute = "`max` (an absolute bound such as 500ms)"
            refuse("no_bound", f"a gate needs {absolute} or `max_ratio` (relative to stable, such as 1.10)")
        return self


METRICS_NOT_BUILT = ("missing_pairs", "prediction", "prometheus", "http")


def _metric(gate: Any) -> str | None:
    return gate.get("metric") if isinstance(gate, Mapping) else getattr(gate, "metric", None)


def _known_metric(gate: Any) -> Any:
    """Before the union, which could only say that nothing fits."""
    if not isinstance(gate, Mapping):
        return gate
    metric = gate.get("metric")
    if metric is None:
        refuse("no_metric", "a gate needs `metric: error_rate` or `metric: latency`")
    if isinstance(metric, Mapping) and len(metric) == 1:
        metric = next(iter(metric))
    if metric in METRICS_NOT_BUILT:
        message = f"the metric `{metric}` is not built yet in this version; error_rate and latency are"
        raise_all([problem("not_built", message, "metric")])
    if gate["metric"] not in tuple(GATES):
        message = f"{quoted(str(gate['metric']))} is no metric; write error_rate or latency"
        raise_all([problem("no_metric", message, "metric", found=gate["metric"], near=GATES)])
    return gate


GATES: Mapping[str, type[_Gate]] = {"error_rate": ErrorRateGate, "latency": LatencyGate}
Gate = Annotated[
    Annotated[ErrorRateGate, Tag("error_rate")] | Annotated[LatencyGate, Tag("latency")],
    Discriminator(_metric, "no_metric", "a gate is a mapping, such as {metric: error_rate, max: 2%}"),
    BeforeValidator(_known_metric),
]


class _Step(_Answers):
    not_built: ClassVar[frozenset[str]] = frozenset({"decide", "windows", "freezes", "policy"})

    name: Text | None = None


class InlineRequest(Part):
    """A request body, written into the plan as text."""

    body: units.Body


class Expect(Part):
    """What a test's answer must be.

    `json` maps a dotted path (`predictions.0`) to the value expected there, read as JSON where it can be.
    """

    status: Annotated[int, Field(ge=100, le=599)] = 200
    json_: dict[str, units.Body] = Field(default_factory=dict, alias="json")
    max_latency: Latency | None = None


class DeployStep(_Step):
    """Create a deployment and wait until every instance is healthy."""

    deploy: Name
    deadline: Annotated[Duration, Field(gt=0)] = 1800.0
    ready: Literal["full healthy count"] = "full healthy count"


class ScaleStep(_Step):
    """Change instance counts; a rollback undoes it."""

    scale: Annotated[dict[Name, Annotated[int, Field(ge=1, le=50)]], Field(min_length=1)]
    deadline: Annotated[Duration, Field(gt=0)] = 1800.0


class TestStep(_Step):
    """Send a request to a deployment by header, without live traffic, and check the answer."""

    __test__: ClassVar[bool] = False

    test: Name
    request: Text | InlineRequest | None = None
    method: Literal["GET", "POST", "PUT"] = "POST"
    path: units.UrlPath = "/score"
    expect: Expect = Expect()
    repeat: Annotated[int, Field(ge=1, le=10_000)] = 1


class _GatedStep(_Step):
    gates: Names = ()
    hold: Duration = 0.0
    deadline: Annotated[Duration, Field(gt=0)] | None = None
    interval: Annotated[Duration, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _hold_fits(self) -> Self:
        if self.deadline is not None and self.deadline < self.hold:
            message = "`deadline` is shorter than `hold`: the step could never pass; make it longer"
            raise_all([problem("deadline", message, "deadline")])
        return self


class ShadowStep(_GatedStep):
    """Mirror a share of live traffic to the candidate."""

    shadow: units.Shares


class CanaryStep(_GatedStep):
    """Give the candidate a share of live traffic."""

    canary: units.GrowingShares


class PromoteStep(_GatedStep):
    """Give the candidate everything (or as much as is written)."""

    promote: units.Promoted = 1000


class Until(Part):
    """A time of day, in a zone."""

    until: units.TimeOfDay
    tz: units.Zone = "UTC"


class WaitStep(_Step):
    """Wait for a time."""

    wait: Duration | Until


class ApproveStep(_Step):
    """Wait until a human agrees."""

    approve: Text
    timeout: Annotated[Duration, Field(gt=0)] = 86400.0
    on_timeout: Consequence = "rollback"
    not_by_starter: Flag = False


class WebhookStep(_Step):
    """Tell another system, at least once."""

    webhook: units.Url
    method: Literal["POST", "PUT"] = "POST"
    body: units.Body | None = None
    headers: units.Headers = Field(default_factory=dict)
    secret: units.Secret | None = None
    timeout: Annotated[Duration, Field(gt=0, le=300)] = 10.0
    retries: Annotated[int, Field(ge=0, le=20)] = 3


class LoadStep(_Step):
    """Send a bounded burst of requests: a count, or a frequency for a time."""

    load: units.Burst
    request: Text | InlineRequest
    for_: Annotated[Annotated[Duration, Field(gt=0)] | None, Field(alias="for")] = None

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if isinstance(self.load, float) and self.for_ is None:
            refuse("unbounded", "a load at a frequency needs `for`, such as `for: 30s`")
        return self


class DeleteStep(_Step):
    """Delete what is no longer used: `stable`, a deployment, or the `endpoint` with everything."""

    delete: Text


def _step_kind(step: Any) -> str | None:
    if isinstance(step, _Step):
        return next((kind for kind, model in STEPS.items() if type(step) is model), None)
    return next((kind for kind in STEPS if kind in step), None) if isinstance(step, Mapping) else None


def _one_kind(step: Any) -> Any:
    """Before the union, which could only say that nothing fits."""
    if not isinstance(step, Mapping):
        return step
    kinds = [key for key in step if key in STEPS]
    if len(kinds) > 1:
        message = f"a step is one thing, and this one is `{kinds[0]}` already; make `{kinds[1]}` a step of its own"
        raise_all([problem("two_steps", message, kinds[1], kinds[1], at_key=True)])
    if not kinds:
        near = [key for key in step if isinstance(key, str) and difflib.get_close_matches(key, STEPS, 1)]
        message = f"a step needs exactly one of {', '.join(STEPS)}"
        if near:
            message = f"{quoted(near[0])} is no kind of step; " + message
            raise_all([problem("no_step", message, near[0], found=near[0], near=STEPS, at_key=True)])
        refuse("no_step", message)
    return step


Step = Annotated[
    Annotated[DeployStep, Tag("deploy")]
    | Annotated[ScaleStep, Tag("scale")]
    | Annotated[TestStep, Tag("test")]
    | Annotated[ShadowStep, Tag("shadow")]
    | Annotated[CanaryStep, Tag("canary")]
    | Annotated[PromoteStep, Tag("promote")]
    | Annotated[WaitStep, Tag("wait")]
    | Annotated[ApproveStep, Tag("approve")]
    | Annotated[WebhookStep, Tag("webhook")]
    | Annotated[LoadStep, Tag("load")]
    | Annotated[DeleteStep, Tag("delete")],
    Discriminator(_step_kind, "no_step", "a step is a mapping, such as `canary: 10%` with its fields"),
    BeforeValidator(_one_kind),
]
_STEP: TypeAdapter[Any] = TypeAdapter(Step)
STEPS: Mapping[str, type[_Step]] = {get_args(b)[1].tag: get_args(b)[0] for b in get_args(get_args(Step)[0])}


class Load(Part):
    """Synthetic traffic during the whole rollout, for an endpoint that has none."""

    request: Text | InlineRequest
    rate: Frequency
    until: Literal["end"] = "end"


class Plan(Part):
    """A plan file."""

    not_built: ClassVar[frozenset[str]] = frozenset(
        {"candidate", "slots", "vars", "defaults", "budget", "windows", "freezes", "policy", "on_rollback", "notify"}
    )

    version: Version = 1
    name: Slug | None = None
    provider: Annotated[ProviderRef, _BY_NAME] = ProviderRef(name="local")
    endpoint: Name | FileRef
    deployments: Annotated[dict[units.DeploymentName, FileRef], Field(min_length=1)]
    stable: Name | None = None
    gates: dict[Slug, Gate] = Field(default_factory=dict)
    steps: Annotated[tuple[Step, ...], Field(min_length=1)]
    on_fail: Consequence = "rollback"
    on_no_data: Consequence = "pause"
    on_undecided: Consequence = "pause"
    on_error: Consequence = "pause"
    alpha: Annotated[Rate, Field(gt=0, lt=0.5)] = 0.01
    beta: Annotated[Rate, Field(gt=0, lt=0.5)] = 0.05
    pause_limit: Annotated[Duration, Field(gt=0)] = 86400.0
    load: Load | None = None

    @field_validator("stable", mode="after")
    @classmethod
    def _stable_exists(cls, stable: str | None, info: ValidationInfo) -> str | None:
        if stable is not None and "deployments" in info.data:
            raise_all(_unknown(stable, info.data["deployments"]))
        return stable

    @field_validator("steps", mode="wrap")
    @classmethod
    def _steps_fit(cls, value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
        """The steps that are right in themselves are checked against the plan even where others are wrong."""
        problems: list[InitErrorDetails] = []
        try:
            steps = dict(enumerate(handler(value)))
        except ValidationError as error:
            problems = again(error)
            wrong = {p["loc"][0] for p in problems if p["loc"]}
            listed = value if wrong and isinstance(value, list | tuple) else ()
            steps = {i: _STEP.validate_python(step) for i, step in enumerate(listed) if i not in wrong}
        problems += _misfits(steps, info.data, complete=not problems)
        raise_all(problems)
        return tuple(steps.values())


def _unknown(name: str, known: Iterable[str], *loc: int | str) -> Iterator[InitErrorDetails]:
    names = list(known)
    if name not in names:
        message = f"{quoted(name)} is not among the deployments ({', '.join(names)})"
        yield problem("unknown_deployment", message, *loc, found=name, near=names)


def _misfits(steps: Mapping[int, Any], plan: Mapping[str, Any], *, complete: bool) -> Iterator[InitErrorDetails]:
    """What is wrong between the steps and the rest of the plan, and among the steps.

    `plan` holds those fields before `steps` that are right; `complete`: no step is missing from `steps`.
    """
    candidate: str | None = None
    share, largest = 0, ""
    for i, step in steps.items():
        kind = str(_step_kind(step))
        if "deployments" in plan:
            yield from _unknown_names(step, (i, kind, kind), plan["deployments"])
        if isinstance(step, DeployStep):
            if step.deploy == plan.get("stable"):
                message = f"`{step.deploy}` is `stable` already; deploy another one as the candidate"
                yield problem("stable_candidate", message, i, kind, kind)
            if candidate not in (None, step.deploy):
                message = f"a rollout has one candidate, and `{candidate}` is deployed already; make a plan for each"
                yield problem("two_candidates", message, i, kind, kind)
            candidate = candidate or step.deploy
        if not isinstance(step, _GatedStep):
            continue
        yield from _unknown_gates(step, (i, kind, "gates"), plan.get("gates"))
        if candidate is None and complete:
            message = f"`{kind}` has no candidate; put a step `deploy: NAME` before it"
            yield problem("no_candidate", message, i, kind, kind, at_key=True)
        if isinstance(step, CanaryStep | PromoteStep):
            first, last = (step.canary[0], step.canary[-1]) if isinstance(step, CanaryStep) else (step.promote,) * 2
            if first < share:
                message = f"{show_share(first)} is less than the {show_share(share)} of {largest}: exposure only grows"
                yield problem("shrinks", f"{message}; write more, or remove this step", i, kind, kind)
            if last >= share:
                share, largest = last, f"steps[{i}]"
        elif share == 1000:
            message = "the candidate has all traffic by then, so there is nothing to mirror; move this step up"
            yield problem("late_shadow", message, i, kind, kind, at_key=True)


def _unknown_names(step: Any, loc: tuple[int | str, ...], known: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
    if isinstance(step, DeployStep | TestStep):
        yield from _unknown(step.deploy if isinstance(step, DeployStep) else step.test, known, *loc)
    elif isinstance(step, DeleteStep):
        yield from _unknown(step.delete, (*known, "stable", "endpoint"), *loc)
    elif isinstance(step, ScaleStep):
        for name in step.scale:
            yield from _unknown(name, known, *loc, name, "[key]")


def _unknown_gates(step: _GatedStep, loc: tuple[int | str, ...], known: Any) -> Iterator[InitErrorDetails]:
    for at, gate in enumerate(step.gates):
        if gate in step.gates[:at]:
            yield problem("twice", f"{quoted(gate)} is listed twice; once is enough", *loc, at)
        elif known is not None and gate not in known:
            message = f"{quoted(gate)} is not among the gates of this plan ({', '.join(known) or 'none'})"
            yield problem("unknown_gate", message, *loc, at, found=gate, near=known)
