"""The frame of the house: floors, the size of modules, what starting up may import, and what the wheel must contain.

import-linter checks the same floors with indirect imports (`make lint`); these run with the unit tests, in
milliseconds, and on the packages that are installed.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import orchestrator
import plans
import providers

CHECKOUT = Path(__file__).resolve().parents[2]
FLOORS = {package.__name__: Path(package.__file__).resolve().parent for package in (plans, providers, orchestrator)}
MAY_KNOW = {"plans": {"plans"}, "providers": {"providers"}, "orchestrator": {"plans", "providers", "orchestrator"}}
LEFTOVERS = {"utils", "util", "helpers", "helper", "common", "manager", "managers", "misc"}
# click and the standard library are what `rollout --help` needs.
HEAVY = {"envoy", "httpx", "numpy", "psutil", "pydantic", "rich", "sqlalchemy", "stamina", "transitions", "uvicorn"}
LONGEST = 450


def modules() -> list[tuple[str, Path]]:
    """(dotted name, file) of every module of the three floors."""
    found = []
    for floor, home in FLOORS.items():
        for path in sorted(home.rglob("*.py")):
            parts = [floor, *path.relative_to(home).with_suffix("").parts]
            found.append((".".join(parts[:-1] if parts[-1] == "__init__" else parts), path))
    return found


def imports(path: Path) -> set[str]:
    """Dotted names that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the floor"
            found.add(node.module or "")
    return found


MODULES = modules()
EVERY_MODULE = pytest.mark.parametrize(("name", "path"), MODULES, ids=[name for name, _ in MODULES])


@EVERY_MODULE
def test_a_floor_knows_only_the_floors_below(name, path):
    own = name.split(".")[0]
    reached = {imported.split(".")[0] for imported in imports(path)} & set(FLOORS)
    assert reached <= MAY_KNOW[own], f"{name} imports {sorted(reached - MAY_KNOW[own])}"


@EVERY_MODULE
def test_only_providers_http_imports_httpx(name, path):
    if name != "providers.http":
        assert "httpx" not in {imported.split(".")[0] for imported in imports(path)}


@EVERY_MODULE
def test_a_module_says_why_it_exists_and_stays_readable(name, path):
    text = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)), f"{name} does not say why it exists"
    assert len(text.splitlines()) <= LONGEST, f"{name} holds more than one concept"
    assert name.split(".")[-1] not in LEFTOVERS, f"{name}: a name that collects leftovers"


@pytest.mark.parametrize("floor", FLOORS)
def test_packages_are_packages_and_typed(floor):
    home = FLOORS[floor]
    assert (home / "py.typed").is_file()
    bare = {path.parent for path in home.rglob("*.py")} - {path.parent for path in home.rglob("__init__.py")}
    assert not bare, f"without __init__.py these stay out of the wheel: {sorted(map(str, bare))}"


def imported_by(statement: str) -> set[str]:
    """Top-level packages in sys.modules of a fresh interpreter after `statement`."""
    code = f"{statement}\nimport sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_importing_a_floor_imports_nothing_else():
    reached = imported_by("import plans, providers, orchestrator")
    assert not reached & HEAVY


def test_the_command_line_starts_without_heavy_imports():
    reached = imported_by("import orchestrator.cli.main")
    assert not reached & HEAVY, "rollout --help must start at once: import these where a command needs them"


def contents(home: Path) -> set[str]:
    return {
        path.relative_to(home).as_posix()
        for path in home.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    }


@pytest.mark.needs("wheel")
@pytest.mark.parametrize("floor", FLOORS)
def test_the_wheel_holds_exactly_what_the_checkout_holds(floor):
    """Package data that nobody listed, and modules deleted since, both show here."""
    assert contents(FLOORS[floor]) == contents(CHECKOUT / floor)


@pytest.mark.needs("wheel")
def test_processes_of_the_tests_use_the_wheel_too():
    command = [sys.executable, "-c", "import orchestrator; print(orchestrator.__file__)"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=True)
    assert Path(done.stdout.strip()).resolve().parent == FLOORS["orchestrator"]
