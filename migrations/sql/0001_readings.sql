-- The projection table without its partitioning, which db/timescale.py adds (hypertable or native range partitions).
-- {partitioning} is replaced by "PARTITION BY RANGE (at)" where TimescaleDB is absent, else by nothing.
CREATE TABLE reading (
    at          timestamptz      NOT NULL,
    channel_no  integer          NOT NULL,
    envelope_no bigint           NOT NULL,
    value       double precision,              -- null = no value (status says why)
    status      "char"           NOT NULL,     -- one letter, see emdi.pack
    PRIMARY KEY (channel_no, at, envelope_no)
) {partitioning};
