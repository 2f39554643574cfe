-- Who asked for which evidence, when and why, is an event on the chain of every station asked about: export.requested.

CREATE TABLE export_station (              -- one row for each station of a request
    export_id text  NOT NULL REFERENCES export_request DEFERRABLE INITIALLY DEFERRED,
    stn       text  NOT NULL REFERENCES station,
    event_id  bytea NOT NULL UNIQUE REFERENCES event,
    PRIMARY KEY (export_id, stn)
);
SELECT make_append_only('export_station');
-- Null in rows from before. What the purpose is stands in `explanation`, by the event's salted hash.
ALTER TABLE export_request ADD COLUMN event_id bytea UNIQUE REFERENCES event, DROP COLUMN purpose;

CREATE FUNCTION check_asked() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    unasked text;
    before  text := current_setting('stackwitness.agency', true);
BEGIN
    PERFORM set_config('stackwitness.agency', '*', true);
    SELECT s.stn INTO unasked FROM unnest(NEW.stns) AS s (stn)
    WHERE NOT EXISTS (SELECT FROM export_station x WHERE x.export_id = NEW.export_id AND x.stn = s.stn) LIMIT 1;
    PERFORM set_config('stackwitness.agency', before, true);
    IF unasked IS NOT NULL THEN
        RAISE EXCEPTION 'no export.requested of station % for export %', unasked, NEW.export_id USING ERRCODE = '23514';
    END IF;
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION check_asked() FROM PUBLIC;
CREATE CONSTRAINT TRIGGER asked_everywhere AFTER INSERT ON export_request DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION check_asked();
ALTER TABLE export_request ENABLE ALWAYS TRIGGER asked_everywhere;
DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['export_request', 'export_station'] LOOP
        EXECUTE format('CREATE CONSTRAINT TRIGGER fits_event AFTER INSERT ON %I DEFERRABLE INITIALLY DEFERRED '
                       'FOR EACH ROW EXECUTE FUNCTION check_event(''stn'', ''export.requested'')', t);
        EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER fits_event', t);
    END LOOP;
END $$;

ALTER TABLE export_station ENABLE ROW LEVEL SECURITY;
ALTER TABLE export_station FORCE ROW LEVEL SECURITY;
CREATE POLICY agency ON export_station
    USING ((SELECT current_setting('stackwitness.agency', true)) = '*' OR stn IN (SELECT stn FROM station))
    WITH CHECK ((SELECT current_setting('stackwitness.agency', true)) = '*' OR stn IN (SELECT stn FROM station));
CREATE POLICY machine ON export_station TO sw_ingest, sw_seq, sw_detect USING (true) WITH CHECK (true);
GRANT SELECT ON export_station TO sw_review, sw_export, sw_read;
GRANT INSERT ON export_station TO sw_export;

ALTER TABLE export_station OWNER TO stackwitness_owner;
ALTER FUNCTION check_asked() OWNER TO stackwitness_owner;
