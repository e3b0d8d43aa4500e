"""Envoy's configuration of an endpoint, as pure values: what is asked for goes in, JSON for Envoy's files comes out.

Envoy reads its clusters (CDS), their members (EDS) and its routes (RDS) from files and applies a changed file without
closing a connection; only the listener is fixed at its start. The `version_info` of a resource is the hash of its
content, so whoever wants to know whether Envoy has applied a file compares what Envoy says with what the file should
be, and nobody has to count versions.

Every deployment has three clusters with the same members, `green`, `green~mirror` and `green~direct`, so that live,
mirrored and directly addressed requests are counted apart.

Source of the field names: the v3 API of Envoy 1.40 (https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/api).
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from providers.measurement import Source

DEPLOYMENT_HEADER = "azureml-model-deployment"
PAIR_HEADER = "x-rollout-pair"
PAIR_LOG = "pairs.ndjson"
"""Name of the log of mirrored requests and their twins, in the endpoint's directory."""
LEG_PREFIX = "leg"
SUFFIXES: Mapping[Source, str] = {"live": "", "mirror": "~mirror", "direct": "~direct"}
"""What is added to a deployment's name to get the cluster that serves one source."""

_CONNECTING_MS = 2_000
_TYPE = "type.googleapis.com/"
_HTTP = _TYPE + "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_OVERWRITE = "OVERWRITE_IF_EXISTS_OR_ADD"
_UPSTREAM_US = "%COMMON_DURATION(US_TX_BEG:US_RX_END:us)%"
END = "%EMIT_TIME(%s.%6f)%"
"""When a line was made: the end of its request, also where there was no answer."""
# Nothing that a client chooses stands in a line.
_PAIR_LINE = {
    "at": "%START_TIME(%s.%6f)%",
    "end": END,
    "id": "%REQ(X-REQUEST-ID)%",
    "cluster": "%UPSTREAM_CLUSTER_RAW%",
    "status": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "us": _UPSTREAM_US,
}


@dataclass(frozen=True, slots=True)
class Upstream:
    """A deployment as Envoy sees it.

    Attributes:
        name: of the deployment.
        health_path: answers 200 while an instance is well.
        timeout_ms: for one request, live, mirrored or direct.
    """

    name: str
    health_path: str = "/healthz"
    timeout_ms: int = 60_000


@dataclass(frozen=True, slots=True)
class Routing:
    """Who gets which request.

    Attributes:
        upstreams: every deployment that can be addressed.
        traffic, mirror: deployment -> share, tenths of a percent.
        keys: bearer keys that are let in.
    """

    upstreams: tuple[Upstream, ...] = ()
    traffic: Mapping[str, int] = field(default_factory=dict)
    mirror: Mapping[str, int] = field(default_factory=dict)
    keys: tuple[str, ...] = field(default=(), repr=False)


