-- Exports: several stations, a part of the log, redaction; progress.
ALTER TABLE export_request ADD COLUMN stns text[];              -- sorted bytewise; stn is the first, which bears the seal
UPDATE export_request SET stns = ARRAY[stn];
ALTER TABLE export_request ALTER COLUMN stns SET NOT NULL,
    ADD CONSTRAINT export_request_first CHECK (stns[1] = stn),
    ADD COLUMN first_idx    bigint CHECK (first_idx >= 0),      -- with end_idx: only these log indexes, half-open
    ADD COLUMN end_idx      bigint CHECK (end_idx > first_idx),
    ADD COLUMN redacted     boolean NOT NULL DEFAULT false,     -- no text is disclosed
    ADD COLUMN entries_done bigint  NOT NULL DEFAULT 0,
    ADD COLUMN entries_of   bigint;                             -- null until counted
