-- The service's own key can change: a row for each key that followed another one, made by its event. Leaf 0 names the first.
-- Whoever appends an event looks here which key signs, under a lock that the change of keys takes alone.

CREATE TABLE service_key (
    kid        text PRIMARY KEY CHECK (kid ~ '^[A-Za-z0-9._-]{1,64}$'),
    old_kid    text  NOT NULL UNIQUE CHECK (old_kid <> kid),
    alg        text  NOT NULL CHECK (alg IN ('Ed25519', 'ES256')),
    public_key bytea NOT NULL CHECK (length(public_key) IN (32, 65)),
    event_id   bytea NOT NULL UNIQUE REFERENCES event
);
SELECT make_append_only('service_key');
CREATE CONSTRAINT TRIGGER fits_event AFTER INSERT ON service_key DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION check_event('log', 'service.key');
ALTER TABLE service_key ENABLE ALWAYS TRIGGER fits_event;
GRANT SELECT ON service_key TO sw_ingest, sw_seq, sw_detect, sw_review, sw_export, sw_read;
GRANT INSERT ON service_key TO sw_seq;

-- Why a key of the service is suspect is explained as every other act.
DROP TRIGGER fits_event ON explanation;
CREATE CONSTRAINT TRIGGER fits_event AFTER INSERT ON explanation DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION check_event
    ('*', 'key.revoke key.compromise limit.change epoch.ack access.revoke log.freeze service.compromise export.requested');
ALTER TABLE explanation ENABLE ALWAYS TRIGGER fits_event;
GRANT INSERT ON explanation TO sw_export;

-- A new database is migrated from nothing by a superuser: what came since 0007 belongs to the owner there, too.
ALTER TABLE service_key OWNER TO stackwitness_owner;
ALTER TABLE explanation OWNER TO stackwitness_owner;
