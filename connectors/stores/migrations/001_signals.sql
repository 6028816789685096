-- What trading logics said: one row a signal, kept for ever.
-- ts_event follows from ts_event_ns, to the microsecond: time functions want the first, exact answers the second.
-- The key holds ts_event because a hypertable's must; a signal's ts_event follows from its id, so id stays unique.
-- Texts sort by their bytes ("C"), so that order does not depend on where the database was made.
CREATE TABLE signals (
    id               uuid             NOT NULL,
    seq              bigint           NOT NULL,
    tenant           text COLLATE "C" NOT NULL,
    logic            text COLLATE "C" NOT NULL,
    version          text COLLATE "C" NOT NULL,
    params_hash      text COLLATE "C" NOT NULL,
    instrument       text COLLATE "C" NOT NULL,
    side             text COLLATE "C" NOT NULL,
    strength         double precision NOT NULL,
    price            numeric          NOT NULL,
    ts_event         timestamptz      NOT NULL,
    ts_event_ns      bigint           NOT NULL,
    ts_recv_ns       bigint           NOT NULL,
    valid_until_ns   bigint           NOT NULL,
    origin_partition integer          NOT NULL,
    origin_offset    bigint           NOT NULL,
    origin_index     bigint           NOT NULL,
    tags             jsonb            NOT NULL,
    PRIMARY KEY (id, ts_event)
);

-- TimescaleDB's functions may live in any schema.
DO $$
DECLARE
    timescale name := (
        SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
        WHERE e.extname = 'timescaledb'
    );
BEGIN
    IF timescale IS NOT NULL THEN
        EXECUTE format(
            'SELECT %1$I.create_hypertable(''signals'', %1$I.by_range(''ts_event'', INTERVAL ''7 days''), '
            'create_default_indexes => false)', timescale
        );
    END IF;
END
$$;

CREATE INDEX signals_ts_event ON signals (ts_event DESC);
CREATE INDEX signals_instrument_ts_event ON signals (instrument, ts_event DESC);
-- `tapeline signals` reads in this order; seq counts per logic, version, parameters and ticks partition.
CREATE INDEX signals_logic_seq ON signals (logic, version, params_hash, seq, instrument);
CREATE INDEX signals_ts_recv_ns ON signals (ts_recv_ns DESC);

-- How far a role has read: written in the transaction that keeps what it read. topic_id is Kafka's own: a topic that
-- was made anew under the same name is another log.
CREATE TABLE input_offsets (
    role        text COLLATE "C" NOT NULL,
    topic       text COLLATE "C" NOT NULL,
    topic_id    text COLLATE "C" NOT NULL,
    partition   integer          NOT NULL,
    next_offset bigint           NOT NULL,
    changed_at  timestamptz      NOT NULL DEFAULT now(),
    PRIMARY KEY (role, topic, partition)
);
