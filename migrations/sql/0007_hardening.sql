-- Roles, grants, row security, alarms: friction for the honest program and an alarm for its owner, not proof.
-- What an owner or superuser can still do, and what outside finds it: docs/database.md. The roles themselves belong to the
-- whole server and are made by stackwitness.db.roles.

-- 1 Alarms: every change of the schema is written down where it happens, and signed by the log process --------------------
CREATE TABLE ddl_seen (                   -- by the event triggers, in the transaction of the change itself
    seen_no   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at_ms     bigint NOT NULL,
    tag       text   NOT NULL,            -- the command, as PostgreSQL names it; a migration's with its revision
    identity  text   NOT NULL,            -- what it touched
    role      text   NOT NULL,            -- who was logged in / as whom
    statement text   NOT NULL
);
CREATE TABLE ddl_event (                  -- the signed event of a row above; a row without one is signed at the next turn
    seen_no  bigint PRIMARY KEY REFERENCES ddl_seen,
    event_id bytea  NOT NULL UNIQUE REFERENCES event
);
CREATE TABLE catalog_baseline (           -- the catalog's fingerprint as it was signed, one for each revision of the schema
    revision text  PRIMARY KEY,
    sha256   bytea NOT NULL CHECK (length(sha256) = 32),
    lines    text  NOT NULL,
    event_id bytea NOT NULL UNIQUE REFERENCES event
);

-- 2 Append-only guards of this file's tables --------------------------------------------------------------------------------
SELECT make_append_only(t) FROM unnest(ARRAY['ddl_seen', 'ddl_event', 'catalog_baseline']) t;

-- 3 Queueing of leaves: by the owner's right, so that nobody who writes evidence may write the queue itself ------------------
DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['envelope', 'event', 'quarantine', 'genesis'] LOOP
        EXECUTE format('ALTER FUNCTION queue_%s() SECURITY DEFINER', t);
        EXECUTE format('ALTER FUNCTION queue_%s() SET search_path = public, pg_temp', t);
        EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER queue_%s',
                       CASE t WHEN 'genesis' THEN 'log_genesis' ELSE t END, t);
    END LOOP;
END $$;

-- 4 A row fits its event: the foreign key says there is one, this says that it is of this kind and this station --------------
CREATE FUNCTION check_event() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    fields jsonb := to_jsonb(NEW);
    wanted text;
    fits   boolean;
    before text := current_setting('stackwitness.agency', true);
BEGIN
    PERFORM set_config('stackwitness.agency', '*', true);
    wanted := CASE TG_ARGV[0]
        WHEN 'stn' THEN 'station:' || (fields ->> 'stn')
        WHEN 'flag_id' THEN (SELECT 'station:' || f.stn FROM flag f WHERE f.flag_id = fields ->> 'flag_id')
        WHEN 'account' THEN 'account:' || (fields ->> 'account_id')
        WHEN 'kid' THEN (SELECT 'station:' || k.stn FROM station_key k WHERE k.kid = fields ->> 'kid')
        ELSE TG_ARGV[0] END;
    SELECT EXISTS (SELECT FROM event e WHERE e.event_id = NEW.event_id AND e.subj = wanted
                   AND e.typ = ANY (string_to_array(TG_ARGV[1], ' '))) INTO fits;
    PERFORM set_config('stackwitness.agency', before, true);
    IF NOT fits THEN
        RAISE EXCEPTION 'the event of this row of % is not a % of %', TG_TABLE_NAME, TG_ARGV[1], wanted
            USING ERRCODE = '23514';
    END IF;
    RETURN NULL;
