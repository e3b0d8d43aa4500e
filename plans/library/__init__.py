"""Stock plans: what `rollout init` begins with, each a valid plan with comments that say why it is as it is.

They are package data, so that they are there wherever the package is. The second line of each says what it is for.
"""

from importlib import resources

CALLED = "my-model"
"""What the stock plans call the rollout and its endpoint; whoever copies one puts another name there."""


def names() -> tuple[str, ...]:
    """All stock plans, sorted."""
    found = (each.name for each in resources.files(__name__).iterdir())
    return tuple(sorted(name.removesuffix(".yml") for name in found if name.endswith(".yml")))


def text(name: str) -> str:
    """A stock plan as it stands in its file. Raises KeyError when there is none of that name."""
    if name not in names():
        raise KeyError(name)
    return resources.files(__name__).joinpath(f"{name}.yml").read_text(encoding="utf-8")


def summary(name: str) -> str:
    """What a stock plan is for, in one line. Raises KeyError when there is none of that name."""
    return text(name).splitlines()[1].removeprefix("# ")
