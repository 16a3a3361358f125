"""Opening a database that another version of this software wrote.

Versions only add. What an older one lacks is made when it is opened: tables, and columns that may be empty or state a
default for the rows that are there. What a newer one added is left alone, as long as rows can be written without it.
"""

from __future__ import annotations

from sqlalchemy import Column, Connection, Engine, MetaData, inspect
from sqlalchemy.schema import AddConstraint, CreateColumn

from shared.database import reading
from shared.errors import SynthwardError


def make_tables(engine: Engine, metadata: MetaData) -> None:
    """Makes the tables and columns that are not there yet; nothing, when all are. Raises storage.version.

    A column that refers to another table is added without that check on SQLite, which cannot add one.
    """
    metadata.create_all(engine)
    with reading(engine).begin() as connection:
        complete = not _missing(connection, metadata)
    if complete:
        return
    with engine.begin() as connection:  # asked again under the lock: another process may have been here
        for column in _missing(connection, metadata):
            if not (column.nullable or column.server_default is not None):
                raise _unfit(
                    "its rows have no value for what this version added",
                    "put the older version back, or restore a backup into a new folder by that version",
                )
            preparer = connection.dialect.identifier_preparer
            words = CreateColumn(column).compile(dialect=connection.dialect)
            connection.exec_driver_sql(f"ALTER TABLE {preparer.format_table(column.table)} ADD COLUMN {words}")
            if connection.dialect.name != "sqlite":
                for key in column.foreign_keys:
                    if key.constraint is not None:
                        connection.execute(AddConstraint(key.constraint))


def _missing(connection: Connection, metadata: MetaData) -> list[Column[object]]:
    """Columns that this version knows and the database does not. Raises storage.version for one of a newer version."""
    found = inspect(connection).get_multi_columns(filter_names=list(metadata.tables))
    missing: list[Column[object]] = []
    for (_, name), there in found.items():
        table = metadata.tables[str(name)]
        names = {column["name"] for column in there}
        missing += [column for column in table.columns if column.name not in names]
        for column in there:
            needed = not column["nullable"] and column["default"] is None
            if needed and column["name"] not in table.columns:
                raise _unfit(
                    "a newer version wrote it, and asks for values that this one does not know",
                    "install that version again, or put in place the backup from before the upgrade",
                )
    return missing


def _unfit(why: str, do: str) -> SynthwardError:
    return SynthwardError("storage.version", "a database is of another version of this software", why=why, do=do)
