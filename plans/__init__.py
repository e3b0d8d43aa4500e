"""What the user says: the plan language, its models and its errors.

This floor turns YAML text into frozen models and knows neither providers nor the orchestrator. Import the module that
you need (`plans.model`, `plans.source`): this file imports nothing, because `rollout --help` has to start at once.
"""
