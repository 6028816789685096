-- Ticks, where they are wanted: one row a tick, with the way back to the log.
--
-- `ts` is what time functions, partitions and aggregates go by: the event time to the microsecond, or the receive time
-- where the venue gives none or one that is more than a day off (a venue's odd clock must not make chunks everywhere).
-- (instrument_id, origin_partition, origin_offset, origin_index) names a tick: the raw record it comes from, and the
-- n-th tick of its instrument in it, as in `signals`. (ticks_offset, origin_index) is the order of arrival.

-- The marks of the lanes of an input partition, kept with its offset: {"raw partition": [origin offset, part]}, and
-- while further parts of that record are to come, {"instrument id": ticks counted} as third.
ALTER TABLE input_offsets ADD COLUMN marks jsonb NOT NULL DEFAULT '{}';

-- The instruments that ticks or bars were kept of; ids are those of topic `instruments`.
CREATE TABLE instruments (
    id        bigint           PRIMARY KEY,
    name      text COLLATE "C" NOT NULL UNIQUE,
    partition integer          NOT NULL
);

-- A hypertable where the extension is there, else partitioned; our own code makes the partitions.
-- Compression and continuous aggregates are of TimescaleDB's own licence: without it the aggregates are plain views.
DO $migration$
DECLARE
    timescale name := (
        SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
        WHERE e.extname = 'timescaledb'
    );
    community boolean := timescale IS NOT NULL AND current_setting('timescaledb.license', true) = 'timescale';
    -- How an aggregate is made: CREATE <view> NAME <options> AS ... <no_data>
    view text := 'VIEW';
    options text := '';
    no_data text := '';
    bucket text := 'date_bin(%L, ts, ''2000-01-03 00:00+00'')';
    first_tick text := '(array_agg(price ORDER BY ticks_offset, origin_index))[1]';
    last_tick text := '(array_agg(price ORDER BY ticks_offset DESC, origin_index DESC))[1]';
    first_bar text := '(array_agg(open ORDER BY ts))[1]';
    last_bar text := '(array_agg(close ORDER BY ts DESC))[1]';
BEGIN
    EXECUTE $sql$
        CREATE TABLE ticks (
            ts               timestamptz      NOT NULL,
            ts_event_ns      bigint           NOT NULL,
            ts_recv_ns       bigint           NOT NULL,
            sequence         bigint           NOT NULL,
            instrument_id    bigint           NOT NULL,
            price            double precision NOT NULL,
            size             double precision NOT NULL,
            price2           double precision NOT NULL,
            size2            double precision NOT NULL,
            origin_offset    bigint           NOT NULL,
            ticks_offset     bigint           NOT NULL,
            origin_partition integer          NOT NULL,
            origin_index     integer          NOT NULL,
            flags            integer          NOT NULL,
            kind             smallint         NOT NULL,
            side             smallint         NOT NULL
        )$sql$ || CASE WHEN timescale IS NULL THEN ' PARTITION BY RANGE (ts)' ELSE '' END;

    IF timescale IS NOT NULL THEN
        EXECUTE format(
            'SELECT %1$I.create_hypertable(''ticks'', %1$I.by_range(''ts'', INTERVAL ''1 day''), '
            'create_default_indexes => false)', timescale
        );
    END IF;
    CREATE INDEX ticks_instrument_ts ON ticks (instrument_id, ts);

    IF community THEN
        ALTER TABLE ticks SET (
            timescaledb.compress,
            timescaledb.compress_segmentby = 'instrument_id',
            timescaledb.compress_orderby = 'ts, ticks_offset, origin_index'
        );
        EXECUTE format('SELECT %I.add_compression_policy(''ticks'', compress_after => INTERVAL ''1 day'')', timescale);
        view := 'MATERIALIZED VIEW';
        options := 'WITH (timescaledb.continuous, timescaledb.materialized_only = false)';
        no_data := 'WITH NO DATA';
        bucket := format('%I.time_bucket(%%L, ts)', timescale);
        -- The order of arrival in one number: 25 bits hold any origin_index, a raw record has fewer bytes.
        first_tick := format('%I.first(price, ticks_offset << 25 | origin_index)', timescale);
        last_tick := format('%I.last(price, ticks_offset << 25 | origin_index)', timescale);
        first_bar := format('%I.first(open, ts)', timescale);
        last_bar := format('%I.last(close, ts)', timescale);
    END IF;

    EXECUTE concat_ws(
        ' ', 'CREATE', view, 'ticks_1m', options, 'AS SELECT', format(bucket, '1 minute'), 'AS ts, instrument_id,',
        first_tick, 'AS open, max(price) AS high, min(price) AS low,', last_tick, 'AS close, sum(size) AS volume,',
        'sum(price * size) AS notional, coalesce(sum(size) FILTER (WHERE side > 0), 0) AS buy_volume,',
        'count(*) AS trades FROM ticks WHERE kind = 1 GROUP BY 1, 2', no_data
    );
    EXECUTE concat_ws(
        ' ', 'CREATE', view, 'ticks_1h', options, 'AS SELECT', format(bucket, '1 hour'), 'AS ts, instrument_id,',
        first_bar, 'AS open, max(high) AS high, min(low) AS low,', last_bar, 'AS close, sum(volume) AS volume,',
        'sum(notional) AS notional, sum(buy_volume) AS buy_volume,',
        'sum(trades)::bigint AS trades FROM ticks_1m GROUP BY 1, 2', no_data
    );
END
$migration$;

-- For people and dashboards: names instead of ids, words instead of numbers.
CREATE VIEW trades AS
SELECT
    ts, name AS instrument, price, size, CASE side WHEN 1 THEN 'buy' WHEN -1 THEN 'sell' END AS aggressor, sequence,
    flags, ts_event_ns, ts_recv_ns, origin_partition, origin_offset, origin_index
FROM ticks JOIN instruments ON id = instrument_id WHERE kind = 1;

CREATE VIEW quotes AS
SELECT
    ts, name AS instrument, price AS bid, size AS bid_size, price2 AS ask, size2 AS ask_size, sequence,
    flags, ts_event_ns, ts_recv_ns, origin_partition, origin_offset, origin_index
FROM ticks JOIN instruments ON id = instrument_id WHERE kind = 2;

CREATE VIEW book_levels AS
SELECT
    ts, name AS instrument, CASE side WHEN 1 THEN 'bid' WHEN -1 THEN 'ask' END AS side, price, size, sequence,
    flags & 1 <> 0 AS of_snapshot, flags & 2 <> 0 AS last_of_event,
    flags, ts_event_ns, ts_recv_ns, origin_partition, origin_offset, origin_index
FROM ticks JOIN instruments ON id = instrument_id WHERE kind = 3;

CREATE VIEW gaps AS
SELECT
    ts, name AS instrument,
    CASE price
        WHEN 1 THEN 'sequence' WHEN 2 THEN 'disconnect' WHEN 3 THEN 'silence' WHEN 4 THEN 'checksum'
        WHEN 5 THEN 'garbage' WHEN 6 THEN 'overload' WHEN 7 THEN 'takeover' ELSE price::text
    END AS reason,
    CASE price2
        WHEN 0 THEN 'everything' WHEN 1 THEN 'trades' WHEN 2 THEN 'quotes' WHEN 3 THEN 'book' ELSE price2::text
    END AS missing,
    sequence AS first_missing, size AS missing_count, ts_event_ns, ts_recv_ns, origin_partition, origin_offset
FROM ticks JOIN instruments ON id = instrument_id WHERE kind = 4;

CREATE VIEW ohlcv_1m AS
SELECT ts, name AS instrument, open, high, low, close, volume, notional / nullif(volume, 0) AS vwap, buy_volume, trades
FROM ticks_1m JOIN instruments ON id = instrument_id;

CREATE VIEW ohlcv_1h AS
SELECT ts, name AS instrument, open, high, low, close, volume, notional / nullif(volume, 0) AS vwap, buy_volume, trades
FROM ticks_1h JOIN instruments ON id = instrument_id;

-- Bars of any width of one instrument, read from its ticks of that time alone: a plain view reads them all. The first
-- one is whole: it begins at `since` or before.
CREATE FUNCTION ohlcv(width interval, of_instrument text, since timestamptz, until timestamptz)
RETURNS TABLE (
    ts timestamptz, open double precision, high double precision, low double precision, close double precision,
    volume double precision, vwap double precision, buy_volume double precision, trades bigint
)
LANGUAGE sql STABLE AS $$
    SELECT
        date_bin(width, ticks.ts, '2000-01-03 00:00+00'),
        (array_agg(price ORDER BY ticks_offset, origin_index))[1], max(price), min(price),
        (array_agg(price ORDER BY ticks_offset DESC, origin_index DESC))[1],
        sum(size), sum(price * size) / nullif(sum(size), 0), coalesce(sum(size) FILTER (WHERE side > 0), 0), count(*)
    FROM ticks
    WHERE instrument_id = (SELECT id FROM instruments WHERE name = of_instrument) AND kind = 1
        AND ticks.ts >= date_bin(width, since, '2000-01-03 00:00+00') AND ticks.ts < until
    GROUP BY 1 ORDER BY 1
$$;
