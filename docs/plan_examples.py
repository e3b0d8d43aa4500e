"""What the models cannot say of themselves: an example for every field, and words where a name is not enough.

Read by `generate.py`, which puts the examples into the plan reference. `tests/unit/test_docs.py` loads each of them,
and fails when a field has none. An example is YAML as somebody would type it, with the lines that it needs around it.
"""

from collections.abc import Mapping

BY_NAME = """\
version: 1
name: shop
endpoint: {file: endpoint.yml}
deployments:
  blue: {file: blue-deployment.yml}
  green: {file: green-deployment.yml}
gates:
  errors: {metric: error_rate, max: 2%, max_ratio: 1.5, max_increase: 0.5%}
  latency: {metric: latency, quantile: p95, max: 500ms, max_ratio: 1.10}
steps:
  - deploy: green
  - test: green
    request: sample-request.json
  - shadow: 10%
    gates: [errors, latency]
    hold: 10m
  - canary: [10%, 50%]
    gates: [errors, latency]
    hold: 10m
  - promote: 100%
    gates: [errors]
    hold: 30m
  - delete: blue
"""
"""The shape of a plan; every top-level example is put into this one."""

BY_ROLES = """\
version: 1
name: shop
endpoint: {file: endpoint.yml}
slots: [blue, green]
candidate: {file: deployment.yml}
gates:
  errors: {metric: error_rate, max: 2%, max_ratio: 1.5, max_increase: 0.5%}
steps:
  - deploy: candidate
  - canary: 10%
    gates: [errors]
    hold: 10m
  - promote: 100%
    gates: [errors]
    hold: 30m
  - delete: stable
"""
"""The same for plans that are run again and again; examples about roles are put into this one."""

ROLE_FIELDS = ("candidate", "slots")

LEAST: Mapping[str, str] = {
    "deploy": "deploy: green",
    "scale": "scale: {green: 2}",
    "test": "test: green",
    "shadow": "shadow: 10%",
    "canary": "canary: 10%",
    "promote": "promote: 100%",
    "wait": "wait: 10m",
    "approve": "approve: Do the answers look right?",
    "webhook": "webhook: https://hooks.example.com/rollouts",
    "load": "load: 500\nrequest: sample-request.json",
    "delete": "delete: blue",
    "error_rate": "metric: error_rate\nmax: 2%",
    "latency": "metric: latency\nmax: 500ms",
    "slowdown": "metric: slowdown\nmax_ratio: 1.2",
    "missing_pairs": "metric: missing_pairs\nmax: 2%",
    "prediction": "metric: prediction\nmax: 2%",
    "external": "metric: {prometheus: {url: 'http://127.0.0.1:9090', value: queue_length}}\nmax: 50",
    "FileRef": "file: green-deployment.yml",
    "Load": "request: sample-request.json\nrate: 50/s",
    "Notification": "url: https://hooks.example.com/rollouts",
    "Budget": "bad_responses: 50",
    "InlineRequest": "body: '{}'",
    "ProviderRef": "name: local",
    "Until": 'until: "09:00"',
}
"""The least that a step, a gate or a part of a plan needs; examples of its other fields are added to it."""

