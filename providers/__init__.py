"""What the world offers: endpoints, deployments, traffic and measurements, behind one small protocol.

The vocabulary stands in `providers.base`; a provider is found by name through `providers.registry`. This floor knows
neither plans nor the orchestrator, and this file imports nothing, because `rollout --help` has to start at once.
"""