END $$;
DO $$
DECLARE r record;
BEGIN
    FOR r IN SELECT * FROM (VALUES
        ('station',          'stn',      'station.register'),
        ('channel',          'stn',      'channel.set station.register'),
        ('station_key',      'stn',      'key.register key.rotate'),
        ('key_request',      'stn',      'key.request'),
        ('key_revocation',   'kid',      'key.revoke key.rotate key.compromise'),
        ('key_compromise',   'kid',      'key.compromise'),
        ('epoch',            'stn',      'epoch.open'),
        ('epoch_ack',        'stn',      'epoch.ack'),
        ('gap',              'stn',      'gap.opened'),
        ('channel_limit',    'stn',      'limit.change'),
        ('account',          'account',  'access.grant'),
        ('flag',             'stn',      'flag.raised'),
        ('flag_extension',   'flag_id',  'flag.extended'),
        ('review',           'flag_id',  'review.decision'),
        ('export',           'stn',      'export.made'),
        ('head_daily',       'log',      'head.daily'),
        ('custody',          'stn',      'evidence.viewed evidence.downloaded'),
        ('log_freeze',       'log',      'log.freeze'),
        ('ddl_event',        'database', 'db.ddl'),
        ('catalog_baseline', 'database', 'catalog.baseline')
    ) AS v (place, subject, types) LOOP
        EXECUTE format('CREATE CONSTRAINT TRIGGER fits_event AFTER INSERT ON %I DEFERRABLE INITIALLY DEFERRED '
                       'FOR EACH ROW EXECUTE FUNCTION check_event(%L, %L)', r.place, r.subject, r.types);
        EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER fits_event', r.place);
    END LOOP;
END $$;

-- 5 What needs the owner's right, in functions that do one thing -------------------------------------------------------------
CREATE FUNCTION lock_stations(stns text[]) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = public, pg_temp AS $$
DECLARE
    before text := current_setting('stackwitness.agency', true);
BEGIN
    PERFORM set_config('stackwitness.agency', '*', true);
    PERFORM FROM station WHERE stn = ANY (stns) ORDER BY stn FOR NO KEY UPDATE;
    PERFORM set_config('stackwitness.agency', before, true);
END $$;

CREATE FUNCTION make_month(month date) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = public, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    first_day timestamptz := date_trunc('month', month::timestamp);
    name text := to_char(first_day, '"reading_"YYYY_MM');
BEGIN
    IF to_regclass(name) IS NOT NULL THEN
        RETURN;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE reading INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', name);
    -- ATTACH takes no lock that stops readers or writers; CREATE ... PARTITION OF would.
    EXECUTE format('ALTER TABLE reading ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                   name, first_day, first_day + interval '1 month');
END $$;

-- 6 Separation of agencies. Confidentiality of API and console, not integrity; a superuser does not see it. ------------------
-- The setting is '' for nobody, '*' for those who see all, else the agency's name. COPY and TimescaleDB's columnstore refuse
-- tables with row security: envelope and reading are read through views instead by whoever acts for a person.
ALTER TABLE account ADD COLUMN agency text CHECK (agency NOT IN ('', '*'));  -- null = every agency
DO $$
DECLARE
    r record;
    setting text := '(SELECT current_setting(''stackwitness.agency'', true))';
    machines text := 'sw_ingest, sw_seq, sw_detect';
BEGIN
    FOR r IN SELECT * FROM (VALUES
        ('station',         'agency = ' || setting, NULL),
        ('channel',         'stn IN (SELECT stn FROM station)', NULL),
        ('channel_limit',   'stn IN (SELECT stn FROM station)', NULL),
        ('key_request',     'stn IN (SELECT stn FROM station)', NULL),
        ('epoch',           'stn IN (SELECT stn FROM station)', NULL),
        ('epoch_ack',       'stn IN (SELECT stn FROM station)', NULL),
        ('gap',             'stn IN (SELECT stn FROM station)', NULL),
        ('station_head',    'stn IN (SELECT stn FROM station)', NULL),
        ('detection_state', 'stn IN (SELECT stn FROM station)', NULL),
        ('custody',         'stn IN (SELECT stn FROM station)', NULL),
        ('flag',            'stn IN (SELECT stn FROM station)', NULL),
        ('flag_extension',  'flag_id IN (SELECT flag_id FROM flag)', NULL),
        ('review',          'flag_id IN (SELECT flag_id FROM flag)', NULL),
        -- A bundle about stations of several agencies is for those who see them all.
        ('export_request',  'NOT EXISTS (SELECT FROM unnest(stns) AS s (stn) WHERE s.stn NOT IN (SELECT stn FROM station))',
         NULL),
        ('export',          'export_id IN (SELECT export_id FROM export_request)', NULL),
        -- An event is written before the row it speaks of, and is held to account by its signature.
        ('event', 'subj NOT LIKE ''station:%'' OR substr(subj, 9) IN (SELECT stn FROM station)', 'true')
    ) AS v (place, seen, stored) LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', r.place);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', r.place);
        EXECUTE format('CREATE POLICY agency ON %I USING (%s = ''*'' OR %s) WITH CHECK (%s = ''*'' OR %s)',
                       r.place, setting, r.seen, setting, coalesce(r.stored, r.seen));
        EXECUTE format('CREATE POLICY machine ON %I TO %s USING (true) WITH CHECK (true)', r.place, machines);
    END LOOP;