def bootstrap(*, port: int, admin: Path, xds: Path, pairs: Path) -> dict[str, Any]:
    """What Envoy is started with: its admin socket, the one listener and where the other files are.

    Args:
        port: the listener's, on 127.0.0.1.
        admin: unix socket to serve the admin interface on.
        xds: folder with one folder a resource.
        pairs: file that mirrored requests and their twins are logged in.
    """
    manager = {
        "@type": _HTTP,
        "stat_prefix": "endpoint",
        "rds": {"route_config_name": "endpoint", "config_source": _source(xds / "rds")},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": _TYPE + "envoy.extensions.filters.http.router.v3.Router",
                    "suppress_envoy_headers": True,
                    "upstream_log": [_leg_statistics(), _pair_log(pairs)],
                },
            }
        ],
        # Envoy's own id joins the legs of a request, so a client may not choose it; what the client sent
        # goes on under another name.
        "generate_request_id": True,
        "early_header_mutation_extensions": [
            {
                "name": "envoy.http.early_header_mutation.header_mutation",
                "typed_config": {
                    "@type": _TYPE + "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
                    "mutations": [
                        {"append": _header("x-client-request-id", "%REQ(X-REQUEST-ID)%", keep_empty_value=False)},
                        {"remove": "x-request-id"},
                        {"remove": PAIR_HEADER},
                    ],
                },
            }
        ],
        "use_remote_address": True,
        "normalize_path": True,
        "server_header_transformation": "PASS_THROUGH",
        "common_http_protocol_options": {"idle_timeout": "60s"},
        "request_headers_timeout": "10s",
        "stream_idle_timeout": "300s",
    }
    listener = {
        "name": "endpoint",
        "address": _address(port),
        "stat_prefix": "endpoint",
        "per_connection_buffer_limit_bytes": 1 << 20,
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
    return {
        "node": {"id": "endpoint", "cluster": "endpoint"},
        # Histograms are merged when somebody reads (see `envoy.Admin.statistics`), so that a reading is never late.
        "stats_flush_on_admin": True,
        "admin": {"address": {"pipe": {"path": str(admin), "mode": 0o600}}},
        "dynamic_resources": {"cds_config": _source(xds / "cds")},
        "static_resources": {"listeners": [listener]},
    }


def clusters(upstreams: Iterable[Upstream], xds: Path) -> dict[str, Any]:
    """The CDS resource: three clusters a deployment."""
    return _resource([_cluster(upstream, suffix, xds) for upstream in upstreams for suffix in SUFFIXES.values()])


def members(deployment: str, ports: Iterable[int]) -> dict[str, Any]:
    """The EDS resource of one deployment: the ports of its instances that may get requests."""
    endpoints = [{"endpoint": {"address": _address(port)}} for port in ports]
    assignment = {
        "@type": _TYPE + "envoy.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": deployment,
        "endpoints": [{"lb_endpoints": endpoints}],
    }
    return _resource([assignment])


def routes(routing: Routing) -> dict[str, Any]:
    """The RDS resource, in order: without a valid key 401, a named deployment, everything else by weight.

    A deployment that is asked for by name is never mirrored. Without any weight the answer is 404, as on Azure.
    """
    table = [_unauthorized(routing.keys)]
    table += [_direct(upstream) for upstream in routing.upstreams]
    named = {"prefix": "/", "headers": [{"name": DEPLOYMENT_HEADER, "present_match": True}]}
    table.append({"name": "unknown", "match": named, **_answer(404, "No deployment of that name.")})
    table += _live(routing)
    configuration = {
        "@type": _TYPE + "envoy.config.route.v3.RouteConfiguration",
        "name": "endpoint",
        "validate_clusters": True,
        "virtual_hosts": [
            {"name": "endpoint", "domains": ["*"], "routes": table, "request_headers_to_remove": ["authorization"]},
        ],
    }
    return _resource([configuration])


def version(resource: Mapping[str, Any]) -> str:
    """The version that Envoy will report once it has applied the resource."""
    return str(resource["version_info"])


def _resource(resources: list[dict[str, Any]]) -> dict[str, Any]:
    digest = hashlib.sha256(json.dumps(resources, sort_keys=True).encode()).hexdigest()
    return {"version_info": digest[:16], "resources": resources}


def _source(folder: Path) -> dict[str, Any]:
    # A rename in a watched folder reloads every file in it, hence a folder for each.
    path = {"path": str(folder / "resource.json"), "watched_directory": {"path": str(folder)}}
    return {"resource_api_version": "V3", "path_config_source": path}


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _header(key: str, value: str, **more: Any) -> dict[str, Any]:
    return {"header": {"key": key, "value": value}, "append_action": _OVERWRITE, **more}


def _echo(deployment: str) -> list[dict[str, Any]]:
    return [_header(DEPLOYMENT_HEADER, deployment)]


def _answer(status: int, text: str) -> dict[str, Any]:
    return {"direct_response": {"status": status, "body": {"inline_string": text + "\n"}}}


def _seconds(milliseconds: int) -> str:
    return f"{milliseconds // 1000}.{milliseconds % 1000:03d}s"


def _leg_statistics() -> dict[str, Any]:
    def tag(name: str, value: str) -> dict[str, str]:
        return {"name": name, "value_format": value}

    cluster = tag("cluster", "%UPSTREAM_CLUSTER_RAW%")
    latency = {"stat": {"name": "us", "tags": [cluster]}, "unit": "Microseconds", "value_format": _UPSTREAM_US}
    outcome = [cluster, tag("code", "%RESPONSE_CODE%"), tag("flags", "%RESPONSE_FLAGS%")]
    return {
        "name": "envoy.access_loggers.stats",
        "typed_config": {
            "@type": _TYPE + "envoy.extensions.access_loggers.stats.v3.Config",
            "stats_scope": {"prefix": LEG_PREFIX + "."},
            "histograms": [latency],
            "counters": [{"stat": {"name": "rq", "tags": outcome}, "value_fixed": 1}],
        },
    }


def _pair_log(path: Path) -> dict[str, Any]:
    # Always configured: a changed listener would close every connection. A header that only our routes can set
    # chooses what is logged.
    return {
        "name": "envoy.access_loggers.file",
        "filter": {"header_filter": {"header": {"name": PAIR_HEADER, "present_match": True}}},
        "typed_config": {
            "@type": _TYPE + "envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": str(path),
            "log_format": {"json_format": _PAIR_LINE},
        },
    }


def _cluster(upstream: Upstream, suffix: str, xds: Path) -> dict[str, Any]:
    # A route's time-out is the same for all that it can choose, and for its mirror; this one is the deployment's
    # own. The client gets 504.
    common = {"idle_timeout": "2s", "max_stream_duration": _seconds(upstream.timeout_ms)}
    protocol = _TYPE + "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    options = {
        "@type": protocol,
        "common_http_protocol_options": common,
        "explicit_http_config": {"http_protocol_options": {}},
    }
    return {
        "@type": _TYPE + "envoy.config.cluster.v3.Cluster",
        "name": upstream.name + suffix,
        "type": "EDS",
        "eds_cluster_config": {"service_name": upstream.name, "eds_config": _source(xds / f"eds-{upstream.name}")},
        "connect_timeout": "1s",
        "lb_policy": "LEAST_REQUEST",
        # By default the threads that serve learn up to 1 s late that a member is healthy, though the
        # statistics say so.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}, "update_merge_window": "0s"},
        # Removed members would otherwise stay for as long as their health checks pass.
        "ignore_health_on_host_removal": True,
        "circuit_breakers": {
            "thresholds": [
                {"max_connections": 1024, "max_pending_requests": 1024, "max_requests": 1024, "max_retries": 0}
            ]
        },
        "typed_extension_protocol_options": {protocol.removeprefix(_TYPE): options},
        "health_checks": [
            {
                "timeout": "3s",
                "interval": "1s",
                "unhealthy_threshold": 3,
                "healthy_threshold": 1,
                "no_traffic_interval": "0.5s",
                "no_traffic_healthy_interval": "1s",
                "unhealthy_interval": "0.1s",
                "initial_jitter": "0.001s",
                "http_health_check": {"path": upstream.health_path},
            }
        ],
    }


