"""What a plan would have made of traffic that somebody recorded: `rollout backtest`.

A recording (`recording`) comes from an earlier rollout (`kept`) or from a CSV file (`table`); `replay` walks the plan's
stages through it with the policy that drives rollouts. Nothing in here measures, and nothing changes anything.
"""
