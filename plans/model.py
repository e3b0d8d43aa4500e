"""The plan language, version 1: what a plan file may say at its top.

One model for each thing that a person writes; nothing here knows files, providers or time. A field of the language that
this version does not build yet is refused by its name: silence would be worse than refusal. What needs only the plan is
checked when it is loaded, all of it at once; what needs the provider or the world is checked by the orchestrator.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    ModelWrapValidatorHandler,
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
from plans.answers import Consequence
from plans.checks import misfits, unknown, wrong_form
from plans.errors import Part, again, did_you_mean, problem, raise_all, refuse
from plans.gates import Gate
from plans.steps import InlineRequest, Step
from plans.units import Duration, Frequency, Name, Rate, Slug, Text

Version = Annotated[Literal[1], BeforeValidator(lambda v: 1 if v == "1" else v)]
_STEP: TypeAdapter[Any] = TypeAdapter(Step)


class FileRef(Part):
    """A file, relative to the plan."""

    file: Text = Field(description="Its path, from the plan's folder.")


class InlineSpec(BaseModel):
    """A deployment written into the plan, in the schema of the deployment files, which whoever reads those checks.

    Paths in it are relative to the plan.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    @property
    def spec(self) -> dict[str, Any]:
        """The deployment as it was written."""
        return dict(self.model_extra or {})


def _form(value: Any) -> str | None:
    if isinstance(value, FileRef | InlineSpec):
        return "file" if isinstance(value, FileRef) else "inline"
    if not isinstance(value, Mapping) or not value:
        return None
    (first, *more) = value
    misspelt = not more and did_you_mean(str(first), ["file"]) is not None
    return "file" if "file" in value or misspelt else "inline"


_FORMS = "a deployment is {file: deployment.yml}, or a mapping with the fields of such a file, such as model"
DeploymentSource = Annotated[
    Annotated[FileRef, Tag("file")] | Annotated[InlineSpec, Tag("inline")],
    Discriminator(_form, "no_form", _FORMS),
]


