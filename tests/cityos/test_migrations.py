"""The city's revisions lead from every earlier layout to the schema the program works with."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Column, Engine, LargeBinary, MetaData, create_engine, inspect, text

from agent.base.errors import CityError
from agent.cityos.db import migrations
from agent.cityos.db.database import address, open_engine
from agent.cityos.db.schema import METADATA, STREAM

FOLDER = Path(migrations.__file__).parent
COUNTED = 5  # the last version that the table "migration" counted by itself


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    """An empty database, opened without migrating it."""
    made = create_engine(address(database))
    yield made
    made.dispose()


@contextmanager
def migrated(database: str) -> Iterator[Engine]:
    engine = open_engine(database, create=True)
    yield engine
    engine.dispose()


def as_counted(engine: Engine, version: int) -> None:
    """Leave *engine*'s database as the program did that counted *version* in "migration"."""
    with engine.begin() as db:
        settings = Config(attributes={"connection": db})
        settings.set_main_option("script_location", str(FOLDER))
        command.upgrade(settings, f"{version:04}")
        db.execute(text("DROP TABLE alembic_version"))
        db.execute(
            text(
                "CREATE TABLE migration"
                " (version BIGINT NOT NULL PRIMARY KEY, at_ms BIGINT NOT NULL)"
            )
        )
        for number in range(1, version + 1):
            db.execute(text("INSERT INTO migration VALUES (:number, 1)"), {"number": number})


def differences(engine: Engine, metadata: MetaData) -> list[Any]:
    """What Alembic would have to change for the tables to be *metadata*'s."""
    with engine.connect() as db:
        options = {"compare_server_default": True, "compare_type": same_bytes}
        return list(compare_metadata(MigrationContext.configure(db, opts=options), metadata))


def same_bytes(
    context: MigrationContext, _found: object, _meta: object, found: object, meta: object
) -> bool | None:
    """False where SQLite, which has no BYTEA and keeps bytes in any column, says a number."""
    if context.dialect.name == "sqlite" and isinstance(meta, LargeBinary):
        return False
    return None


def test_the_migrated_tables_are_those_the_program_works_with(database: str) -> None:
    with migrated(database) as engine:
        found = inspect(engine)
        for table in METADATA.sorted_tables:
            columns = {
                column["name"]: column["nullable"] for column in found.get_columns(table.name)
            }
            assert columns == {column.name: column.nullable for column in table.columns}, table.name
            key = found.get_pk_constraint(table.name)["constrained_columns"]
            assert key == [column.name for column in table.primary_key], table.name


def test_alembic_finds_nothing_to_change_in_migrated_tables(database: str) -> None:
    with migrated(database) as engine:
        assert differences(engine, METADATA) == []


def altered(change: Callable[[MetaData], object]) -> MetaData:
    metadata = MetaData()
    for table in METADATA.sorted_tables:
        table.to_metadata(metadata)
    change(metadata)
    return metadata


@pytest.mark.parametrize(
    ("change", "operation"),
    [
        (lambda m: m.tables["gap"].append_column(Column("more", LargeBinary)), "add_column"),
        (lambda m: m.remove(m.tables["config"]), "remove_table"),
        (lambda m: m.tables["event"].indexes.clear(), "remove_index"),
        (lambda m: setattr(m.tables["stream"].c.born, "server_default", None), "modify_default"),
    ],
)
def test_the_comparison_sees_a_schema_that_ran_away(
    engine: Engine, change: Callable[[MetaData], object], operation: str
) -> None:
    METADATA.create_all(engine)
    assert operation in str(differences(engine, altered(change)))


def test_partial_indexes_cover_the_same_rows(database: str, engine: Engine) -> None:
    """Alembic does not compare what an index leaves out."""
    with migrated(database):
        found = covered(engine)
    METADATA.drop_all(engine)
    METADATA.create_all(engine)
    assert found == covered(engine)
    assert len(found) == 5


def covered(engine: Engine) -> dict[str, str]:
    """What every partial index covers, as the engine tells it."""
    where = f"{engine.dialect.name}_where"
    indexes = [i for table in METADATA.tables for i in inspect(engine).get_indexes(table)]
    options = {index["name"]: index["dialect_options"] for index in indexes}
    return {str(name): str(said[where]) for name, said in options.items() if where in said}


@pytest.mark.parametrize("version", range(1, COUNTED + 1))
def test_every_layout_counted_before_alembic_is_brought_up_to_date(
    engine: Engine, database: str, version: int
) -> None:
    as_counted(engine, version)
    with engine.begin() as db:
        db.execute(text("INSERT INTO stream (device, epoch, upto) VALUES ('bus-1', 'e', 7)"))
    with pytest.raises(CityError, match=r"start 'kaopass city serve' on it once"):
        open_engine(database, create=False)
    with migrated(database) as now, now.connect() as db:
        assert migrations.version(db) == migrations.HEAD
        assert differences(now, METADATA) == []
        kept = [(row.upto, row.last) for row in db.execute(STREAM.select())]
    assert kept == [(7, 7 if version == 1 else 0)]  # 0002 takes what is complete as the last
    open_engine(database, create=False).dispose()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE alembic_version SET version_num = '9999'",
        "INSERT INTO migration VALUES (7, 0)",
    ],
)
@pytest.mark.parametrize("create", [True, False])
def test_a_database_of_a_later_revision_is_refused(
    database: str, statement: str, create: bool
) -> None:
    with migrated(database) as engine, engine.begin() as db:
        db.execute(text(statement))
    with pytest.raises(CityError, match="install the newer kaopass again"):
        open_engine(database, create=create)


def test_a_program_from_before_alembic_reads_a_version_it_does_not_know(database: str) -> None:
    with migrated(database) as engine, engine.connect() as db:
        counted = db.execute(text("SELECT max(version) FROM migration")).scalar_one()
    assert counted > COUNTED


@pytest.mark.slow
def test_workers_that_start_together_migrate_once(engine: Engine, database: str) -> None:
    as_counted(engine, 3)
    code = (
        "import sys; from agent.cityos.db.database import open_engine;"
        " open_engine(sys.argv[1], create=True)"
    )

    def start(_number: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code, database]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(start, range(4)))
    assert [(one.returncode, one.stderr) for one in done] == [(0, "")] * 4
    with engine.connect() as db:
        assert migrations.version(db) == migrations.HEAD


def test_a_step_that_fails_leaves_nothing_behind(engine: Engine, database: str) -> None:
    as_counted(engine, 3)
    with engine.begin() as db:
        db.execute(text("CREATE TABLE command (id VARCHAR)"))  # in the way of 0005, after 0004
    with pytest.raises(CityError, match="command"):
        open_engine(database, create=True)
    assert not inspect(engine).has_table("enrolment")
    assert not inspect(engine).has_table("alembic_version")
    with engine.connect() as db:
        assert migrations.version(db) == "0003"


def test_the_revisions_are_one_line_in_the_order_of_their_files() -> None:
    script = ScriptDirectory(str(FOLDER))
    line = [revision.revision for revision in script.walk_revisions()]
    assert line[::-1] == migrations.REVISIONS
    assert script.get_current_head() == migrations.HEAD


def test_a_database_that_is_up_to_date_is_opened_without_alembic(database: str) -> None:
    with migrated(database):
        pass
    code = (
        "import sys; from agent.cityos.db.database import open_engine;"
        " [open_engine(sys.argv[1], create=create) for create in (True, False)];"
        " sys.exit('alembic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, database], check=False)
    assert done.returncode == 0
