-- Key life cycle: approvals, rotation by both keys, compromise; epochs; limits over time; grants of access.

CREATE TABLE key_request (                -- an officer asks; another one must approve before the key signs anything
    kid        text PRIMARY KEY CHECK (kid ~ '^[A-Za-z0-9._-]{1,64}$'),
    stn        text NOT NULL REFERENCES station,
    alg        text NOT NULL CHECK (alg IN ('Ed25519', 'ES256')),
    public_key bytea NOT NULL CHECK (length(public_key) IN (32, 65)),
    proof      text NOT NULL,
    account_id text NOT NULL,
    event_id   bytea NOT NULL UNIQUE REFERENCES event
);
CREATE INDEX key_request_stn ON key_request (stn);
CREATE TABLE key_compromise (             -- what the key signed at this log index and later is suspect; nothing is deleted
    event_id         bytea PRIMARY KEY REFERENCES event,
    kid              text NOT NULL REFERENCES station_key,
    suspect_from_idx bigint NOT NULL CHECK (suspect_from_idx >= 0)
);
CREATE INDEX key_compromise_kid ON key_compromise (kid);
CREATE TABLE epoch (                      -- opened by a station's first envelope of it, while another one stood
    event_id bytea PRIMARY KEY REFERENCES event,
    stn      text NOT NULL REFERENCES station,
    ep       bigint NOT NULL,
    prev_ep  bigint NOT NULL,
    env_id   bytea NOT NULL CHECK (length(env_id) = 32),
    UNIQUE (stn, ep)
);
CREATE TABLE epoch_ack (                  -- an inspector looked at it
    event_id   bytea PRIMARY KEY REFERENCES event,
    stn        text NOT NULL REFERENCES station,
    ep         bigint NOT NULL,
    account_id text NOT NULL REFERENCES account,
    why        text NOT NULL,
    salt       bytea NOT NULL CHECK (length(salt) = 32),
    UNIQUE (stn, ep)
);
CREATE TABLE gap (                        -- the station admits that it lost these envelopes
    event_id  bytea PRIMARY KEY REFERENCES event,
    stn       text NOT NULL REFERENCES station,
    ep        bigint NOT NULL,
    seq_first bigint NOT NULL,
    seq_last  bigint NOT NULL CHECK (seq_last >= seq_first),
    why       text NOT NULL,
    env_id    bytea NOT NULL UNIQUE CHECK (length(env_id) = 32)
);
CREATE INDEX gap_stn ON gap (stn);
CREATE TABLE channel_limit (              -- channel.limit_value is the first limit, valid until the first of these begins
    event_id    bytea PRIMARY KEY REFERENCES event,
    stn         text NOT NULL,
    name        text NOT NULL,
    limit_value double precision,         -- in the channel's own unit; null = none
    from_at     timestamptz NOT NULL,
    why         text NOT NULL,
    FOREIGN KEY (stn, name) REFERENCES channel (stn, name)
);
CREATE INDEX channel_limit_channel ON channel_limit (stn, name, from_at);

-- What a station, or a thief of its key, may have set aside as evidence is counted by the day.
CREATE INDEX quarantine_stn_recv ON quarantine (stn, recv_ms);

-- An account is what its event access.grant says; a token what its event access.token says. Rows from before have none.
ALTER TABLE account ADD COLUMN salt bytea CHECK (length(salt) = 32);
ALTER TABLE account ADD COLUMN event_id bytea UNIQUE REFERENCES event;
ALTER TABLE account ADD CONSTRAINT account_granted CHECK (event_id IS NOT NULL AND salt IS NOT NULL) NOT VALID;
ALTER TABLE access_token ADD COLUMN event_id bytea UNIQUE REFERENCES event;
ALTER TABLE access_token ADD CONSTRAINT access_token_issued CHECK (event_id IS NOT NULL) NOT VALID;

-- Guards of an append-only table, for this migration and all after it.
CREATE FUNCTION make_append_only(t text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TRIGGER append_only_row BEFORE UPDATE OR DELETE ON %I '
                   'FOR EACH ROW EXECUTE FUNCTION refuse_change()', t);
    EXECUTE format('CREATE TRIGGER append_only_table BEFORE TRUNCATE ON %I '
                   'FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', t);
    EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER append_only_row', t);
    EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER append_only_table', t);
END $$;
SELECT make_append_only(t) FROM unnest(ARRAY['key_request', 'key_compromise', 'epoch', 'epoch_ack', 'gap', 'channel_limit', 'account']) t;
