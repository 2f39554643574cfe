-- The first schema: evidence (insert-only), projections (rebuildable from the log), and a few mutable caches.
-- Times in *_ms are Unix milliseconds; `at` is timestamptz in UTC. Hashes are raw SHA-256 (32 bytes).

-- 1 Events: every governance act is a signed JWS and a leaf of the log ------------------------------------------------
CREATE TABLE event (
    event_id bytea PRIMARY KEY CHECK (length(event_id) = 32),
    typ      text   NOT NULL,
    subj     text   NOT NULL,
    sseq     bigint NOT NULL CHECK (sseq >= 0),
    sprev    bytea  NOT NULL CHECK (length(sprev) = 32),
    jws      bytea  NOT NULL,
    recv_ms  bigint NOT NULL,
    UNIQUE (subj, sseq)
);
CREATE TABLE subject_head (               -- cache: last event of a subject
    subj     text PRIMARY KEY,
    sseq     bigint NOT NULL,
    event_id bytea  NOT NULL REFERENCES event
);

-- 2 Accounts and sign-in ----------------------------------------------------------------------------------------------
CREATE TABLE account (
    account_id   text PRIMARY KEY CHECK (account_id ~ '^[a-z0-9-]{1,40}$'),
    display_name text NOT NULL,
    role         text NOT NULL CHECK (role IN ('operator', 'inspector', 'regulator', 'auditor')),
    created_at   timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE access_token (               -- only the SHA-256 of a token is kept
    token_hash bytea PRIMARY KEY CHECK (length(token_hash) = 32),
    account_id text NOT NULL REFERENCES account,
    kind       text NOT NULL CHECK (kind IN ('bearer', 'link', 'session')),
    expires_at timestamptz NOT NULL,
    used_at    timestamptz
);

-- 3 Stations, channels, keys ------------------------------------------------------------------------------------------
CREATE TABLE station (
    stn            text PRIMARY KEY CHECK (stn ~ '^[A-Za-z0-9._-]{1,64}$'),
    name           text NOT NULL,
    agency         text NOT NULL,
    industry       text NOT NULL,
    lat            double precision,
    lon            double precision,
    utc_offset_min integer NOT NULL DEFAULT 0,
    event_id       bytea NOT NULL UNIQUE REFERENCES event
);
CREATE TABLE channel (
    channel_no  integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stn         text NOT NULL REFERENCES station,
    name        text NOT NULL CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9._/:-]{0,63}$'),
    quantity    text NOT NULL,
    unit        text NOT NULL,
    role        text NOT NULL CHECK (role IN ('pollutant', 'load', 'diluent', 'flow', 'temperature', 'pressure',
                                              'moisture', 'ambient', 'process')),
    limit_value double precision,         -- in the channel's own unit; null = none
    resolution  double precision,         -- smallest step the instrument reports; null = unknown
    event_id    bytea NOT NULL REFERENCES event,
    UNIQUE (stn, name)
);
CREATE TABLE station_key (
    kid        text PRIMARY KEY CHECK (kid ~ '^[A-Za-z0-9._-]{1,64}$'),
    stn        text NOT NULL REFERENCES station,
    alg        text NOT NULL CHECK (alg IN ('Ed25519', 'ES256')),
    public_key bytea NOT NULL CHECK (length(public_key) IN (32, 65)),
    event_id   bytea NOT NULL UNIQUE REFERENCES event
);
CREATE TABLE key_revocation (
    kid      text PRIMARY KEY REFERENCES station_key,
    event_id bytea NOT NULL UNIQUE REFERENCES event
);

-- 4 Envelopes and the readings decoded from them ----------------------------------------------------------------------
CREATE SEQUENCE envelope_no_seq;
CREATE TABLE envelope (
    envelope_no   bigint PRIMARY KEY,     -- taken from envelope_no_seq by the committer, which COPYs
    env_id        bytea  NOT NULL UNIQUE CHECK (length(env_id) = 32),
    stn           text   NOT NULL REFERENCES station,
    ep            bigint NOT NULL,
    seq           bigint NOT NULL,
    kid           text   NOT NULL REFERENCES station_key,
    iat_ms        bigint NOT NULL,
    recv_ms       bigint NOT NULL,
    first_at      timestamptz NOT NULL,   -- earliest and latest reading inside
    last_at       timestamptz NOT NULL,
    reading_count integer NOT NULL CHECK (reading_count > 0),
    jws           bytea  NOT NULL,
    UNIQUE (stn, ep, seq)
);
CREATE INDEX envelope_stn_first_at ON envelope (stn, first_at);
-- A projection: rebuilt from envelopes at any time. No foreign keys: they would cost a look-up per reading, and fsck
-- checks every row against its envelope anyway. PRIMARY KEY, partitioning or hypertable: see db/timescale.py.
CREATE TABLE station_head (               -- cache: where the station's chain stands
    stn     text PRIMARY KEY REFERENCES station,
    ep      bigint NOT NULL,
    seq     bigint NOT NULL,
    env_id  bytea  NOT NULL,
    last_at timestamptz NOT NULL          -- latest reading time seen: the station's own clock, drives detection
);
CREATE TABLE quarantine (                 -- validly signed, not accepted (equivocation): evidence, leaf kind 3
    env_id  bytea PRIMARY KEY CHECK (length(env_id) = 32),
    stn     text   NOT NULL REFERENCES station,
    ep      bigint NOT NULL,
    seq     bigint NOT NULL,
    kid     text   NOT NULL,
    why     text   NOT NULL,
    recv_ms bigint NOT NULL,
    jws     bytea  NOT NULL
);

