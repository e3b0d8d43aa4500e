"""Which processes an endpoint consists of: what the keeper is told to run for Envoy and for each instance.

A process that runs is never re-described: another description would replace it, and an upgrade of this program must
not restart somebody's model. So a description is written when the process is first wanted, and again only by `start`.
"""

import re
import sys
from collections.abc import Callable
from pathlib import Path

from providers.local import envoy
from providers.local.processes import ProcessSpec
from providers.local.state import Deployment, Generation, Instance, Layout
from providers.local.xds import Upstream
from providers.specs import Content

PROXY = "envoy"
COMPARER = "answers"
HOST = Path(__file__).with_name("scoring_host.py")
IDENTITY_HEADER = "x-rollout-instance"
STOP_S = 5.0
"""From SIGTERM to SIGKILL: it is only stopped when nobody waits for it any more."""
_PORT = re.compile(r"\$(?:PORT\b|\{PORT\})")
TIMEOUT_MS = 60_000
"""For deployments that say nothing about it."""


def process_name(deployment: str, instance: Instance) -> str:
    """Under which name the keeper runs it; a deployment's own name has no dot."""
    return f"{deployment}.{instance.number}"


def identity(deployment: str, instance: Instance) -> str:
    """What proves that whoever answers on its port is this instance, of this generation."""
    return f"{deployment}.{instance.number}.{instance.generation}"


def upstream(deployment: Deployment) -> Upstream:
    """The deployment as Envoy shall see it."""
    spec = deployment.serves.resolved.spec
    timeout = TIMEOUT_MS if spec.request_settings is None else spec.request_settings.request_timeout_ms
    return Upstream(deployment.name, health_path(deployment.serves), timeout)


def health_path(generation: Generation) -> str:
    """Where an instance says that it is well."""
    local = generation.resolved.spec.local
    return local.health_path if local is not None and local.command is not None else "/healthz"


def proves_identity(generation: Generation) -> bool:
    """Whether its instances say who they are: ours do, a `command` need not."""
    local = generation.resolved.spec.local
    return local is None or local.command is None


def hands_over(generation: Generation) -> bool:
    """Whether its instances hand their answers to the comparing process: ours do, a `command` does not."""
    return proves_identity(generation)


def proxy(layout: Layout, concurrency: int) -> ProcessSpec:
    """Envoy. Raises Unsupported where there is none."""
    arguments = envoy.arguments(envoy.executable(), layout.bootstrap, concurrency)
    return ProcessSpec(arguments, layout.logs / "envoy.log", cwd=layout.directory, stop_s=10.0)


def comparer(layout: Layout) -> ProcessSpec:
    """The process that compares the answers of mirrored requests with their twins'."""
    # -P: what lies in the directory that it starts in is never imported.
    arguments = (sys.executable, "-P", "-m", "providers.local.comparer", str(layout.directory))
    return ProcessSpec(arguments, layout.logs / "answers.log", cwd=layout.directory, stop_s=2.0)


def instance(
    layout: Layout, deployment: str, generation: Generation, one: Instance, resolve: Callable[[str], str]
) -> ProcessSpec:
    """One instance, with its secrets in place of their references. Raises Permanent when one cannot be had."""
    resolved, spec = generation.resolved, generation.resolved.spec
    snapshot = layout.snapshot(deployment, generation)
    environment = {name: resolve(value) for name, value in spec.environment_variables.items()}
    environment |= {
        "PORT": str(one.port),
        "ROLLOUT_INSTANCE": identity(deployment, one),
        "PYTHONUNBUFFERED": "1",
    }
    directory = _copy(snapshot, "code", resolved.code)
    if resolved.model is not None:
        # The contract: this folder *contains* the model's own folder or file.
        environment["AZUREML_MODEL_DIR"] = str(snapshot / "model")
    if spec.local is not None and spec.local.command is not None:
        arguments = tuple(_PORT.sub(str(one.port), word) for word in spec.local.command)
    else:
        assert directory is not None
        assert spec.code_configuration is not None
        environment |= {"ROLLOUT_CODE": str(directory), "ROLLOUT_SCRIPT": spec.code_configuration.scoring_script}
        environment["ROLLOUT_RUNTIME"] = str(layout.runtime)
        arguments = (sys.executable, str(HOST))
    log = layout.log_folder(deployment, generation) / f"instance-{one.number}.log"
    return ProcessSpec(arguments, log, env=environment, cwd=directory or snapshot, stop_s=STOP_S)


def _copy(snapshot: Path, kind: str, content: Content | None) -> Path | None:
    return None if content is None else snapshot / kind / Path(content.path).name
