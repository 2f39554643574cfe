"""What no program of ours and no plain statement makes, and what takes effect out of a definition that stands as before.

A superuser who writes PostgreSQL's own catalog leaves every definition as it is and lets none of them hold: a table that
says it has no triggers fires none. An honest database has not one of these lines.
"""

# initdb makes template0 last, as its transaction of some number below this; where that row was written anew, this holds.
INITDB_XIDS = 1000

# An administrator may honestly take rights from PostgreSQL's own functions: such a line is signed like any other.
KIND, PERHAPS_HARDENED = "bent ", "bent pg_"

_OURS = "c.relnamespace = 'public'::regnamespace"


def _edited(catalog: str, name: str) -> str:
    return f"""SELECT format('bent %s:%s written after initdb, sha256=%s', '{catalog}', replace({name}, ' ', '_'),
        encode(sha256(convert_to(b::text, 'UTF8')), 'hex'))
    FROM {catalog} b WHERE b.oid < 16384 AND b.xmin::text::bigint > (SELECT least({INITDB_XIDS}, xmin::text::bigint)
        FROM pg_database WHERE datname = 'template0')"""


def _settings(expected: dict[str, str]) -> str:
    rows = ", ".join(f"('{name}', '{value}')" for name, value in expected.items())
    return f"""SELECT format('bent setting:%s is %s', name, current_setting(name, true))
    FROM (VALUES {rows}) AS v (name, usual) WHERE current_setting(name, true) <> usual"""


# Lines `bent <place>:<name> <what>`.
QUERIES = (
    f"""SELECT format('bent %s:triggers has %s, says it has none', relname, count(*))
    FROM pg_class c JOIN pg_trigger ON tgrelid = c.oid WHERE {_OURS} AND NOT relhastriggers GROUP BY relname""",
    f"""SELECT format('bent %s:indexes has %s, says it has none', relname, count(*))
    FROM pg_class c JOIN pg_index ON indrelid = c.oid WHERE {_OURS} AND NOT relhasindex GROUP BY relname""",
    f"""SELECT format('bent %s:rules has %s, says it has none', relname, count(*))
    FROM pg_class c JOIN pg_rewrite ON ev_class = c.oid WHERE {_OURS} AND NOT relhasrules GROUP BY relname""",
    f"""SELECT format('bent %s:checks has %s, says it has %s', relname, checks, relchecks) FROM (
        SELECT relname, relchecks, (SELECT count(*) FROM pg_constraint WHERE conrelid = c.oid AND contype = 'c') AS checks
        FROM pg_class c WHERE {_OURS} AND relkind IN ('r', 'p', 'f')) AS counted WHERE relchecks <> checks""",
    f"""SELECT format('bent %s:storage is lost in a crash', relname)
    FROM pg_class c WHERE {_OURS} AND relpersistence <> 'p' AND relkind IN ('r', 'p', 'i', 'I', 'm', 'S')""",
    f"""SELECT format('bent %s:index valid=%s ready=%s live=%s', relname, indisvalid, indisready, indislive)
    FROM pg_class c JOIN pg_index ON indexrelid = c.oid
    WHERE {_OURS} AND NOT (indisvalid AND indisready AND indislive)""",
    f"""SELECT format('bent %s.%s:collation is %s', relname, attname, attcollation::regcollation)
    FROM pg_class c JOIN pg_attribute ON attrelid = c.oid JOIN pg_type t ON t.oid = atttypid
    WHERE {_OURS} AND attnum > 0 AND attcollation <> typcollation AND relkind IN ('r', 'p', 'v', 'm', 'f')""",
    f"""SELECT format('bent %s.%s:integrity has %s of its 4 triggers', relname, conname, count(t.oid))
    FROM pg_class c JOIN pg_constraint k ON conrelid = c.oid AND contype = 'f'
    LEFT JOIN pg_trigger t ON tgconstraint = k.oid
    WHERE {_OURS} AND relkind = 'r' AND NOT relispartition GROUP BY relname, conname HAVING count(t.oid) <> 4""",
    f"""SELECT format('bent %s:%s is a rule of this partition alone: %s', relname, conname, pg_get_constraintdef(k.oid))
    FROM pg_class c JOIN pg_constraint k ON conrelid = c.oid
    WHERE {_OURS} AND relispartition AND conislocal AND coninhcount = 0 AND contype <> 'n'""",
    """SELECT format('bent %s:child of %s', c.oid::regclass, p.relname)
    FROM pg_class c JOIN pg_inherits ON inhrelid = c.oid JOIN pg_class p ON p.oid = inhparent
    WHERE p.relnamespace = 'public'::regnamespace AND p.relkind = 'r' AND NOT EXISTS (SELECT FROM pg_depend
        WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype IN ('e', 'I'))
    AND NOT EXISTS (SELECT FROM pg_namespace n WHERE n.oid = c.relnamespace AND nspname ~ '^_timescaledb')""",
    """SELECT format('bent %s:%s is made a part of it', extname, replace(pg_describe_object(classid, objid, objsubid), ' ', '_'))
    FROM pg_depend JOIN pg_extension e ON refclassid = 'pg_extension'::regclass AND refobjid = e.oid
    WHERE deptype = 'e' AND objid >= 16384 AND extname = 'plpgsql'""",
    """SELECT format('bent %s:%s is no part of PostgreSQL, sha256=%s', proname,
        replace(pg_get_function_identity_arguments(p.oid), ' ', '_'), encode(sha256(convert_to(prosrc, 'UTF8')), 'hex'))
    FROM pg_proc p WHERE (pronamespace = 'pg_catalog'::regnamespace OR prokind <> 'f' AND pronamespace = 'public'::regnamespace)
    AND p.oid >= 16384 AND NOT EXISTS (SELECT FROM pg_depend
        WHERE classid = 'pg_proc'::regclass AND objid = p.oid AND deptype = 'e')""",
    """SELECT format('bent %s:subscription writes as %s', subname, subowner::regrole) FROM pg_subscription
    WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())""",
    _edited("pg_proc", "b.oid::regprocedure::text"),
    _edited("pg_operator", "b.oid::regoperator::text"),
    _edited("pg_type", "typname::text"),
    _edited("pg_cast", "castsource::regtype || '->' || casttarget::regtype"),
    _edited("pg_amop", "b.oid::text"),
    _edited("pg_amproc", "b.oid::text"),
    _edited("pg_opclass", "opcname || '/' || b.oid"),
    _settings(
        {
            "event_triggers": "on",
            "session_replication_role": "origin",
            "allow_system_table_mods": "off",
            "ignore_system_indexes": "off",
            "ignore_checksum_failure": "off",
            "zero_damaged_pages": "off",
            "transform_null_equals": "off",
        }
    ),
)
