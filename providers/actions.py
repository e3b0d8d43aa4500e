"""The closed set of changes that anyone may ask of a provider.

An action is a value: it is journalled before it is begun, compared, printed and replayed. It says what shall be true
afterwards, never how to get there, so beginning the same action twice does no more than beginning it once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Discriminator

from providers.specs import EndpointSpec, ResolvedDeployment


@dataclass(frozen=True, slots=True)
class PutEndpoint:
    """The endpoint exists as its file says; its traffic is left alone, and empty when it is new."""

    endpoint: str
    spec: EndpointSpec
    kind: Literal["put_endpoint"] = "put_endpoint"


@dataclass(frozen=True, slots=True)
class PutDeployment:
    """The deployment exists with this digest and this many healthy instances, without traffic of its own.

    Attributes:
        replace: whether an existing deployment of that name with another digest may be replaced.
    """

    endpoint: str
    deployment: ResolvedDeployment
    replace: bool = False
    kind: Literal["put_deployment"] = "put_deployment"


@dataclass(frozen=True, slots=True)
class Scale:
    """The deployment has this many healthy instances."""

    endpoint: str
    deployment: str
    instances: int
    kind: Literal["scale"] = "scale"


@dataclass(frozen=True, slots=True)
class SetTraffic:
    """Live traffic is split, and mirrored, exactly so; deployments that are not named get nothing.

    Attributes:
        traffic: deployment -> share of live requests, tenths of a percent; sums to 0 or 1000.
        mirror: deployment -> share of live requests that are copied to it, tenths of a percent.
    """

    endpoint: str
    traffic: Mapping[str, int] = field(default_factory=dict)
    mirror: Mapping[str, int] = field(default_factory=dict)
    kind: Literal["set_traffic"] = "set_traffic"


@dataclass(frozen=True, slots=True)
class DeleteDeployment:
    """The deployment is gone, drained before; refused while it has traffic or mirrored traffic."""

    endpoint: str
    deployment: str
    kind: Literal["delete_deployment"] = "delete_deployment"


@dataclass(frozen=True, slots=True)
class DeleteEndpoint:
    """The endpoint and all its deployments are gone."""

    endpoint: str
    kind: Literal["delete_endpoint"] = "delete_endpoint"


Action = Annotated[
    PutEndpoint | PutDeployment | Scale | SetTraffic | DeleteDeployment | DeleteEndpoint,
    Discriminator("kind"),
]