-- 5 Detection, flags, reviews, exports --------------------------------------------------------------------------------
CREATE TABLE detection_state (            -- cache: detectors' memory of a station
    stn        text PRIMARY KEY REFERENCES station,
    upto       timestamptz NOT NULL,      -- readings before this are already judged
    state      bytea NOT NULL,
    state_hash bytea NOT NULL
);
CREATE TABLE flag (
    flag_id          text PRIMARY KEY,
    stn              text NOT NULL REFERENCES station,
    detector         text NOT NULL,
    detector_version text NOT NULL,
    kind             text NOT NULL,
    verdict          text NOT NULL CHECK (verdict IN ('cannot be', 'very unlikely', 'unusual')),
    from_at          timestamptz NOT NULL,
    to_at            timestamptz NOT NULL,
    channels         text[] NOT NULL,
    e_value          double precision NOT NULL,
    episode          text NOT NULL,
    text_en          text NOT NULL,
    text_zh          text NOT NULL,
    plot             text NOT NULL,       -- JSON text; its SHA-256 stands in the event
    raised_at        timestamptz NOT NULL,
    event_id         bytea NOT NULL UNIQUE REFERENCES event,
    UNIQUE (stn, episode)
);
CREATE INDEX flag_raised_at ON flag (raised_at DESC, flag_id DESC);
CREATE TABLE flag_extension (             -- the same finding, seen longer
    event_id bytea PRIMARY KEY REFERENCES event,
    flag_id  text NOT NULL REFERENCES flag,
    to_at    timestamptz NOT NULL,
    e_value  double precision NOT NULL,
    text_en  text NOT NULL,
    text_zh  text NOT NULL,
    plot     text NOT NULL
);
CREATE INDEX flag_extension_flag ON flag_extension (flag_id);
CREATE TABLE review (
    review_id  text PRIMARY KEY,
    flag_id    text NOT NULL REFERENCES flag,
    account_id text NOT NULL REFERENCES account,
    decision   text NOT NULL CHECK (decision IN ('confirmed_odd', 'explained', 'needs_visit', 'dismissed')),
    reason     text NOT NULL,
    salt       bytea NOT NULL CHECK (length(salt) = 32),
    decided_at timestamptz NOT NULL,
    event_id   bytea NOT NULL UNIQUE REFERENCES event
);
CREATE INDEX review_flag ON review (flag_id);
CREATE TABLE export_request (             -- mutable: progress of a job
    export_id    text PRIMARY KEY,
    stn          text NOT NULL REFERENCES station,
    from_at      timestamptz NOT NULL,
    to_at        timestamptz NOT NULL,
    purpose      text NOT NULL,
    account_id   text NOT NULL REFERENCES account,
    state        text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'building', 'done', 'failed')),
    error        text,
    requested_at timestamptz NOT NULL
);
CREATE TABLE export (
    export_id       text PRIMARY KEY REFERENCES export_request,
    stn             text NOT NULL REFERENCES station,
    manifest_sha256 bytea NOT NULL CHECK (length(manifest_sha256) = 32),
    made_at         timestamptz NOT NULL,
    event_id        bytea NOT NULL UNIQUE REFERENCES event
);

-- 6 The log -----------------------------------------------------------------------------------------------------------
CREATE TABLE log_genesis (                -- leaf 0: policy, first keys, inception
    entry_id bytea PRIMARY KEY CHECK (length(entry_id) = 32),
    body     bytea NOT NULL,
    recv_ms  bigint NOT NULL
);
CREATE TABLE log_pending (                -- waits for the sequencer, which alone deletes here
    qid      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind     smallint NOT NULL,
    entry_id bytea    NOT NULL,
    recv_ms  bigint   NOT NULL,
    leaf     bytea    NOT NULL CHECK (length(leaf) = 32)  -- RFC 6962 2.1, over prefix and body as they came in
);
CREATE TABLE log_entry (                  -- the bytes stay in envelope/event/quarantine/log_genesis, and on disk
    idx      bigint PRIMARY KEY CHECK (idx >= 0),
    kind     smallint NOT NULL,
    entry_id bytea  NOT NULL,
    recv_ms  bigint NOT NULL,
    leaf     bytea  NOT NULL CHECK (length(leaf) = 32),
    qid      bigint NOT NULL UNIQUE,
    UNIQUE (entry_id, kind)
);
CREATE TABLE log_head (                   -- one row per integration; prev UNIQUE fences out a second sequencer
    size bigint PRIMARY KEY,
    prev bigint NOT NULL UNIQUE,
    root bytea  NOT NULL CHECK (length(root) = 32),
    at   timestamptz NOT NULL DEFAULT now(),
    CHECK (size > prev)
);

