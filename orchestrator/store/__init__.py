"""Durable rollouts: the `Store` protocol in `base`, the SQL store in `sql`, and its twin for tests in `memory`."""
