-- What the detectors see and what they cannot judge, of each station and of the stations of an agency beside each other.

CREATE TABLE judgement (                    -- cache: follows from the station and the detectors' memory
    stn        text PRIMARY KEY REFERENCES station,
    upto       timestamptz NOT NULL,        -- the run that said so ended here
    state_hash bytea NOT NULL,              -- of the memory it left
    notes      jsonb NOT NULL
);
CREATE TABLE fleet_run (                    -- cache: follows from the readings of [from_at, upto)
    agency      text PRIMARY KEY,
    from_at     timestamptz NOT NULL,
    upto        timestamptz NOT NULL,
    heads       jsonb NOT NULL,             -- station -> its last envelope then, [ep, seq]
    config_hash text NOT NULL,
    version     text NOT NULL,
    findings    jsonb NOT NULL,
    notes       jsonb NOT NULL,
    state       bytea NOT NULL              -- the memory to go on from
);
ALTER TABLE judgement ENABLE ROW LEVEL SECURITY;
ALTER TABLE judgement FORCE ROW LEVEL SECURITY;
ALTER TABLE fleet_run ENABLE ROW LEVEL SECURITY;
ALTER TABLE fleet_run FORCE ROW LEVEL SECURITY;
CREATE POLICY agency ON judgement
    USING ((SELECT current_setting('stackwitness.agency', true)) = '*' OR stn IN (SELECT stn FROM station))
    WITH CHECK ((SELECT current_setting('stackwitness.agency', true)) = '*' OR stn IN (SELECT stn FROM station));
CREATE POLICY agency ON fleet_run
    USING ((SELECT current_setting('stackwitness.agency', true)) IN ('*', agency))
    WITH CHECK ((SELECT current_setting('stackwitness.agency', true)) IN ('*', agency));
CREATE POLICY machine ON judgement TO sw_ingest, sw_seq, sw_detect USING (true) WITH CHECK (true);
CREATE POLICY machine ON fleet_run TO sw_ingest, sw_seq, sw_detect USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE ON judgement, fleet_run TO sw_detect;
GRANT SELECT ON judgement, fleet_run TO sw_export, sw_read;

ALTER TABLE judgement OWNER TO stackwitness_owner;
ALTER TABLE fleet_run OWNER TO stackwitness_owner;