CREATE FUNCTION log_prefix(kind integer, recv_ms bigint) RETURNS bytea LANGUAGE sql IMMUTABLE AS
$$ SELECT '\x454d4401'::bytea || set_byte('\x00'::bytea, 0, kind) || int8send(recv_ms) $$;
CREATE FUNCTION log_leaf(kind integer, recv_ms bigint, body bytea) RETURNS bytea LANGUAGE sql IMMUTABLE AS
$$ SELECT sha256('\x00'::bytea || log_prefix(kind, recv_ms) || body) $$;

-- A business row cannot be stored without queueing its leaf: the database does it, not the application.
CREATE FUNCTION queue_envelope() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO log_pending (kind, entry_id, recv_ms, leaf)
    SELECT 1, env_id, recv_ms, log_leaf(1, recv_ms, jws) FROM inserted ORDER BY envelope_no;
    RETURN NULL;
END $$;
CREATE TRIGGER queue_envelope AFTER INSERT ON envelope REFERENCING NEW TABLE AS inserted
    FOR EACH STATEMENT EXECUTE FUNCTION queue_envelope();
CREATE FUNCTION queue_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO log_pending (kind, entry_id, recv_ms, leaf)
    SELECT 2, event_id, recv_ms, log_leaf(2, recv_ms, jws) FROM inserted ORDER BY subj, sseq;
    RETURN NULL;
END $$;
CREATE TRIGGER queue_event AFTER INSERT ON event REFERENCING NEW TABLE AS inserted
    FOR EACH STATEMENT EXECUTE FUNCTION queue_event();
CREATE FUNCTION queue_quarantine() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO log_pending (kind, entry_id, recv_ms, leaf)
    SELECT 3, env_id, recv_ms, log_leaf(3, recv_ms, jws) FROM inserted;
    RETURN NULL;
END $$;
CREATE TRIGGER queue_quarantine AFTER INSERT ON quarantine REFERENCING NEW TABLE AS inserted
    FOR EACH STATEMENT EXECUTE FUNCTION queue_quarantine();
CREATE FUNCTION queue_genesis() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO log_pending (kind, entry_id, recv_ms, leaf)
    SELECT 0, entry_id, recv_ms, log_leaf(0, recv_ms, body) FROM inserted;
    RETURN NULL;
END $$;
CREATE TRIGGER queue_genesis AFTER INSERT ON log_genesis REFERENCING NEW TABLE AS inserted
    FOR EACH STATEMENT EXECUTE FUNCTION queue_genesis();

-- The exact bytes of every logged entry, from the one place where the database keeps them.
CREATE VIEW log_bytes AS
    SELECT e.idx, e.kind, e.entry_id, e.recv_ms, e.leaf, b.body
    FROM log_entry e
    LEFT JOIN LATERAL (
        SELECT jws AS body FROM envelope WHERE e.kind = 1 AND env_id = e.entry_id
        UNION ALL SELECT jws FROM event WHERE e.kind = 2 AND event_id = e.entry_id
        UNION ALL SELECT jws FROM quarantine WHERE e.kind = 3 AND env_id = e.entry_id
        UNION ALL SELECT body FROM log_genesis WHERE e.kind = 0 AND entry_id = e.entry_id
    ) b ON true;

-- Friction and alarm, not proof: an owner can always drop these. Proof comes from outside the database.
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'table % is append-only', TG_TABLE_NAME USING ERRCODE = '42501';
END $$;
DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['event', 'station', 'channel', 'station_key', 'key_revocation', 'envelope', 'quarantine', 'flag',
                             'flag_extension', 'review', 'export', 'log_genesis', 'log_entry', 'log_head'] LOOP
        EXECUTE format('CREATE TRIGGER append_only_row BEFORE UPDATE OR DELETE ON %I '
                       'FOR EACH ROW EXECUTE FUNCTION refuse_change()', t);
        EXECUTE format('CREATE TRIGGER append_only_table BEFORE TRUNCATE ON %I '
                       'FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', t);
        EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER append_only_row', t);
        EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER append_only_table', t);
    END LOOP;
END $$;

-- lz4 takes a third of pglz's time for nearly the same size. A server built without it keeps its default.
DO $$
BEGIN
    ALTER TABLE envelope ALTER COLUMN jws SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
    NULL;
END $$;
