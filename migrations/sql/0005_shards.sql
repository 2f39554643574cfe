-- Repair and yearly shards.

-- The checker and the rebuild read readings by ranges of envelope numbers. Rows are written in nearly that order, so a block
-- range index finds them at hardly any cost to whoever writes.
CREATE INDEX reading_envelope_no ON reading USING brin (envelope_no) WITH (autosummarize = on);
