"""The command line, a face of `orchestrator.app`.

Modules that define commands import click only; everything else is imported when one runs.
"""