def _unauthorized(keys: tuple[str, ...]) -> dict[str, Any]:
    # Both keys stand in one pattern, so that changing one is one update of the routes. Without keys nothing matches.
    pattern = "(?i:bearer) +(" + "|".join(re.escape(key) for key in keys) + ")" if keys else "[^\\s\\S]"
    header = {
        "name": "authorization",
        "string_match": {"safe_regex": {"regex": pattern}},
        "invert_match": True,
        "treat_missing_header_as_empty": True,
    }
    return {
        "name": "unauthorized",
        "match": {"prefix": "/", "headers": [header]},
        **_answer(401, "A valid key is needed: Authorization: Bearer KEY."),
        "response_headers_to_add": [{"header": {"key": "www-authenticate", "value": "Bearer"}}],
    }


def _direct(upstream: Upstream) -> dict[str, Any]:
    header = {"name": DEPLOYMENT_HEADER, "string_match": {"exact": upstream.name}}
    return {
        "name": f"direct-{upstream.name}",
        "match": {"prefix": "/", "headers": [header]},
        "route": {
            "cluster": upstream.name + SUFFIXES["direct"],
            "timeout": _seconds(upstream.timeout_ms + _CONNECTING_MS),
        },
        "response_headers_to_add": _echo(upstream.name),
    }


def _live(routing: Routing) -> list[dict[str, Any]]:
    """The routes by weight: one for what is mirrored, then one for the rest.

    Only the first one's requests bear the header that has them logged, on both legs, so that a live line always has, or
    had, a copy. Split, mirror and the choice between the routes take the same random number of the request: with the
    modulus of the weights (1000) split and mirror would be one choice, and with a million for both of the others these
    two always agree.
    """
    weights = {name: share for name, share in sorted(routing.traffic.items()) if share}
    if not weights:
        return [{"name": "live", "match": {"prefix": "/"}, **_answer(404, "No deployment has traffic.")}]
    mirror = {name: share for name, share in sorted(routing.mirror.items()) if share}
    longest = max(upstream.timeout_ms for upstream in routing.upstreams)
    route: dict[str, Any] = {
        "timeout": _seconds(longest + _CONNECTING_MS),
        "weighted_clusters": {
            "clusters": [
                {"name": name, "weight": share, "response_headers_to_add": _echo(name)}
                for name, share in weights.items()
            ]
        },
    }
    live = {"name": "live", "match": {"prefix": "/"}, "route": route}
    if not mirror:
        return [live]
    policies = [
        {
            "cluster": name + SUFFIXES["mirror"],
            "runtime_fraction": _fraction(share),
            "disable_shadow_host_suffix_append": True,
        }
        for name, share in mirror.items()
    ]
    mirrored = {
        "name": "mirrored",
        "match": {"prefix": "/", "runtime_fraction": _fraction(max(mirror.values()))},
        "route": {**route, "request_mirror_policies": policies},
        "request_headers_to_add": [_header(PAIR_HEADER, "1")],
    }
    return [mirrored, live]


def _fraction(share: int) -> dict[str, Any]:
    return {"default_value": {"numerator": share * 1000, "denominator": "MILLION"}}
