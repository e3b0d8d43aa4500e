"""Metric gates: from counted requests to PASS, FAIL or "not yet", at a stated error level, however often one looks.

Read in this order: `spec` (what is asked), `kernels` (the statistics), `bets` (what a gate bets on a poll), `state`
(what is remembered between polls), `judge` (what it allows). All pure.
"""