END $$;
ALTER VIEW log_bytes SET (security_invoker = true);  -- else the owner's own row security would hide events from it
CREATE VIEW envelope_seen WITH (security_barrier) AS
    SELECT * FROM envelope
    WHERE (SELECT current_setting('stackwitness.agency', true)) = '*' OR stn IN (SELECT stn FROM station);
-- No barrier here: behind one, a page of readings would be sorted as a whole instead of read off the index.
CREATE VIEW reading_seen AS
    SELECT * FROM reading
    WHERE (SELECT current_setting('stackwitness.agency', true)) = '*'
       OR channel_no IN (SELECT channel_no FROM channel);

-- 7 The owner owns ------------------------------------------------------------------------------------------------------------
GRANT USAGE, CREATE ON SCHEMA public TO stackwitness_owner;
DO $$
DECLARE command text;
BEGIN
    FOR command IN
        SELECT format('ALTER %s %s OWNER TO stackwitness_owner',
                      CASE relkind WHEN 'v' THEN 'VIEW' WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, c.oid::regclass)
        FROM pg_class c WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'S')
        AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = c.oid
                        AND (deptype = 'e' OR relkind = 'S' AND deptype IN ('a', 'i')))
        UNION ALL
        SELECT format('ALTER FUNCTION %s OWNER TO stackwitness_owner', p.oid::regprocedure)
        FROM pg_proc p WHERE pronamespace = 'public'::regnamespace AND prokind = 'f'
        AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_proc'::regclass AND objid = p.oid AND deptype = 'e')
        UNION ALL
        SELECT format('ALTER TYPE %s OWNER TO stackwitness_owner', t.oid::regtype)
        FROM pg_type t WHERE typnamespace = 'public'::regnamespace
        AND (typtype IN ('e', 'd') OR EXISTS (SELECT FROM pg_class WHERE oid = t.typrelid AND relkind = 'c'))
        AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_type'::regclass AND objid = t.oid AND deptype = 'e')
    LOOP
        EXECUTE command;
    END LOOP;
END $$;

-- 8 Rights. i insert, s select, u update, d delete; what is not written here nobody has. tests/security/test_grants.py holds
--   the same table and tries every cell. UPDATE is for caches and queues alone, DELETE for queues alone. ---------------------
DO $$
DECLARE
    r record; holder text; letters text; letter text; command text;
    verbs jsonb := '{"i": "INSERT", "s": "SELECT", "u": "UPDATE", "d": "DELETE"}';