EXAMPLES: Mapping[str, str] = {
    "Plan.version": "version: 1",
    "Plan.name": "name: shop-api",
    "Plan.provider": "provider: {name: local, concurrency: 2}",
    "Plan.endpoint": "endpoint: {file: endpoint.yml}",
    "Plan.deployments": "deployments: {blue: {file: blue.yml}, green: {file: green.yml}}",
    "Plan.candidate": "candidate: {file: deployment.yml}",
    "Plan.slots": "slots: [blue, green]",
    "Plan.stable": "stable: blue",
    "Plan.vars": "vars: {share: 10%}",
    "Plan.defaults": "defaults: {hold: 10m, deadline: 2h, min_requests: 500}",
    "Plan.gates": "gates: {errors: {metric: error_rate, max: 2%}}",
    "Plan.steps": "steps: [{deploy: green}, {canary: 10%, hold: 10m}, {promote: 100%}]",
    "Plan.on_fail": "on_fail: pause",
    "Plan.on_no_data": "on_no_data: rollback",
    "Plan.on_undecided": "on_undecided: rollback",
    "Plan.on_error": "on_error: rollback",
    "Plan.alpha": "alpha: 0.1%",
    "Plan.beta": "beta: 1%",
    "Plan.pause_limit": "pause_limit: 4h",
    "Plan.load": "load: {request: sample-request.json, rate: 50/s}",
    "Plan.budget": "budget: {bad_responses: 50}",
    "Plan.on_rollback": "on_rollback: {candidate: keep}",
    "Plan.notify": "notify: [{url: '${env:HOOK_URL}', events: [paused, failed]}]",
    "step.name": "name: the first real users",
    "step.on_fail": "on_fail: pause",
    "step.on_no_data": "on_no_data: rollback",
    "step.on_undecided": "on_undecided: rollback",
    "step.on_error": "on_error: rollback",
    "deploy.deploy": "deploy: green",
    "deploy.deadline": "deadline: 10m",
    "deploy.ready": "ready: full healthy count",
    "scale.scale": "scale: {green: 4}",
    "scale.deadline": "deadline: 10m",
    "test.test": "test: candidate",
    "test.request": "request: sample-request.json",
    "test.method": "method: GET",
    "test.path": "path: /healthz",
    "test.expect": "expect: {status: 200, json: {predictions.0: 92.49}}",
    "test.repeat": "repeat: 20",
    "shadow.shadow": "shadow: [5%, 25%]",
    "canary.canary": "canary: [5%, 25%, 50%]",
    "promote.promote": "promote: 90%",
    "gated.gates": "gates: [errors, latency]",
    "gated.hold": "hold: 10m",
    "gated.deadline": "deadline: 2h",
    "gated.interval": "interval: 30s",
    "gated.decide": "decide: no_fail",
    "wait.wait": "wait: 30m",
    "approve.approve": "approve: Do the answers look right?",
    "approve.timeout": "timeout: 8h",
    "approve.on_timeout": "on_timeout: pause",
    "approve.not_by_starter": "not_by_starter: on",
    "webhook.webhook": "webhook: https://hooks.example.com/rollouts",
    "webhook.method": "method: PUT",
    "webhook.body": 'body: \'{"stage": "green is up"}\'',
    "webhook.headers": 'headers: {authorization: "Bearer ${env:HOOK_TOKEN}"}',
    "webhook.secret": "secret: ${env:HOOK_KEY}",
    "webhook.timeout": "timeout: 30s",
    "webhook.retries": "retries: 5",
    "load.load": "load: 500",
    "load.request": "request: sample-request.json",
    "load.for": "load: 200/s\nfor: 30s",
    "delete.delete": "delete: stable",
    "gate.metric": "metric: error_rate",
    "gate.max_ratio": "max_ratio: 1.5\nmax_increase: 0.5%",
    "gate.blame": "blame: off",
    "gate.source": "source: live",
    "gate.min_requests": "min_requests: 500",
    "gate.warm_up": "warm_up: 1m",
    "gate.interval": "interval: 30s",
    "gate.settle": "settle: 90s",
    "gate.alpha": "alpha: 0.1%",
    "gate.beta": "beta: 1%",
    "gate.dispersion": "dispersion: off",
    "gate.on_fail": "on_fail: pause",
    "gate.on_no_data": "on_no_data: rollback",
    "gate.on_undecided": "on_undecided: rollback",
    "gate.on_error": "on_error: rollback",
    "error_rate.metric": "metric: error_rate",
    "error_rate.max": "max: 2%",
    "error_rate.max_ratio": "max_ratio: 1.5\nmax_increase: 0.5%",
    "error_rate.max_increase": "max_increase: 0.5%",
    "error_rate.codes": "codes: [5xx, timeout]",
    "latency.metric": "metric: latency",
    "latency.quantile": "quantile: p99",
    "latency.max": "max: 250ms",
    "latency.max_ratio": "max_ratio: 1.10",
    "gate.guard": "guard: stable",
    "slowdown.metric": "metric: slowdown",
    "slowdown.max_ratio": "max_ratio: 1.2",
    "missing_pairs.metric": "metric: missing_pairs",
    "missing_pairs.max": "max: 1%",
    "prediction.metric": "metric: prediction",
    "prediction.max": "max: 1%",
    "prediction.tolerance": "tolerance: 0.01",
    "prediction.path": "path: predictions.0.label",
    "prediction.examples": "examples: 5",
    "external.metric": "metric: {prometheus: {url: 'http://127.0.0.1:9090', value: queue_length}}",
    "external.max": "max: 50",
    "external.max_ratio": "max_ratio: 1.5",
    "external.max_increase": "max_increase: 10",
    "Tolerance.absolute": "absolute: 0.001",
    "Tolerance.relative": "relative: 0.01",
    "FileRef.file": "file: green-deployment.yml",
    "ProviderRef.name": "name: local",
    "Load.request": "request: sample-request.json",
    "Load.rate": "rate: 50/s",
    "Load.until": "until: end",
    "InlineRequest.body": "body: '{\"data\": [[1, 2, 3]]}'",
    "Budget.bad_responses": "bad_responses: 50",
    "OnRollback.candidate": "candidate: keep",
    "Notification.url": "url: ${env:HOOK_URL}",
    "Notification.events": "events: [paused, failed]",
    "Notification.secret": "secret: ${file:hook.key}",
    "Expect.status": "status: 201",
    "Expect.json": "json: {predictions.0: 92.49}",
    "Expect.max_latency": "max_latency: 250ms",
    "Until.until": 'until: "09:00"',
    "Until.tz": 'until: "09:00"\ntz: Asia/Tokyo',
}
"""`WHERE.FIELD` -> an example. WHERE is Plan, a kind of step, `gated` (shadow, canary, promote), `step` (all kinds), a
metric, `gate` (all metrics), or the model's name."""

