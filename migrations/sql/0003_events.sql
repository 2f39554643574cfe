-- Heads of the log, detector runs, custody.

-- 1 Heads: the last envelope of every station and the last event of every subject below as_of; the lines are a file ------------
CREATE TABLE head_daily (
    as_of    bigint PRIMARY KEY CHECK (as_of > 0),
    date     text   NOT NULL CHECK (date ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}$'),
    lines    bigint NOT NULL CHECK (lines >= 0),
    root     bytea  NOT NULL CHECK (length(root) = 32),
    occasion text   NOT NULL CHECK (occasion IN ('schedule', 'demand')),
    event_id bytea  NOT NULL UNIQUE REFERENCES event
);
CREATE TABLE head_request (               -- queue: who waits for a head; the log process alone deletes here
    request_no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at_least   bigint NOT NULL
);

-- 2 Detection: the last envelope of the station that was looked at for late readings ------------------------------------------
-- The memory is a cache. One that no run in the log vouches for is made anew.
DELETE FROM detection_state;
ALTER TABLE detection_state ADD COLUMN ep bigint NOT NULL, ADD COLUMN seq bigint NOT NULL;
-- "Which envelopes hold readings from here on" is asked at every scan; without it the whole past is read.
CREATE INDEX envelope_stn_last_at ON envelope (stn, last_at);

-- 3 Custody: who looked at which evidence, once a UTC day ----------------------------------------------------------------------
CREATE TABLE custody (
    event_id   bytea PRIMARY KEY REFERENCES event,
    typ        text NOT NULL CHECK (typ IN ('evidence.viewed', 'evidence.downloaded')),
    stn        text NOT NULL REFERENCES station,
    what       text NOT NULL CHECK (what IN ('flag', 'export')),
    object_id  text NOT NULL,
    account_id text NOT NULL REFERENCES account,
    day        date NOT NULL,
    UNIQUE (typ, what, object_id, account_id, day)
);

SELECT make_append_only(t) FROM unnest(ARRAY['head_daily', 'custody']) t;
