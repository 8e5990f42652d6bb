"""What a change of the schema takes from those who know only the schema before it."""

from collections.abc import Iterator
from dataclasses import dataclass

from tests.migrating import Place, rows_of

_COLUMNS = """
    SELECT table_name, column_name, data_type, collation_name, is_nullable, column_default
    FROM information_schema.columns WHERE table_schema = 'public'
"""
_RULES = """
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(c.oid),
           array(SELECT attname::text FROM pg_attribute WHERE attrelid = conrelid AND attnum = ANY (conkey))
    FROM pg_constraint c WHERE connamespace = 'public'::regnamespace AND contype <> 'n'
    UNION
    SELECT i.indrelid::regclass::text, i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid),
           array(SELECT attname::text FROM pg_attribute WHERE attrelid = indrelid AND attnum = ANY (indkey))
    FROM pg_index i JOIN pg_class ON pg_class.oid = i.indrelid
    WHERE indisunique AND relnamespace = 'public'::regnamespace
"""


@dataclass(frozen=True, slots=True)
class Column:
    type: str
    collation: str | None
    may_be_null: bool
    default: str | None


@dataclass(frozen=True, slots=True)
class Rule:
    """A check, a reference, a key, a unique index."""

    text: str
    table: str
    columns: frozenset[str]


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a PostgreSQL database: what a statement may rely on, or be refused by. Triggers apart."""

    columns: dict[str, Column]
    rules: dict[str, Rule]

    @property
    def tables(self) -> set[str]:
        return {name.partition(".")[0] for name in self.columns}


def shape_of(place: Place) -> Shape:
    columns = {
        f"{table}.{column}": Column(kind, collation, null == "YES", default)
        for table, column, kind, collation, null, default in place.run(rows_of(_COLUMNS))
        if table != "alembic_version"
    }
    rules = {
        f"{table}: {name}": Rule(text, table, frozenset(of))
        for table, name, text, of in place.run(rows_of(_RULES))
    }
    return Shape(columns, rules)


def breaks(before: Shape, after: Shape) -> set[str]:
    """Columns and rules that stand in the way of statements written for the schema before."""
    return {*_broken_columns(before, after), *_broken_rules(before, after)}


def _broken_columns(before: Shape, after: Shape) -> Iterator[str]:
    yield from before.columns.keys() - after.columns.keys()
    for name, column in after.columns.items():
        if name not in before.columns:
            must_be_named = not column.may_be_null and column.default is None
            if must_be_named and name.partition(".")[0] in before.tables:
                yield name
            continue
        old = before.columns[name]
        narrower = old.may_be_null and not column.may_be_null
        lost_default = old.default is not None and column.default is None
        if (old.type, old.collation) != (column.type, column.collation) or narrower or lost_default:
            yield name


def _broken_rules(before: Shape, after: Shape) -> Iterator[str]:
    """A rule of new columns alone is met by defaults; a unique one that is gone was a conflict's target."""
    yield from (name for name, rule in before.rules.items() if name not in after.rules and _is_unique(rule))
    for name, rule in after.rules.items():
        of_old = rule.table in before.tables and any(
            f"{rule.table}.{column}" in before.columns for column in rule.columns
        )
        if of_old and before.rules.get(name) != rule:
            yield name


def _is_unique(rule: Rule) -> bool:
    return "UNIQUE" in rule.text or "PRIMARY KEY" in rule.text