class ProviderRef(BaseModel):
    """A provider by name, with its own options, which the provider checks itself."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: Text = Field(description="Which one.")

    @property
    def options(self) -> dict[str, Any]:
        """Everything but the name."""
        return dict(self.model_extra or {})


def _by_name(value: Any) -> Any:
    if isinstance(value, str):
        return {"name": value}
    if not isinstance(value, Mapping | ProviderRef):
        refuse("no_provider", "a provider is a name such as local, or a mapping with its `name` and its own options")
    return value


class Load(Part):
    """Synthetic traffic during the whole rollout, for an endpoint that has none."""

    request: Text | InlineRequest = Field(description="A file with the body, or {body: ...}.")
    rate: Frequency = Field(description="How many requests a second.")
    until: Literal["end"] = Field(default="end", description="How long: until the rollout ends.")


class Budget(Part):
    """How much harm the candidate may do before it goes back, whatever the gates say."""

    bad_responses: Annotated[int, Field(ge=0, le=1_000_000_000)] = Field(
        description="Bad live responses by the candidate over the whole rollout; one more rolls back."
    )


class OnRollback(Part):
    """What a rollback does besides giving stable its traffic back."""

    candidate: Literal["delete", "keep"] = Field(
        default="delete", description="Whether the candidate is deleted (its logs are saved), or left without traffic."
    )


NotifyEvent = Literal[
    "started",
    "step_passed",
    "waiting_for_approval",
    "paused",
    "resumed",
    "rolling_back",
    "succeeded",
    "rolled_back",
    "failed",
]
NOTIFY_EVENTS: tuple[NotifyEvent, ...] = get_args(NotifyEvent)


class Notification(Part):
    """A webhook that is told what happens."""

    url: units.Url = Field(description="Where to; may hold references such as ${env:HOOK_URL}.")
    events: Annotated[tuple[NotifyEvent, ...], BeforeValidator(units.one_or_many), Field(min_length=1)] = Field(
        default=NOTIFY_EVENTS, description="Of what; all unless told otherwise."
    )
    secret: units.Secret | None = Field(default=None, description="Signs the body; a reference such as ${env:KEY}.")


class Plan(Part):
    """A plan file."""

    not_built: ClassVar[frozenset[str]] = frozenset({"windows", "freezes", "policy"})

    version: Version = Field(default=1, description="Of the plan language.")
    name: Slug | None = Field(default=None, description="Of the rollouts; without it the file's name.")
    provider: Annotated[ProviderRef, BeforeValidator(_by_name)] = Field(
        default=ProviderRef(name="local"), description="Where endpoints live, with the provider's own options."
    )
    endpoint: Name | FileRef = Field(
        description="The endpoint: the name of one that exists, or a file from which it is created when it does not."
    )
    deployments: Annotated[dict[units.DeploymentName, DeploymentSource], Field(min_length=1)] | None = Field(
        default=None, description="The deployments by name, each a file or written in place."
    )
    candidate: DeploymentSource | None = Field(
        default=None, description="The new version, where a plan speaks of roles; it takes the free one of `slots`."
    )
    slots: Annotated[tuple[units.DeploymentName, ...], Field(min_length=2, max_length=10)] | None = Field(
        default=None, description="Names that candidate and stable take turns in."
    )
    stable: units.DeploymentName | DeploymentSource | None = Field(
        default=None,
        description="Which deployment serves now; with roles also its file, for an endpoint that serves nothing yet.",
    )
    vars: dict[units.VarName, units.VarValue] = Field(
        default_factory=dict, description="Values for `${var:NAME}` anywhere in the plan; `--var NAME=VALUE` wins."
    )
    defaults: dict[str, Any] = Field(
        default_factory=dict, description="Fields that every step and gate gets which may have them and does not."
    )
    gates: dict[Slug, Gate] = Field(default_factory=dict, description="Tolerances by name, for steps to refer to.")
    steps: Annotated[tuple[Step, ...], Field(min_length=1)] = Field(description="What is done, in order.")
    on_fail: Consequence = Field(default="rollback", description="What happens when a gate fails or a step cannot.")
    on_no_data: Consequence = Field(default="pause", description="What happens when nothing was measured in time.")
    on_undecided: Consequence = Field(default="pause", description="What happens when the evidence did not suffice.")
    on_error: Consequence = Field(default="pause", description="What happens when measuring fails five times in a row.")
    alpha: Annotated[Rate, Field(gt=0, lt=0.5)] = Field(
        default=0.01, description="Tolerated probability to roll back a candidate that is within its tolerances."
    )
    beta: Annotated[Rate, Field(gt=0, lt=0.5)] = Field(
        default=0.05, description="Tolerated probability to pass a candidate that is at or beyond its tolerances."
    )
    pause_limit: Annotated[Duration, Field(gt=0)] = Field(
        default=86400.0, description="How long a pause may last before it rolls back."
    )
    load: Load | None = Field(default=None, description="Synthetic traffic, for an endpoint that has none.")
    budget: Budget | None = Field(default=None, description="A limit for the harm, in bad responses.")
    on_rollback: OnRollback = Field(default=OnRollback(), description="What a rollback does with the candidate.")
    notify: tuple[Notification, ...] = Field(default=(), description="Webhooks that are told what happens.")

    @property
    def by_roles(self) -> bool:
        """Whether it speaks of candidate and stable in slots, not of deployments by name."""
        return self.slots is not None

    @field_validator("slots", mode="after")
    @classmethod
    def _slots_differ(cls, slots: tuple[str, ...] | None) -> tuple[str, ...] | None:
        names = slots or ()
        raise_all(
            problem("twice", f"`{name}` is listed twice; slots are different names", at)
            for at, name in enumerate(names)
            if name in names[:at]
        )
        return slots

    @field_validator("stable", mode="after")
    @classmethod
    def _stable_exists(cls, stable: Any, info: ValidationInfo) -> Any:
        named = info.data.get("deployments")
        if isinstance(stable, str) and named:
            raise_all(unknown(stable, named))
        if named and stable is not None and not isinstance(stable, str):
            refuse("stable_file", "with `deployments`, `stable` is one of their names; write `stable: NAME`")
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
        problems += misfits(steps, info.data, complete=not problems)
        raise_all(problems)
        return tuple(steps.values())

    @model_validator(mode="wrap")
    @classmethod
    def _by_names_or_by_roles(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Told beside what is wrong with the fields themselves."""
        problems = list(wrong_form(data)) if isinstance(data, Mapping) else []
        try:
            plan = handler(data)
        except ValidationError as error:
            raise ValidationError.from_exception_data("plan", [*again(error), *problems]) from None
        raise_all(problems)
        return plan