BEGIN
    REVOKE ALL ON SCHEMA public FROM PUBLIC;
    GRANT USAGE ON SCHEMA public TO sw_ingest, sw_seq, sw_detect, sw_review, sw_export, sw_read;
    REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC;
    REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM PUBLIC;
    FOR r IN SELECT * FROM (VALUES
        -- table                         ingest  seq    detect  review export  read
        ('event',                         'is',  'is',  'is',   'is',  'is',   's'),
        ('subject_head',                  'isu', 'isu', 'isu',  'isu', 'isu',  's'),
        ('account',                       's',   '-',   '-',    'is',  's',    's'),
        ('access_token',                  '-',   '-',   '-',    'isu', 's',    's'),
        ('station',                       's',   's',   's',    'is',  's',    's'),
        ('channel',                       's',   's',   's',    'is',  's',    's'),
        ('station_key',                   's',   's',   's',    'is',  's',    's'),
        ('key_revocation',                's',   's',   's',    'is',  's',    's'),
        ('key_request',                   's',   's',   's',    'is',  's',    's'),
        ('key_compromise',                's',   's',   's',    'is',  's',    's'),
        ('epoch',                         'is',  's',   's',    's',   's',    's'),
        ('epoch_ack',                     's',   's',   's',    'is',  's',    's'),
        ('gap',                           'is',  's',   's',    's',   's',    's'),
        ('channel_limit',                 's',   's',   's',    'is',  's',    's'),
        ('envelope',                      'is',  's',   's',    '-',   's',    '-'),
        ('envelope_seen',                 '-',   '-',   '-',    's',   's',    's'),
        ('reading',                       'is',  '-',   's',    '-',   's',    '-'),
        ('reading_seen',                  '-',   '-',   '-',    's',   's',    's'),
        ('quarantine',                    'is',  's',   '-',    '-',   's',    '-'),
        ('station_head',                  'isu', 's',   's',    's',   's',    's'),
        ('detection_state',               '-',   '-',   'isu',  '-',   's',    's'),
        ('head_daily',                    '-',   'is',  '-',    '-',   's',    's'),
        ('head_request',                  '-',   'sd',  '-',    '-',   'is',   '-'),
        ('custody',                       '-',   '-',   '-',    'is',  's',    's'),
        ('flag',                          'is',  '-',   'is',   's',   's',    's'),
        ('flag_extension',                'is',  '-',   'is',   's',   's',    's'),
        ('review',                        's',   '-',   's',    'is',  's',    's'),
        ('export_request',                '-',   '-',   '-',    's',   'isu',  's'),
        ('export',                        '-',   '-',   '-',    's',   'is',   's'),
        ('log_genesis',                   's',   'is',  's',    's',   's',    's'),
        ('log_pending',                   's',   'sd',  's',    's',   's',    's'),
        ('log_entry',                     's',   'is',  's',    's',   's',    's'),
        ('log_head',                      's',   'is',  's',    's',   's',    's'),
        ('log_freeze',                    's',   'is',  's',    's',   's',    's'),
        ('log_previous',                  's',   's',   's',    's',   's',    's'),
        ('log_bytes',                     '-',   's',   '-',    '-',   's',    '-'),
        ('ddl_seen',                      '-',   's',   '-',    '-',   's',    's'),
        ('ddl_event',                     '-',   'is',  '-',    '-',   's',    's'),
        ('catalog_baseline',              '-',   'is',  '-',    '-',   's',    's'),
        ('alembic_version',               's',   's',   's',    's',   's',    's'),
        -- the job queue's own: whoever stores readings or asks for an export queues a job, the worker (detect) works it off
        ('procrastinate_jobs',            'isu', '-',   'isud', '-',   'isu',  's'),
        ('procrastinate_events',          'i',   '-',   'isud', '-',   'is',   's'),
        ('procrastinate_workers',         '-',   '-',   'isud', '-',   's',    's'),
        ('procrastinate_periodic_defers', '-',   '-',   'isud', '-',   's',    's')
    ) AS v (place, sw_ingest, sw_seq, sw_detect, sw_review, sw_export, sw_read) LOOP
        FOR holder, letters IN SELECT * FROM jsonb_each_text(to_jsonb(r) - 'place') LOOP
            FOREACH letter IN ARRAY string_to_array(replace(letters, '-', ''), NULL) LOOP
                EXECUTE format('GRANT %s ON %I TO %I', verbs ->> letter, r.place, holder);
            END LOOP;
        END LOOP;
    END LOOP;
    GRANT USAGE ON SEQUENCE envelope_no_seq TO sw_ingest;
    GRANT USAGE ON SEQUENCE procrastinate_jobs_id_seq, procrastinate_events_id_seq TO sw_ingest, sw_detect, sw_export;
    GRANT USAGE ON SEQUENCE procrastinate_periodic_defers_id_seq TO sw_detect;
    FOR command IN
        SELECT format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', p.oid::regprocedure)
        FROM pg_proc p WHERE pronamespace = 'public'::regnamespace AND prokind = 'f'
        AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_proc'::regclass AND objid = p.oid AND deptype = 'e')
        UNION ALL
        SELECT format('GRANT EXECUTE ON FUNCTION %s TO sw_detect', p.oid::regprocedure)
        FROM pg_proc p WHERE pronamespace = 'public'::regnamespace AND proname LIKE 'procrastinate\_%'
    LOOP
        EXECUTE command;
    END LOOP;
    GRANT EXECUTE ON FUNCTION log_prefix(integer, bigint), log_leaf(integer, bigint, bytea)
        TO sw_ingest, sw_seq, sw_detect, sw_review, sw_export, sw_read;
    GRANT EXECUTE ON FUNCTION lock_stations(text[]) TO sw_ingest, sw_detect, sw_review;
    GRANT EXECUTE ON FUNCTION summarize_readings() TO sw_export;
    GRANT EXECUTE ON FUNCTION make_month(date) TO sw_ingest, sw_detect;
    IF pg_has_role(current_user, 'stackwitness_owner', 'USAGE') THEN
        ALTER DEFAULT PRIVILEGES FOR ROLE stackwitness_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
    END IF;
