"""What tables are made of, so that they mean the same in SQLite and in PostgreSQL."""

from typing import Any

import sqlalchemy as sa

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

#: Compared and sorted by bytes, as SQLite does it, whatever language a PostgreSQL database was made for: ids
#: that count up are in order, and the pages of a list neither repeat nor skip.
Text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

#: A number that the database gives out. SQLite's is 64 bits wide by itself, and only under this name.
RowId = sa.Integer().with_variant(sa.BigInteger(), "postgresql")

_WHERE = "where"


def index_some(name: str, *columns: sa.Column[Any], where: str, unique: bool = False) -> None:
    """An index of those rows that a condition selects.

    The condition is kept aside until `describe_for` is told for which database: to name a dialect is to
    import it, and PostgreSQL's is a tenth of the time that a gateway on SQLite takes to start.
    """
    sa.Index(name, *columns, unique=unique, info={_WHERE: where})


def describe_for(dialect: str) -> sa.MetaData:
    """The tables, for whoever creates or compares them in a database of this dialect."""
    for table in metadata.tables.values():
        for index in table.indexes:
            if _WHERE in index.info:
                index.dialect_options[dialect]["where"] = sa.text(index.info[_WHERE])
    return metadata
