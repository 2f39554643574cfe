"""The fingerprint of the catalog: every guard, right and definition of the schema, one line each, sorted.

Whoever means to edit evidence switches guards off first. The log process signs the fingerprint of each revision
of the schema; fsck and the monitor compare what stands now. Partitions of `reading` come and go and are left
out, but for triggers and grants on them, of which there are none.
"""

import hashlib
from collections.abc import Iterator, Sequence

from psycopg.errors import InsufficientPrivilege
from sqlalchemy import Connection, text
from sqlalchemy.exc import ProgrammingError

from stackwitness.db import bent
from stackwitness.db.roles import OWNER, ROLES
from stackwitness.errors import Unavailable

# Relations and functions of the schema that no extension brought.
_RELATION = """c.relnamespace = 'public'::regnamespace AND NOT EXISTS (SELECT FROM pg_depend
    WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e')"""
_FUNCTION = """p.pronamespace = 'public'::regnamespace AND p.prokind = 'f' AND NOT EXISTS (SELECT FROM pg_depend
    WHERE classid = 'pg_proc'::regclass AND objid = p.oid AND deptype = 'e')"""
_RIGHTS = "CASE grantee WHEN 0 THEN 'public' ELSE grantee::regrole::text END"

# Each gives lines `<kind> <name> <the rest>`; kind and name together are unique, see split_line.
QUERIES = (
    f"""SELECT format('table %s kind=%s owner=%s rls=%s force=%s', relname, relkind, relowner::regrole,
        relrowsecurity, relforcerowsecurity)
    FROM pg_class c WHERE {_RELATION} AND relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND NOT relispartition""",
    f"""SELECT format('column %s.%s %s%s%s%s', relname, attname, format_type(atttypid, atttypmod),
        CASE WHEN attnotnull THEN ' not null' ELSE '' END, ' generated=' || nullif(attidentity::text || attgenerated::text, ''),
        ' default ' || pg_get_expr(adbin, adrelid))
    FROM pg_class c JOIN pg_attribute a ON attrelid = c.oid AND attnum > 0 AND NOT attisdropped
    LEFT JOIN pg_attrdef ON adrelid = c.oid AND adnum = attnum
    WHERE {_RELATION} AND relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT relispartition""",
    f"""SELECT format('constraint %s.%s %s', relname, conname, pg_get_constraintdef(k.oid))
        || CASE WHEN convalidated THEN '' ELSE ' (not validated)' END
    FROM pg_class c JOIN pg_constraint k ON conrelid = c.oid
    WHERE {_RELATION} AND NOT relispartition AND conislocal""",
    f"""SELECT format('index %s %s', c.relname, pg_get_indexdef(c.oid))
    FROM pg_class c JOIN pg_index ON indexrelid = c.oid WHERE {_RELATION} AND NOT c.relispartition""",
    f"""SELECT format('view %s sha256=%s', relname, encode(sha256(convert_to(pg_get_viewdef(c.oid)
        || coalesce(reloptions::text, ''), 'UTF8')), 'hex'))
    FROM pg_class c WHERE {_RELATION} AND relkind IN ('v', 'm')""",
    f"""SELECT format('trigger %s.%s enabled=%s %s', relname, tgname, tgenabled, pg_get_triggerdef(t.oid))
    FROM pg_class c JOIN pg_trigger t ON tgrelid = c.oid
    WHERE {_RELATION} AND NOT tgisinternal AND (tgparentid = 0 OR tgenabled = 'D')""",
    f"""SELECT format('integrity %s.%s', relname, conname) || CASE WHEN bool_and(tgenabled = 'O') THEN ' on' ELSE ' off' END
    FROM pg_class c JOIN pg_trigger t ON tgrelid = c.oid JOIN pg_constraint k ON k.oid = tgconstraint
    WHERE {_RELATION} AND tgisinternal AND NOT relispartition GROUP BY relname, conname""",
    """SELECT format('eventtrigger %s enabled=%s %s %s', evtname, evtenabled, evtevent, evtfoid::regproc)
    FROM pg_event_trigger e WHERE NOT EXISTS (SELECT FROM pg_depend
        WHERE classid = 'pg_event_trigger'::regclass AND objid = e.oid AND deptype = 'e')""",
    f"""SELECT format('function %s(%s) sha256=%s owner=%s', proname, replace(pg_get_function_identity_arguments(p.oid), ' ', '_'),
        encode(sha256(convert_to(pg_get_functiondef(p.oid), 'UTF8')), 'hex'), proowner::regrole)
    FROM pg_proc p WHERE {_FUNCTION}""",
    f"""SELECT format('policy %s.%s %s %s to=%s using (%s) check (%s)', relname, polname, polcmd,
        CASE WHEN polpermissive THEN 'permissive' ELSE 'restrictive' END,
        (SELECT string_agg(CASE r WHEN 0 THEN 'public' ELSE r::regrole::text END, ',' ORDER BY r::regrole::text)
         FROM (SELECT DISTINCT unnest(polroles) AS r) AS roles),
        pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))
    FROM pg_class c JOIN pg_policy ON polrelid = c.oid WHERE {_RELATION}""",
    f"""SELECT format('grant %s/%s %s', relname, {_RIGHTS}, string_agg(privilege_type, ',' ORDER BY privilege_type))
    FROM pg_class c, aclexplode(relacl) WHERE {_RELATION} AND grantee <> relowner GROUP BY relname, grantee""",
    f"""SELECT format('grant %s.%s/%s %s', relname, attname, {_RIGHTS},
        string_agg(privilege_type, ',' ORDER BY privilege_type))
    FROM pg_class c JOIN pg_attribute a ON attrelid = c.oid, aclexplode(attacl)
    WHERE {_RELATION} GROUP BY relname, attname, grantee""",
    f"""SELECT format('grant %s()/%s %s', proname, {_RIGHTS}, string_agg(DISTINCT privilege_type, ','))
    FROM pg_proc p, aclexplode(coalesce(proacl, acldefault('f', proowner)))
    WHERE {_FUNCTION} AND grantee <> proowner GROUP BY proname, grantee""",
    f"""SELECT format('grant schema public/%s %s', {_RIGHTS}, string_agg(privilege_type, ',' ORDER BY privilege_type))
    FROM pg_namespace, aclexplode(nspacl) WHERE nspname = 'public' AND grantee <> nspowner GROUP BY grantee""",
    # What changes the meaning of a query though nothing that the query names was touched.
    f"""SELECT format('rule %s.%s enabled=%s sha256=%s', relname, rulename, ev_enabled,
        encode(sha256(convert_to(pg_get_ruledef(r.oid), 'UTF8')), 'hex'))
    FROM pg_class c JOIN pg_rewrite r ON ev_class = c.oid WHERE {_RELATION} AND rulename <> '_RETURN'""",
    """SELECT format('setting %s/%s %s', CASE setdatabase WHEN 0 THEN 'every' ELSE 'this' END,
        CASE setrole WHEN 0 THEN 'everybody' ELSE setrole::regrole::text END, array_to_string(setconfig, ' '))
    FROM pg_db_role_setting WHERE setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))""",
    """SELECT format('schema %s owner=%s', nspname, nspowner::regrole) FROM pg_namespace n
    WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'public') AND NOT EXISTS (SELECT FROM pg_depend
        WHERE classid = 'pg_namespace'::regclass AND objid = n.oid AND deptype = 'e')""",
    """SELECT format('cast %s->%s %s', replace(castsource::regtype::text, ' ', '_'),
        replace(casttarget::regtype::text, ' ', '_'), castfunc::regprocedure) FROM pg_cast c
    WHERE c.oid >= 16384 AND NOT EXISTS (SELECT FROM pg_depend
        WHERE classid = 'pg_cast'::regclass AND objid = c.oid AND deptype = 'e')""",
    """SELECT format('operator %s.%s(%s,%s) %s', nspname, oprname, replace(oprleft::regtype::text, ' ', '_'),
        replace(oprright::regtype::text, ' ', '_'), oprcode) FROM pg_operator o JOIN pg_namespace n ON n.oid = oprnamespace
    WHERE o.oid >= 16384 AND NOT EXISTS (SELECT FROM pg_depend
        WHERE classid = 'pg_operator'::regclass AND objid = o.oid AND deptype = 'e')""",
    """SELECT format('role %s login=%s super=%s createrole=%s createdb=%s bypassrls=%s replication=%s', rolname,
        rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolbypassrls, rolreplication)
    FROM pg_roles WHERE rolname = ANY (:roles) OR (rolsuper AND rolcanlogin)""",
    """SELECT format('member %s/%s admin=%s', roleid::regrole, member::regrole, bool_or(admin_option))
    FROM pg_auth_members WHERE roleid::regrole::text = ANY (:roles) OR member::regrole::text = ANY (:roles)
    GROUP BY roleid, member""",
    """SELECT format('extension %s version=%s owner=%s', extname, extversion, extowner::regrole)
    FROM pg_extension WHERE extname <> 'plpgsql'""",
    *bent.QUERIES,
)


