"""The SQL that makes the store in a Supabase project, or brings it to the newest version.

Through its data API nobody can create tables, so somebody has to apply this: with `psql`, in the
SQL editor, or with `supabase db push`. It is the SQL of the PostgreSQL store, `sql/postgres/`, with
what Supabase needs on top, `sql/supabase/`. It looks itself at what is there, so the same script is
for a new project and for every update, and applying it twice does no harm.
"""

import functools
import hashlib
import re
import sys
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import NamedTuple

from sequential.errors import ConfigError

_SQL = files("sequential.storage") / "sql"

_BEGIN = """\
-- The store of sequential-ecosystem for Supabase. Apply it again after an update of the package:
-- what is there already stays as it is.
begin;
create schema if not exists {schema};
set local search_path = {schema}, pg_temp;
select pg_advisory_xact_lock(hashtextextended('sequential.{schema}', 0));
"""
_STEP = """\
do $sequential$
declare
    found_version bigint := 0;
begin
    if to_regclass('{schema}.installation') is not null then
        select max(version) into found_version from installation;
    end if;
    if found_version > {newest} then
        raise 'these tables are of a newer version: take the SQL of the newer package';
    end if;
    if coalesce(found_version, 0) < {version} then
        execute $step$
{text}
        $step$;
        insert into installation (version, functions) values ({version}, '')
        on conflict (single) do update set version = excluded.version;
    end if;
end
$sequential$;
"""
_END = """\
update installation set version = {version}, functions = '{functions}';
commit;
"""


class Expected(NamedTuple):
    """What a project says about itself when the newest SQL was applied."""

    version: int
    functions: str
    entry: str


def migration_sql(schema: str = "sequential") -> str:
    """SQL to be applied by the owner of the database, as one transaction; raises `ConfigError`."""
    check_schema(schema)
    steps = _files("postgres")
    newest = _number(steps[-1])
    changes = [
        _STEP.replace("{version}", str(_number(step)))
        .replace("{newest}", str(newest))
        .replace("{schema}", schema)
        .replace("{text}", step.read_text("utf-8").rstrip())
        for step in steps
    ]
    wanted = expected()
    own = _text("supabase").replace("{schema}", schema).replace("{digest}", wanted.entry)
    begin = _BEGIN.replace("{schema}", schema)
    end = _END.format(version=wanted.version, functions=wanted.functions)
    return "\n".join([begin, *changes, _text("postgres", "functions"), own, end])


def expected() -> Expected:
    """What this program needs."""
    version = _number(_files("postgres")[-1])
    return Expected(version, _digest(_text("postgres", "functions")), _digest(_text("supabase")))


def check_schema(name: str) -> None:
    """Raise `ConfigError` unless the store may have a schema of this name."""
    if not re.fullmatch("(?!pg_)[a-z][a-z0-9_]{0,49}", name):
        raise ConfigError(
            f"{ascii(name)[:60]} cannot name the schema: use small letters, digits and _, at most "
            "50, beginning with a letter"
        )
    if name in ("public", "information_schema"):
        raise ConfigError(f"the schema {name} belongs to others: choose one of your own")


def _files(*place: str) -> list[Traversable]:
    found = [item for item in _SQL.joinpath(*place).iterdir() if item.name.endswith(".sql")]
    return sorted(found, key=lambda item: item.name)


@functools.cache  # every adapter of a process asks for it
def _text(*place: str) -> str:
    return "\n".join(item.read_text("utf-8") for item in _files(*place))


def _number(step: Traversable) -> int:
    return int(step.name[:4])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


if __name__ == "__main__":
    try:
        sys.stdout.write(migration_sql(*sys.argv[1:2]))
    except ConfigError as error:
        sys.exit(str(error))
