"""Rollouts by the thousand, on traffic that is only counted: how often a plan would catch what is wrong, and how soon.

Read in this order: `course` (the stages of a plan as stretches of polls), `latency` and `cells` (what answers take, and
in which columns that is counted), `traffic` (what one poll counts), `fold` (the evidence, equal to that of the real
engine), `run` (what becomes of each rollout). All pure: random generators are passed in.
"""
