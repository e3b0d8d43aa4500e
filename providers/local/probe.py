"""Asks starting instances whether they are ready, and whether they are who we think.

Only an answer proves it: a port may have been taken by a stranger, or still be held by the process before.
"""

import http.client
from concurrent.futures import ThreadPoolExecutor

from providers.local import launching
from providers.local.state import Deployment, Instance, State

ANSWER_S = 0.3


def probe(state: State) -> frozenset[str]:
    """Identities of the starting instances that answer as themselves, asked all at once."""
    starting = [(one, i) for one in state.deployments.values() for i in one.instances if i.phase == "starting"]
    if not starting:
        return frozenset()
    with ThreadPoolExecutor(min(16, len(starting))) as pool:
        answers = pool.map(lambda pair: _answers(*pair), starting)
        return frozenset(
            launching.identity(d.name, i) for (d, i), ready in zip(starting, answers, strict=True) if ready
        )


def _answers(deployment: Deployment, instance: Instance) -> bool:
    generation = next(one for one in deployment.generations if one.id == instance.generation)
    connection = http.client.HTTPConnection("127.0.0.1", instance.port, timeout=ANSWER_S)
    try:
        connection.request("GET", launching.health_path(generation))
        response = connection.getresponse()
        said = response.getheader(launching.IDENTITY_HEADER)
        ours = not launching.proves_identity(generation) or said == launching.identity(deployment.name, instance)
        return response.status == 200 and ours
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
