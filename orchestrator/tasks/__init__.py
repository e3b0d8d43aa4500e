"""One-shot steps: what a stage does when it has no target, and the synthetic traffic beside a rollout.

Each is a coroutine that is given what it needs and returns a `TaskResult`; when to try it, and what follows, is decided
elsewhere.
"""
