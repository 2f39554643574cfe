-- Readings that come late are judged: detection steps back to an earlier memory and goes on from there.

-- What is still to be judged anew (late_from), when detection last stepped back, and how far it had been then.
ALTER TABLE detection_state ADD COLUMN late_from timestamptz, ADD COLUMN stepped_at timestamptz, ADD COLUMN former timestamptz;

CREATE TABLE detection_kept (               -- cache: memories to step back to, the fewer the older
    stn   text NOT NULL REFERENCES station,
    upto  timestamptz NOT NULL,             -- readings before this are judged in it
    until timestamptz NOT NULL,             -- dropped when judging has come this far
    state bytea NOT NULL,
    PRIMARY KEY (stn, upto)
);
ALTER TABLE detection_kept ENABLE ROW LEVEL SECURITY;
ALTER TABLE detection_kept FORCE ROW LEVEL SECURITY;
CREATE POLICY agency ON detection_kept
    USING ((SELECT current_setting('stackwitness.agency', true)) = '*' OR stn IN (SELECT stn FROM station))
    WITH CHECK ((SELECT current_setting('stackwitness.agency', true)) = '*' OR stn IN (SELECT stn FROM station));
CREATE POLICY machine ON detection_kept TO sw_ingest, sw_seq, sw_detect USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, DELETE ON detection_kept TO sw_detect;
GRANT SELECT ON detection_kept TO sw_export, sw_read;

ALTER TABLE detection_kept OWNER TO stackwitness_owner;
