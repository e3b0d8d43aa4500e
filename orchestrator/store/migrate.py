"""Bringing a database to the newest schema: numbered SQL files, forward only, each applied once, under a lock.

A database that is newer than this version knows is refused: writing to it by older rules could break what the newer
ones promise.
"""

from collections.abc import Callable
from importlib.resources import files

from sqlalchemy import Connection, Engine, inspect, select

from orchestrator.errors import StoreError
from orchestrator.store import dialect
from orchestrator.store.tables import SCHEMA_VERSION, STORE

Migrations = dict[int, str]


def shipped() -> Migrations:
    """The migrations of this version: number -> SQL text."""
    folder = files("orchestrator.store") / "migrations"
    scripts = [file for file in folder.iterdir() if file.name.endswith(".sql")]
    return {int(script.name.split("_")[0]): script.read_text("utf-8") for script in scripts}


def migrate(engine: Engine, token: Callable[[], str], migrations: Migrations | None = None) -> str:
    """Apply what is missing; several processes may do so at once.

    Args:
        engine: of the database.
        token: makes the store's id, the first time.
        migrations: for tests; default: `shipped()`.

    Returns:
        The store's id.

    Raises:
        StoreError: the database is newer than this version, or not one of ours.
    """
    known = shipped() if migrations is None else migrations
    newest = max(known)
    where = str(engine.url.database)
    # Nearly always there is nothing to do, and then nobody has to wait for a lock.
    with engine.connect() as connection, connection.begin():
        if _version(connection, where) == newest:
            return _id(connection)
    with dialect.migrating(engine).connect() as connection, connection.begin():
        version = _version(connection, where)
        if version > newest:
            raise StoreError(
                f"the store {where} was used by a newer version of rollout (its schema is {version}, this version "
                f"knows {newest}): use that version, or name another store in ROLLOUT_STORE"
            )
        if version == 0:
            connection.exec_driver_sql("CREATE TABLE schema_version (version INTEGER NOT NULL)")
            connection.execute(SCHEMA_VERSION.insert().values(version=0))
        for number in sorted(number for number in known if number > version):
            for statement in statements(known[number]):
                connection.exec_driver_sql(statement)
        connection.execute(SCHEMA_VERSION.update().values(version=newest))
        if version == 0:
            connection.execute(STORE.insert().values(id=token()))
        return _id(connection)


def statements(text: str) -> list[str]:
    """The statements of a migration: each ends with a semicolon at the end of a line; whole lines may be comments."""
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))
    return [statement.strip() for statement in (code + "\n").split(";\n") if statement.strip()]


def _version(connection: Connection, where: str) -> int:
    tables = inspect(connection).get_table_names()
    if SCHEMA_VERSION.name in tables:
        return int(connection.execute(select(SCHEMA_VERSION.c.version)).scalar_one())
    if tables:
        raise StoreError(
            f"the store {where} is a database of something else (it has a table {tables[0]}): "
            "name another file in ROLLOUT_STORE"
        )
    return 0


def _id(connection: Connection) -> str:
    return str(connection.execute(select(STORE.c.id)).scalar_one())
