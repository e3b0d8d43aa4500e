"""Makes it so: turns a plan into the state of an endpoint, one durable step at a time.

No step goes further than the evidence allows. Start reading at `orchestrator.lifecycle` (the state machine) and
`orchestrator.decide` (the policy). This file imports nothing, because `rollout --help` has to start at once.
"""
