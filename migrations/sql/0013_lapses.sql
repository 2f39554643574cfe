-- Flags that readings which came late no longer bear out: the flag stays, and a row says so.

CREATE TABLE flag_lapse (
    event_id  bytea PRIMARY KEY REFERENCES event,
    flag_id   text NOT NULL REFERENCES flag,
    to_at     timestamptz NOT NULL,           -- up to where the flag had last been told
    lapsed_at timestamptz NOT NULL
);
CREATE INDEX flag_lapse_flag ON flag_lapse (flag_id);
SELECT make_append_only('flag_lapse');
CREATE CONSTRAINT TRIGGER fits_event AFTER INSERT ON flag_lapse DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION check_event('flag_id', 'flag.lapsed');
ALTER TABLE flag_lapse ENABLE ALWAYS TRIGGER fits_event;

ALTER TABLE flag_lapse ENABLE ROW LEVEL SECURITY;
ALTER TABLE flag_lapse FORCE ROW LEVEL SECURITY;
CREATE POLICY agency ON flag_lapse
    USING ((SELECT current_setting('stackwitness.agency', true)) = '*' OR flag_id IN (SELECT flag_id FROM flag))
    WITH CHECK ((SELECT current_setting('stackwitness.agency', true)) = '*' OR flag_id IN (SELECT flag_id FROM flag));
CREATE POLICY machine ON flag_lapse TO sw_ingest, sw_seq, sw_detect USING (true) WITH CHECK (true);
GRANT SELECT, INSERT ON flag_lapse TO sw_detect;
GRANT SELECT ON flag_lapse TO sw_review, sw_export, sw_read;

ALTER TABLE flag_lapse OWNER TO stackwitness_owner;
