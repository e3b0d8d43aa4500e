"""Endpoint and deployment files, in the YAML schema of `az ml` (CLI v2), for every provider.

Users have these files already, so we read them unmodified. Models only: who loads them, and from where, is not their
business. All scalars may arrive as text. Fields that a provider has no use for stay here, so that it can say that it
ignores them.

Schema: https://learn.microsoft.com/azure/machine-learning/reference-yaml-deployment-managed-online and
reference-yaml-endpoint-online.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9-]{1,30}[A-Za-z0-9]$")]
"""3 to 32 letters, digits and dashes, from a letter to a letter or digit (the limits of Azure online endpoints)."""

InstanceCount = Annotated[int, Field(ge=1, le=50)]


def _yaml_bool(value: object) -> object:
    return {"true": True, "false": False}.get(value.lower(), value) if isinstance(value, str) else value


Flag = Annotated[bool, BeforeValidator(_yaml_bool)]


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class CodeConfiguration(_Spec):
    """Where the scoring script is: `code` is its folder, relative to the file, and becomes the working directory."""

    code: str
    scoring_script: str


class Model(_Spec):
    """A model given in place: a file or a folder, relative to the deployment's file."""

    path: str
    name: str | None = None
    version: str | None = None
    type: str | None = None
    description: str | None = None


class Environment(_Spec):
    """An environment given in place."""

    name: str | None = None
    version: str | None = None
    image: str | None = None
    conda_file: str | dict[str, Any] | None = None
    build: dict[str, Any] | None = None
    inference_config: dict[str, Any] | None = None
    os_type: str | None = None
    description: str | None = None


class RequestSettings(_Spec):
    """Limits for each request."""

    request_timeout_ms: Annotated[int, Field(ge=1, le=180_000)] = 5000
    max_concurrent_requests_per_instance: Annotated[int, Field(ge=1)] = 1
    max_queue_wait_ms: Annotated[int, Field(ge=0)] = 500


class Probe(_Spec):
    """A liveness or readiness probe, in seconds and counts."""

    initial_delay: Annotated[int, Field(ge=0)] = 10
    period: Annotated[int, Field(ge=1)] = 10
    timeout: Annotated[int, Field(ge=1)] = 2
    success_threshold: Annotated[int, Field(ge=1)] = 1
    failure_threshold: Annotated[int, Field(ge=1)] = 30


class LocalRuntime(_Spec):
    """How a deployment runs on this machine: our one key beside the `az ml` schema.

    `command` is any server that listens on 127.0.0.1:$PORT; `health_path` answers 200 when it is ready.
    """

    command: Annotated[list[str], Field(min_length=1)] | None = None
    health_path: str = "/"
    workers: Literal[1] = 1


class DeploymentSpec(_Spec):
    """A deployment file."""

    schema_: str | None = Field(default=None, alias="$schema")
    name: Name
    endpoint_name: Name | None = None
    type: Literal["managed", "kubernetes"] = "managed"
    description: str | None = None
    tags: dict[str, str] = {}
    properties: dict[str, str] = {}
    model: str | Model | None = None
    code_configuration: CodeConfiguration | None = None
    environment: str | Environment | None = None
    environment_variables: dict[str, str] = {}
    instance_type: str | None = None
    instance_count: InstanceCount = 1
    app_insights_enabled: Flag = False
    scale_settings: dict[str, Any] | None = None
    request_settings: RequestSettings | None = None
    liveness_probe: Probe | None = None
    readiness_probe: Probe | None = None
    model_mount_path: str | None = None
    egress_public_network_access: str | None = None
    data_collector: dict[str, Any] | None = None
    resources: dict[str, Any] | None = None
    local: LocalRuntime | None = None


class EndpointSpec(_Spec):
    """An endpoint file. `traffic` and `mirror_traffic` are accepted and left to the rollout."""

    schema_: str | None = Field(default=None, alias="$schema")
    name: Name
    type: Literal["managed", "kubernetes"] = "managed"
    description: str | None = None
    tags: dict[str, str] = {}
    properties: dict[str, str] = {}
    auth_mode: Literal["key", "aml_token", "aad_token"] = "key"
    compute: str | None = None
    identity: dict[str, Any] | None = None
    location: str | None = None
    public_network_access: str | None = None
    traffic: dict[str, Annotated[int, Field(ge=0, le=100)]] = {}
    mirror_traffic: dict[str, Annotated[int, Field(ge=0, le=50)]] = {}


@dataclass(frozen=True, slots=True)
class Content:
    """A file or folder that was found, and what was in it.

    Attributes:
        path: absolute.
        sha256: over every file's relative name, mode bit x and bytes, in order of names.
    """

    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class ResolvedDeployment:
    """A deployment file with everything that it names pinned.

    Attributes:
        spec: the file.
        base: absolute folder that its relative paths start from.
        digest: `spec_digest` of it.
        code, model: what its paths led to, or None.
        versions: reference as written -> what it stood for ("azureml:m@latest" -> "azureml:m:7").
        ignored: fields that have no meaning for this provider, as dotted names.
    """

    spec: DeploymentSpec
    base: str
    digest: str
    code: Content | None = None
    model: Content | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The deployment's name."""
        return self.spec.name


def spec_digest(spec: DeploymentSpec, *, code: str | None, model: str | None) -> str:
    """sha256 of what makes two deployments the same: the canonical spec without counts, tags and paths, with the
    content of those paths.

    Args:
        spec: the file; its name, endpoint_name, instance_count, tags, description and $schema do not count.
        code, model: sha256 of the content that its paths lead to, or None.
    """
    body = spec.model_dump(
        mode="json", exclude={"schema_", "name", "endpoint_name", "instance_count", "tags", "description"}
    )
    if isinstance(spec.model, Model):
        body["model"] = {"type": spec.model.type}
    if spec.code_configuration is not None:
        body["code_configuration"] = {"scoring_script": spec.code_configuration.scoring_script}
    text = json.dumps({"spec": body, "code": code, "model": model}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
