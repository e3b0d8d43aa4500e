"""What a step may say: one model for each kind, told apart by the key that names it.

Each model checks what can be known of the step alone; what needs the other steps or the rest of the plan is in
`plans.checks`.
"""

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from plans import units
from plans.answers import Answers, Consequence
from plans.errors import Part, problem, quoted, raise_all, refuse
from plans.units import Duration, Flag, Latency, Name, Names, Text


class StepFields(Answers):
    """What steps of every kind have."""

    not_built: ClassVar[frozenset[str]] = frozenset({"windows", "freezes", "policy"})

    name: Text | None = Field(default=None, description="Shown instead of the step's own words.")


class InlineRequest(Part):
    """A request body, written into the plan as text."""

    misplaced: ClassVar[Mapping[str, str]] = {"file": "a file is named without `file`, as in `request: sample.json`"}

    body: units.Body = Field(description="The text that is sent.")


class Expect(Part):
    """What a test's answer must be."""

    status: Annotated[int, Field(ge=100, le=599)] = Field(default=200, description="The status.")
    json_: dict[str, units.Body] = Field(
        default_factory=dict,
        alias="json",
        description="Dotted path (`predictions.0`) to the value there, read as JSON where it can be.",
    )
    max_latency: Latency | None = Field(default=None, description="The longest that an answer may take.")


class DeployStep(StepFields):
    """Create a deployment and wait until every instance is healthy."""

    deploy: Name = Field(description="Which one; `candidate` in a plan with roles.")
    deadline: Annotated[Duration, Field(gt=0)] = Field(default=1800.0, description="After that the step has failed.")
    ready: Literal["full healthy count"] = Field(
        default="full healthy count", description="When it is done: once every instance is healthy."
    )


class ScaleStep(StepFields):
    """Change instance counts; a rollback undoes it."""

    scale: Annotated[dict[Name, Annotated[int, Field(ge=1, le=50)]], Field(min_length=1)] = Field(
        description="Deployment to instance count."
    )
    deadline: Annotated[Duration, Field(gt=0)] = Field(default=1800.0, description="After that the step has failed.")


class TestStep(StepFields):
    """Send a request to a deployment by header, without live traffic, and check the answer."""

    __test__: ClassVar[bool] = False

    test: Name = Field(description="Which deployment; also `candidate` or `stable`.")
    request: Text | InlineRequest | None = Field(default=None, description="A file with the body, or {body: ...}.")
    method: Literal["GET", "POST", "PUT"] = Field(default="POST", description="Of the request.")
    path: units.UrlPath = Field(default="/score", description="Of the request.")
    expect: Expect = Field(default=Expect(), description="What the answer must be.")
    repeat: Annotated[int, Field(ge=1, le=10_000)] = Field(default=1, description="How often it is sent.")


class GatedStep(StepFields):
    """What steps that give traffic have: they go on once their gates have passed."""

    gates: Names = Field(default=(), description="Names of gates; all must pass.")
    hold: Duration = Field(default=0.0, description="How long it lasts at least.")
    deadline: Annotated[Duration, Field(gt=0)] | None = Field(
        default=None, description="After that it is undecided; without it the hold and an hour."
    )
    interval: Annotated[Duration, Field(gt=0)] | None = Field(
        default=None, description="Time between measurements; without it the smallest of its gates."
    )
    decide: Literal["proven", "no_fail"] = Field(
        default="proven",
        description="What it takes to go on after the hold: a PASS of every gate, or just that none failed.",
    )

    @model_validator(mode="after")
    def _hold_fits(self) -> Self:
        if self.deadline is not None and self.deadline < self.hold:
            message = "`deadline` is shorter than `hold`: the step could never pass; make it longer"
            raise_all([problem("deadline", message, "deadline")])
        return self


class ShadowStep(GatedStep):
    """Mirror a share of live traffic to the candidate."""

    shadow: units.Shares = Field(description="Which share, or several one after the other.")


class CanaryStep(GatedStep):
    """Give the candidate a share of live traffic."""

    canary: units.GrowingShares = Field(description="Which share, or several that grow.")


class PromoteStep(GatedStep):
    """Give the candidate everything, or as much as is written."""

    promote: units.Promoted = Field(default=1000, description="Which share; all of it unless told otherwise.")


class Until(Part):
    """A time of day, in a zone."""

    until: units.TimeOfDay = Field(description="The next time that it is this late.")
    tz: units.Zone = Field(default="UTC", description="Where.")


class WaitStep(StepFields):
    """Wait for a time."""

    wait: Duration | Until = Field(description="How long, or until when.")


class ApproveStep(StepFields):
    """Wait until a human agrees."""

    approve: Text = Field(description="What the human is asked.")
    timeout: Annotated[Duration, Field(gt=0)] = Field(default=86400.0, description="How long it waits.")
    on_timeout: Consequence = Field(default="rollback", description="What happens when nobody agreed.")
    not_by_starter: Flag = Field(default=False, description="Whoever ran the plan may not agree.")


class WebhookStep(StepFields):
    """Tell another system, at least once."""

    webhook: units.Url = Field(description="Where to; may hold references such as ${env:HOOK_URL}.")
    method: Literal["POST", "PUT"] = Field(default="POST", description="Of the request.")
    body: units.Body | None = Field(default=None, description="What is sent; without it a few facts as JSON.")
    headers: units.Headers = Field(default_factory=dict, description="Besides our own; secrets as references.")
    secret: units.Secret | None = Field(default=None, description="Signs the body; a reference such as ${env:KEY}.")
    timeout: Annotated[Duration, Field(gt=0, le=300)] = Field(default=10.0, description="For each try.")
    retries: Annotated[int, Field(ge=0, le=20)] = Field(default=3, description="After the first try.")


class LoadStep(StepFields):
    """Send a bounded burst of requests: a count, or a frequency for a time."""

    load: units.Burst = Field(description="A count such as 500, or a frequency such as 200/s.")
    request: Text | InlineRequest = Field(description="A file with the body, or {body: ...}.")
    for_: Annotated[Duration, Field(gt=0)] | None = Field(
        default=None, alias="for", description="How long; a frequency needs it, and a count is spread over it."
    )

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if isinstance(self.load, float) and self.for_ is None:
            refuse("unbounded", "a load at a frequency needs `for`, such as `for: 30s`")
        return self


class DeleteStep(StepFields):
    """Delete what is no longer used: `stable`, a deployment, or the `endpoint` with everything."""

    delete: Text = Field(description="Which one: `stable`, a deployment, or `endpoint`.")


def step_kind(step: Any) -> str | None:
    """The key that names a step, as it was written or loaded; None where there is none."""
    if isinstance(step, StepFields):
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
    Discriminator(step_kind, "no_step", "a step is a mapping, such as `canary: 10%` with its fields"),
    BeforeValidator(_one_kind),
]
STEPS: Mapping[str, type[StepFields]] = {get_args(b)[1].tag: get_args(b)[0] for b in get_args(get_args(Step)[0])}
