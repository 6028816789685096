-- Bars, where they are wanted: one row a bar, its highest revision.
--
-- `ts` is the begin of a time bar's interval, or the first trade of another bar; it is what partitions go by, and stays
-- the same whatever the revision. `stream` says what the bars were configured with: another configuration numbers them
-- anew. The key names a bar.
DO $migration$
DECLARE
    timescale name := (
        SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
        WHERE e.extname = 'timescaledb'
    );
BEGIN
    EXECUTE $sql$
        CREATE TABLE bars (
            ts            timestamptz      NOT NULL,
            ts_end        timestamptz      NOT NULL,
            start_ns      bigint           NOT NULL,
            end_ns        bigint           NOT NULL,
            number        bigint           NOT NULL,
            instrument_id bigint           NOT NULL,
            stream        bigint           NOT NULL,
            size          double precision NOT NULL,
            open          double precision NOT NULL,
            high          double precision NOT NULL,
            low           double precision NOT NULL,
            close         double precision NOT NULL,
            volume        double precision NOT NULL,
            notional      double precision NOT NULL,
            buy_volume    double precision NOT NULL,
            trades        bigint           NOT NULL,
            revision      integer          NOT NULL,
            kind          smallint         NOT NULL,
            flags         smallint         NOT NULL,
            PRIMARY KEY (instrument_id, kind, size, stream, ts, number)
        )$sql$ || CASE WHEN timescale IS NULL THEN ' PARTITION BY RANGE (ts)' ELSE '' END;

    IF timescale IS NOT NULL THEN
        EXECUTE format(
            'SELECT %1$I.create_hypertable(''bars'', %1$I.by_range(''ts'', INTERVAL ''30 days''), '
            'create_default_indexes => false)', timescale
        );
    END IF;
    IF timescale IS NOT NULL AND current_setting('timescaledb.license', true) = 'timescale' THEN
        ALTER TABLE bars SET (
            timescaledb.compress,
            timescaledb.compress_segmentby = 'instrument_id, kind, size, stream',
            timescaledb.compress_orderby = 'ts, number'
        );
        EXECUTE format('SELECT %I.add_compression_policy(''bars'', compress_after => INTERVAL ''30 days'')', timescale);
    END IF;
END
$migration$;

-- The stream whose bars came last.
CREATE TABLE bar_streams (
    instrument_id bigint           NOT NULL,
    kind          smallint         NOT NULL,
    size          double precision NOT NULL,
    stream        bigint           NOT NULL,
    PRIMARY KEY (instrument_id, kind, size)
);

-- For people and dashboards: names instead of ids, words instead of numbers, of the stream that came last. width: of
-- time bars only. What is asked of kind and width is asked of bar_streams, and so the key of bars finds the rest.
CREATE VIEW candles AS
SELECT
    ts, ts_end, name AS instrument,
    CASE s.kind WHEN 1 THEN 'time' WHEN 2 THEN 'tick' WHEN 3 THEN 'volume' WHEN 4 THEN 'dollar' ELSE s.kind::text END
        AS kind,
    CASE s.kind WHEN 1 THEN s.size / 1e9 * INTERVAL '1 second' END AS width,
    s.size, number, open, high, low, close, volume, notional / nullif(volume, 0) AS vwap, notional, buy_volume, trades,
    revision, flags & 1 <> 0 AS late, flags & 2 <> 0 AS partial, start_ns, end_ns
FROM bar_streams s
JOIN bars b ON b.instrument_id = s.instrument_id AND b.kind = s.kind AND b.size = s.size AND b.stream = s.stream
JOIN instruments i ON i.id = s.instrument_id;
