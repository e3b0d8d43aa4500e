"""From a stage with a one-shot step to the coroutine that tries it."""

from collections.abc import Awaitable, Callable

from orchestrator.bundle import Bundle
from orchestrator.rollout import Rollout
from orchestrator.stages import Stage
from orchestrator.tasks.load import run_load
from orchestrator.tasks.result import TaskResult
from orchestrator.tasks.test import run_test
from orchestrator.tasks.webhook import run_webhook
from plans.steps import LoadStep, TestStep, WebhookStep
from providers.base import Provider


def runner(
    rollout: Rollout, bundle: Bundle, provider: Provider, resolve: Callable[[str], str]
) -> Callable[[Stage], Awaitable[TaskResult]]:
    """How this rollout's one-shot steps are tried."""

    async def run(stage: Stage) -> TaskResult:
        match stage.work:
            case TestStep() as step:
                return await run_test(
                    step, bundle.request_body(step.request), provider=provider, endpoint=rollout.endpoint_name
                )
            case LoadStep() as step:
                return await run_load(
                    step, bundle.request_body(step.request), provider=provider, endpoint=rollout.endpoint_name
                )
            case WebhookStep() as step:
                facts = {
                    "rollout": rollout.id,
                    "name": rollout.name,
                    "endpoint": rollout.endpoint_name,
                    "step": stage.name,
                }
                return await run_webhook(step, key=f"{rollout.id}.{stage.index}", resolve=resolve, facts=facts)
        raise TypeError(f"{stage.name} is not a one-shot step")

    return run
