-- Why an official did something: the event names the words by salted hash alone (why_sha256), the words and their salt
-- stand here and nowhere else, for every kind of act. What is withheld from a bundle can be shown later.

CREATE TABLE explanation (
    event_id bytea PRIMARY KEY REFERENCES event,
    salt     bytea NOT NULL CHECK (length(salt) = 32),  -- all zeros: a rebuilt database, which does not know the words
    why      text  NOT NULL
);
ALTER TABLE explanation OWNER TO stackwitness_owner;  -- on an empty database all migrations run as one user
SELECT set_config('stackwitness.agency', '*', true);
INSERT INTO explanation (event_id, salt, why) SELECT event_id, salt, why FROM epoch_ack;
ALTER TABLE epoch_ack DROP COLUMN why, DROP COLUMN salt;
-- Limits and freezes from before said it in clear in their events, where it stays.
ALTER TABLE channel_limit DROP COLUMN why;
ALTER TABLE log_freeze DROP COLUMN why;
SELECT make_append_only('explanation');

-- A row fits its event as before; '*' stands for a table whose rows hang on events of many subjects.
CREATE OR REPLACE FUNCTION check_event() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = public, pg_temp AS $$
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
    SELECT EXISTS (SELECT FROM event e WHERE e.event_id = NEW.event_id AND (wanted = '*' OR e.subj = wanted)
                   AND e.typ = ANY (string_to_array(TG_ARGV[1], ' '))) INTO fits;
    PERFORM set_config('stackwitness.agency', before, true);
    IF NOT fits THEN
        RAISE EXCEPTION 'the event of this row of % is not a % of %', TG_TABLE_NAME, TG_ARGV[1], wanted
            USING ERRCODE = '23514';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER fits_event AFTER INSERT ON explanation DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION check_event
    ('*', 'key.revoke key.compromise limit.change epoch.ack access.revoke log.freeze');
ALTER TABLE explanation ENABLE ALWAYS TRIGGER fits_event;

-- Who sees the event sees the words; the event's own row security decides.
ALTER TABLE explanation ENABLE ROW LEVEL SECURITY;
ALTER TABLE explanation FORCE ROW LEVEL SECURITY;
CREATE POLICY agency ON explanation
    USING ((SELECT current_setting('stackwitness.agency', true)) = '*'
           OR EXISTS (SELECT FROM event e WHERE e.event_id = explanation.event_id))
    WITH CHECK (true);
CREATE POLICY machine ON explanation TO sw_ingest, sw_seq, sw_detect USING (true) WITH CHECK (true);
GRANT SELECT ON explanation TO sw_review, sw_export, sw_read;
GRANT INSERT ON explanation TO sw_seq, sw_review;

-- A look at an export of several stations stands on the chain of each of them.
ALTER TABLE custody DROP CONSTRAINT custody_typ_what_object_id_account_id_day_key,
    ADD UNIQUE (typ, what, object_id, account_id, day, stn);
