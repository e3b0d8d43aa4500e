"""The files beside a first plan: an endpoint, versions of a model that anything can run, a request, a scoring script.

Whoever begins should see a rollout before they have a model to roll out, so these run as they stand, with nothing but
Python; and each says in its comments what to put there instead. They are in the schema of `az ml`, as real ones are.
"""

import json
from collections.abc import Mapping

_SCHEMAS = "https://azuremlschemas.azureedge.net/latest"
_ENDPOINT = """\
# The endpoint: one address, one pair of keys, and the traffic that its deployments share.
# This is the YAML schema of `az ml` (CLI v2): `az ml online-endpoint create --file` takes the same file.
$schema: {schemas}/managedOnlineEndpoint.schema.json
name: {endpoint}
auth_mode: key
"""
_DEPLOYMENT = """\
# {head}
# This is the YAML schema of `az ml` (CLI v2): `az ml online-deployment create --file` takes the same file.
$schema: {schemas}/managedOnlineDeployment.schema.json
name: {name}
endpoint_name: {endpoint}
model:
  path: {model}
code_configuration:
  code: onlinescoring/        # the folder with the code; it becomes the working directory
  scoring_script: score.py    # init() is called once, run() for every request
# On this machine the code runs in the Python that rollout is installed in. Any server that listens on $PORT does as
# well; then write this instead of code_configuration:
# local: {{command: [python, server.py], health_path: /healthz}}
instance_count: {count}             # here a process each; as many as the version that it replaces
# Azure needs these two besides:
# environment: azureml://registries/azureml/environments/sklearn-1.5/labels/latest
# instance_type: Standard_DS3_v2
"""
_SCORE = '''\
"""Scores a linear model: one prediction for each row of numbers.

init() is called once, when an instance starts, and run() for every request, with its body. AZUREML_MODEL_DIR names the
folder that the deployment's model was put into. Put your own model here: load it in init(), use it in run().
"""

import json
import os
import time
from pathlib import Path


def init() -> None:
    """Finds the model; what this raises stops the rollout before any request is sent."""
    global model
    file = next(Path(os.environ["AZUREML_MODEL_DIR"]).rglob("model.json"))
    model = json.loads(file.read_text(encoding="utf-8"))


def run(raw_data: str) -> dict[str, list[float]]:
    """Takes `{"data": [[three numbers], ...]}`; what this raises is an answer with status 500."""
    time.sleep(0.002)  # so that this takes the time of a small real model; remove it with the rest
    rows = json.loads(raw_data)["data"]
    return {"predictions": [predict(row) for row in rows]}


def predict(row: list[float]) -> float:
    return model["intercept"] + sum(weight * number for weight, number in zip(model["weights"], row, strict=True))
'''
_SCORE_TO_FILL_IN = '''\
"""The scoring script of the new version, to be filled in. Until then it does not start, and a rollout ends there.

init() is called once, when an instance starts, and run() for every request, with its body. AZUREML_MODEL_DIR names the
folder that the deployment's model was put into.
"""

import os
from pathlib import Path


def init() -> None:
    folder = Path(os.environ["AZUREML_MODEL_DIR"])
    raise NotImplementedError(f"onlinescoring/score.py is not filled in yet: load the model from {folder} here")


def run(raw_data: str) -> object:
    raise NotImplementedError("onlinescoring/score.py is not filled in yet: answer the request here")
'''
_SAMPLE = {"data": [[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]]}
_MODELS = {
    "model-1/model.json": {"version": 1, "intercept": 1.0, "weights": [0.5, -0.25, 2.0]},
    "model-2/model.json": {"version": 2, "intercept": 1.0, "weights": [0.75, -0.25, 2.0]},
}
_VERSIONS = {
    "blue-deployment.yml": ("blue", "model-1/", "The version that serves today."),
    "green-deployment.yml": ("green", "model-2/", "The version that shall take over: another model, the same code."),
    "deployment.yml": (
        "version-1",
        "model-1/                # the next version: model-2/, and run the plan again",
        "The version to roll out. The plan has slots, so it is called as the slot that is free.",
    ),
}
REQUEST = "sample-request.json"


def companions(endpoint: str) -> Mapping[str, str]:
    """Every file that a stock plan may name, and those that these need: path -> text. `endpoint`: its name."""
    files = {"endpoint.yml": _ENDPOINT.format(endpoint=endpoint, schemas=_SCHEMAS)}
    for path, (name, model, head) in _VERSIONS.items():
        files[path] = _deployment(name, model, head, endpoint, 1)
    files[REQUEST] = _json(_SAMPLE)
    files["onlinescoring/score.py"] = _SCORE
    return files | {path: _json(model) for path, model in _MODELS.items()}


def to_fill_in(endpoint: str, *, name: str, count: int) -> Mapping[str, str]:
    """The files of a new version for an endpoint that exists. As they stand they never get a request.

    Args:
        endpoint, name: of the endpoint and of the new deployment.
        count: its instances.
    """
    head = "The new version. FILL IN: the folder of the model, and the scoring script."
    return {
        "deployment.yml": _deployment(name, "model/", head, endpoint, count),
        REQUEST: _json(_SAMPLE),
        "onlinescoring/score.py": _SCORE_TO_FILL_IN,
        "model/README.txt": "The files of the model belong here. Remove this one then.\n",
    }


def _deployment(name: str, model: str, head: str, endpoint: str, count: int) -> str:
    return _DEPLOYMENT.format(head=head, name=name, model=model, endpoint=endpoint, count=count, schemas=_SCHEMAS)


def _json(value: object) -> str:
    return json.dumps(value, indent=2) + "\n"
