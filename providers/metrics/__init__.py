"""Figures that come from somewhere else than the endpoint's own counters: `metric: {prometheus: {...}}` in a gate.

`base` is the protocol; a distribution offers a metric of its own in the entry point group `rollout.metrics`.
"""
