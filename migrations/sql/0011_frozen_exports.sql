-- Bundles of a frozen log: no event can say who asked for one, so the request stands here alone, and only where the log has ended.

CREATE TABLE frozen_export (               -- mutable: progress of a job; nothing of it is evidence
    export_id       text PRIMARY KEY,      -- made of what was asked: the same question again is the same row
    stns            text[] NOT NULL CHECK (cardinality(stns) > 0),
    from_at         timestamptz NOT NULL,
    to_at           timestamptz NOT NULL,
    first_idx       bigint CHECK (first_idx >= 0),
    end_idx         bigint CHECK (end_idx > first_idx),
    purpose         text NOT NULL,
    account_id      text NOT NULL REFERENCES account,
    redacted        boolean NOT NULL,
    state           text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'building', 'done', 'failed')),
    error           text,
    requested_at    timestamptz NOT NULL,
    entries_done    bigint NOT NULL DEFAULT 0,
    entries_of      bigint,
    manifest_sha256 bytea CHECK (length(manifest_sha256) = 32),
    checkpoint      bytea                  -- the final one as bundled; the first kept serves all: later cosignatures would change the bytes
);

CREATE FUNCTION refuse_unlogged() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM log_freeze) THEN
        RAISE EXCEPTION 'this log is not frozen: an export is an event' USING ERRCODE = '23514';
    END IF;
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION refuse_unlogged() FROM PUBLIC;
CREATE TRIGGER refuse_unlogged BEFORE INSERT ON frozen_export FOR EACH STATEMENT EXECUTE FUNCTION refuse_unlogged();
ALTER TABLE frozen_export ENABLE ALWAYS TRIGGER refuse_unlogged;

-- A bundle about stations of several agencies is for those who see them all.
ALTER TABLE frozen_export ENABLE ROW LEVEL SECURITY;
ALTER TABLE frozen_export FORCE ROW LEVEL SECURITY;
CREATE POLICY agency ON frozen_export
    USING ((SELECT current_setting('stackwitness.agency', true)) = '*'
           OR NOT EXISTS (SELECT FROM unnest(stns) AS s (stn) WHERE s.stn NOT IN (SELECT stn FROM station)))
    WITH CHECK ((SELECT current_setting('stackwitness.agency', true)) = '*'
           OR NOT EXISTS (SELECT FROM unnest(stns) AS s (stn) WHERE s.stn NOT IN (SELECT stn FROM station)));
CREATE POLICY machine ON frozen_export TO sw_ingest, sw_seq, sw_detect USING (true) WITH CHECK (true);
GRANT SELECT ON frozen_export TO sw_review, sw_export, sw_read;
GRANT INSERT, UPDATE ON frozen_export TO sw_export;

ALTER TABLE frozen_export OWNER TO stackwitness_owner;
ALTER FUNCTION refuse_unlogged() OWNER TO stackwitness_owner;