def read_catalog(conn: Connection) -> list[str]:
    """Return the fingerprint's lines, sorted bytewise; they hold no line break.

    Raises Unavailable("database.catalog") when somebody took from everybody what PostgreSQL lets everybody read;
    the caller's transaction goes on.
    """
    before = conn.scalar(text("SELECT current_setting('search_path')"))
    lines: list[str] = []
    try:
        with conn.begin_nested():
            # Definitions name what is not on the path in full, so that a path set elsewhere changes no line.
            conn.execute(text("SELECT set_config('search_path', 'pg_catalog', true)"))
            for query in QUERIES:
                lines += (" ".join(line.split()) for line in conn.scalars(text(query), _given(query)))
    except ProgrammingError as error:
        if not isinstance(error.orig, InsufficientPrivilege):
            raise
        raise Unavailable(
            "database.catalog",
            "The database's own catalog may not be read",
            detail=error.orig.diag.message_primary or "",
        ) from error
    conn.execute(text("SELECT set_config('search_path', :path, true)"), {"path": before})
    return sorted(set(lines), key=str.encode)


def hash_catalog(lines: Sequence[str]) -> bytes:
    """Return SHA-256 over the lines, each ended by a line feed; what is bent is named, never signed as if it were right."""
    return hashlib.sha256(join_catalog(lines).encode()).digest()


def join_catalog(lines: Sequence[str]) -> str:
    """Return the lines that are signed as one text."""
    return "".join(f"{line}\n" for line in lines if not is_bent(line))


def is_bent(line: str) -> bool:
    """Tell whether a line is of what no honest database has, whoever signs."""
    return line.startswith(bent.KIND) and not line.startswith(bent.PERHAPS_HARDENED)


def split_line(line: str) -> tuple[str, str, str]:
    """Return (kind, name, the rest) of a line."""
    kind, _, rest = line.partition(" ")
    if line.startswith("grant schema "):
        kind, rest = "grant schema", line.removeprefix("grant schema ")
    name, _, rest = rest.partition(" ")
    return kind, name, rest


def compare_catalogs(
    signed: Sequence[str], present: Sequence[str]
) -> Iterator[tuple[str, str, str | None, str | None]]:
    """Yield (kind, name, signed, present) of everything that differs; None where there is no such thing."""
    old = {split_line(line)[:2]: split_line(line)[2] for line in signed}
    new = {split_line(line)[:2]: split_line(line)[2] for line in present}
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            yield *key, old.get(key), new.get(key)


def _given(query: str) -> dict[str, list[str]]:
    return {"roles": [OWNER, *ROLES]} if ":roles" in query else {}