SECTIONS: Mapping[str, tuple[str, str]] = {
    "FileRef": ("A file", "Where a plan names a file: `{file: green-deployment.yml}`, relative to the plan."),
    "InlineSpec": (
        "A deployment in place",
        "Instead of `{file: ...}`, a plan can have the fields of a deployment file; paths are relative to the plan.",
    ),
    "ProviderRef": (
        "A provider with options",
        "The provider's `name`, and its own options beside it ([providers](providers.md)).",
    ),
    "Load": ("Load for the whole rollout", "Requests that the rollout sends itself, from its start to its end."),
    "InlineRequest": ("A request in place", "Instead of a file's name, the body can stand in the plan itself."),
    "Budget": ("A budget", "A limit in plain numbers, beside what the gates say."),
    "OnRollback": ("What a rollback does", "Beside giving stable its traffic back."),
    "Notification": ("A notification", "One webhook, and the events that it is told of."),
    "Tolerance": (
        "A tolerance between numbers",
        "Two numbers are the same when either part says so; a number alone, as in `tolerance: 0.01`, is `absolute`.",
    ),
    "Expect": ("What a test expects", "What is not said is not looked at, except the status."),
    "Until": ("A time of day", 'Instead of a duration: `wait: {until: "09:00", tz: Asia/Tokyo}`.'),
}
"""Parts of a plan that have a section of their own: heading, and a sentence."""

VALUES: Mapping[str, str] = {
    "Plan.provider": "provider's name or [a provider with options](#a-provider-with-options)",
    "Plan.endpoint": "endpoint's name or [a file](#a-file)",
    "Plan.defaults": "mapping of fields to their values",
    "test.test": "deployment's name, `candidate` or `stable`",
    "deploy.deploy": "deployment's name, or `candidate`",
    "delete.delete": "deployment's name, `stable` or `endpoint`",
    "Expect.json": "mapping of dotted path to value",
    "InlineRequest.body": "text",
    "prediction.tolerance": "number or [a tolerance between numbers](#a-tolerance-between-numbers)",
    "external.metric": "mapping of the metric's name to its own options ([metrics](metrics.md))",
}
"""Where the type alone says too little."""

MEANINGS: Mapping[str, str] = {
    "FileRef.file": "Its path, relative to the plan.",
    "ProviderRef.name": "Which provider: `local`, `memory`, or one that somebody installed.",
    "step.name": "Shown instead of the step's own words.",
    "step.on_fail": "What happens when a gate fails, or the step cannot be done; else as the plan says.",
    "step.on_no_data": "What happens when nothing was measured until the deadline; else as the plan says.",
    "step.on_undecided": "What happens when the evidence did not suffice until the deadline; else as the plan says.",
    "step.on_error": "What happens when measuring fails five times in a row; else as the plan says.",
    "gate.on_fail": "What happens when this gate fails; else as its step says.",
    "gate.on_no_data": "What happens when it had no data until the deadline; else as its step says.",
    "gate.on_undecided": "What happens when its evidence did not suffice until the deadline; else as its step says.",
    "gate.on_error": "What happens when it could not be measured five times in a row; else as its step says.",
    "deploy.deploy": "Which deployment is made; it is the candidate from then on.",
    "deploy.ready": "When it is done: once every instance is healthy.",
    "test.test": "Which deployment is asked.",
    "shadow.shadow": "Which share of the live requests is copied; a list is one stage after the other.",
    "canary.canary": "Which share of the live requests the candidate answers; a list must grow.",
    "promote.promote": "Which share the candidate gets.",
    "wait.wait": "How long, or until when.",
    "delete.delete": "What is deleted.",
    "Plan.version": "Version of the plan language. There is one.",
    "Plan.name": "What its rollouts are called; without it, the file's name.",
    "test.method": "The request's method.",
    "test.path": "The request's path.",
    "webhook.method": "The request's method.",
    "webhook.timeout": "How long each try may take.",
    "webhook.retries": "How often it is tried again after the first try.",
    "webhook.headers": "Headers besides those that are always sent; secrets as references.",
    "latency.quantile": "Which quantile of the latencies is judged.",
    "Notification.events": "Which events it is told of; all of them unless the plan says otherwise.",
    "Until.tz": "The time zone that `until` is meant in.",
}
"""Where the model's own description is too short outside its place."""
