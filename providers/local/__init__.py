"""The local provider: real parts on one machine.

Envoy is the data plane, each instance is a process of its own, and a small keeper for each endpoint keeps them running.
Nothing here needs a daemon of the system, a container or a privilege.
"""