END $$;

-- 9 Event triggers, last: from here on every change of the schema writes a row of ddl_seen -----------------------------------
CREATE FUNCTION note_ddl() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    touched text;
    revision text := nullif(current_setting('stackwitness.migration', true), '');
BEGIN
    IF TG_EVENT = 'sql_drop' THEN
        SELECT string_agg(DISTINCT object_identity, ', ' ORDER BY object_identity) INTO touched
        FROM pg_event_trigger_dropped_objects() d
        WHERE d.original AND NOT d.is_temporary AND coalesce(d.schema_name, '') NOT LIKE '\_timescaledb%';
    ELSE
        SELECT string_agg(DISTINCT object_identity, ', ' ORDER BY object_identity) INTO touched
        FROM pg_event_trigger_ddl_commands() c
        WHERE coalesce(c.schema_name, '') <> 'pg_temp' AND coalesce(c.schema_name, '') NOT LIKE '\_timescaledb%';
    END IF;
    -- GRANT and REVOKE have no identity here; they are written down all the same.
    IF touched IS NULL AND TG_TAG NOT IN ('GRANT', 'REVOKE', 'ALTER DEFAULT PRIVILEGES') THEN
        RETURN;
    END IF;
    INSERT INTO ddl_seen (at_ms, tag, identity, role, statement)
    VALUES ((extract(epoch FROM clock_timestamp()) * 1000)::bigint,
            TG_TAG || coalesce(' (migration ' || revision || ')', ''), coalesce(touched, ''),
            session_user || '/' || current_setting('role'), coalesce(current_query(), ''));
END $$;
ALTER FUNCTION note_ddl() OWNER TO stackwitness_owner;
REVOKE ALL ON FUNCTION note_ddl() FROM PUBLIC;
DO $$
BEGIN
    IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        CREATE EVENT TRIGGER note_ddl_end ON ddl_command_end EXECUTE FUNCTION note_ddl();
        CREATE EVENT TRIGGER note_ddl_drop ON sql_drop EXECUTE FUNCTION note_ddl();
        ALTER EVENT TRIGGER note_ddl_end ENABLE ALWAYS;
        ALTER EVENT TRIGGER note_ddl_drop ENABLE ALWAYS;
    ELSE
        RAISE WARNING 'stackwitness: no event triggers, for they need a superuser: changes of the schema are found by comparing the '
                      'catalog with its signed baseline only';
    END IF;
END $$;
