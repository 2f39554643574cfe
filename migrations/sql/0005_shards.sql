-- Repair and yearly shards.

-- The checker and the rebuild read readings by ranges of envelope numbers. Rows are written in nearly that order, so a block
-- range index finds them at hardly any cost to whoever writes.
CREATE INDEX reading_envelope_no ON reading USING brin (envelope_no) WITH (autosummarize = on);
CREATE FUNCTION summarize_readings() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS
$$ SELECT coalesce(sum(brin_summarize_new_values(i.indexrelid)), 0)::bigint
   FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
   WHERE m.amname = 'brin' AND c.relkind = 'i' AND c.relname LIKE 'reading%' $$;

CREATE TABLE log_freeze (                 -- at most one row: from then on this log takes no leaf
    event_id         bytea PRIMARY KEY REFERENCES event,
    successor_origin text  NOT NULL,
    why              text  NOT NULL,
    single           boolean NOT NULL DEFAULT true UNIQUE CHECK (single)
);
CREATE TABLE log_previous (               -- the shard before this one, as leaf 0 commits to it; none in a first shard
    origin    text   PRIMARY KEY,
    size      bigint NOT NULL CHECK (size > 0),
    root      bytea  NOT NULL CHECK (length(root) = 32),
    head_root bytea  NOT NULL CHECK (length(head_root) = 32),
    head      bytea  NOT NULL,            -- the lines of its final head: where every station's chain goes on
    note      bytea  NOT NULL,            -- its final checkpoint
    single    boolean NOT NULL DEFAULT true UNIQUE CHECK (single)
);
CREATE FUNCTION refuse_frozen() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    successor text := (SELECT successor_origin FROM log_freeze);
BEGIN
    IF successor IS NOT NULL THEN
        RAISE EXCEPTION 'this log is frozen' USING ERRCODE = '55000', DETAIL = successor;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER refuse_frozen BEFORE INSERT ON log_pending FOR EACH STATEMENT EXECUTE FUNCTION refuse_frozen();
ALTER TABLE log_pending ENABLE ALWAYS TRIGGER refuse_frozen;

SELECT make_append_only(t) FROM unnest(ARRAY['log_freeze', 'log_previous']) t;
