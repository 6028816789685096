import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.ThreadMetadata;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;

/**
 * The peer: an EMA cross per symbol on Kafka Streams, one Binance trade a record in, one JSON signal a record out.
 *
 * Run as `java EmaCross BROKER INPUT OUTPUT THREADS PARTITIONS FAST SLOW LINGER_MS STATE_FOLDER`. Written as somebody who wants
 * speed would: bytes in and out without a serde's objects, the fields picked from the bytes in the order in which
 * Binance sends them, averages in a plain map beside the task (no store, so no changelog and no cache), large fetches
 * and batches. Says "ready" once every thread has its share of the partitions; until then processing is paused.
 */
public final class EmaCross implements Processor<byte[], byte[], byte[], byte[]> {
    private static final byte[] SYMBOL = bytes("\"s\":\"");
    private static final byte[] PRICE = bytes("\"p\":\"");
    private static final byte[] RECEIVED = bytes("\"recv_ns\":");
    private static final double[] POWERS_OF_TEN = new double[23];

    static {
        POWERS_OF_TEN[0] = 1;
        for (int i = 1; i < POWERS_OF_TEN.length; i++) {
            POWERS_OF_TEN[i] = POWERS_OF_TEN[i - 1] * 10; // exact up to 10^22
        }
    }

    private static final class Averages {
        double fast;
        double slow;
        long seen;
        int side;
    }

    private final int fastPeriod;
    private final int slowPeriod;
    private final Map<String, Averages> bySymbol = new HashMap<>();
    private ProcessorContext<byte[], byte[]> context;

    private EmaCross(int fastPeriod, int slowPeriod) {
        this.fastPeriod = fastPeriod;
        this.slowPeriod = slowPeriod;
    }

    @Override
    public void init(ProcessorContext<byte[], byte[]> context) {
        this.context = context;
    }

    @Override
    public void process(Record<byte[], byte[]> record) {
        byte[] json = record.value();
        int start = after(SYMBOL, json, 0);
        int end = quote(json, start);
        String symbol = new String(json, start, end - start, StandardCharsets.ISO_8859_1);
        start = after(PRICE, json, end);
        end = quote(json, start);
        double price = decimal(json, start, end);

        Averages averages = bySymbol.get(symbol);
        if (averages == null) {
            averages = new Averages();
            averages.fast = averages.slow = price;
            bySymbol.put(symbol, averages);
        }
        averages.seen++;
        averages.fast += (price - averages.fast) * 2 / (fastPeriod + 1);
        averages.slow += (price - averages.slow) * 2 / (slowPeriod + 1);
        int side = averages.fast > averages.slow ? 1 : -1;
        if (side == averages.side || averages.seen < slowPeriod) {
            return;
        }
        averages.side = side;
        double strength = Math.abs(averages.fast - averages.slow) / price;
        int received = after(RECEIVED, json, end);
        String signal = "{\"symbol\":\"" + symbol + "\",\"side\":\"" + (side > 0 ? "buy" : "sell") + "\",\"strength\":" + strength
            + ",\"ts_recv_ns\":" + (received < 0 ? 0 : whole(json, received)) + "}";
        context.forward(record.withValue(signal.getBytes(StandardCharsets.ISO_8859_1)));
    }

    /** Returns where the first `what` from `from` on ends, or -1. */
    private static int after(byte[] what, byte[] in, int from) {
        byte first = what[0];
        byte second = what[1];
        int last = in.length - what.length;
        for (int i = from; i <= last; i++) {
            if (in[i] == first && in[i + 1] == second && matches(what, in, i)) {
                return i + what.length;
            }
        }
        return -1;
    }

    private static boolean matches(byte[] what, byte[] in, int at) {
        for (int i = 2; i < what.length; i++) {
            if (in[at + i] != what[i]) {
                return false;
            }
        }
        return true;
    }

    private static int quote(byte[] in, int from) {
        int at = from;
        while (in[at] != '"') {
            at++;
        }
        return at;
    }

    /** Returns the nearest double: exact where digits and power of ten both are, which prices are. */
    private static double decimal(byte[] in, int start, int end) {
        long digits = 0;
        int scale = 0;
        boolean fraction = false;
        for (int i = start; i < end; i++) {
            byte one = in[i];
            if (one == '.') {
                fraction = true;
            } else if (one < '0' || one > '9' || digits > 900_719_925_474_098L) {
                return Double.parseDouble(new String(in, start, end - start, StandardCharsets.ISO_8859_1));
            } else {
                digits = digits * 10 + (one - '0');
                scale += fraction ? 1 : 0;
            }
        }
        return digits / POWERS_OF_TEN[scale];
    }

    private static long whole(byte[] in, int start) {
        long digits = 0;
        for (int i = start; in[i] >= '0' && in[i] <= '9'; i++) {
            digits = digits * 10 + (in[i] - '0');
        }
        return digits;
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.ISO_8859_1);
    }

    private static Properties properties(String broker, String name, int threads, String lingerMs, String state) {
        Properties set = new Properties();
        set.put(StreamsConfig.APPLICATION_ID_CONFIG, name);
        set.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, broker);
        set.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, threads);
        set.put(StreamsConfig.STATE_DIR_CONFIG, state);
        set.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 0);
        set.put(StreamsConfig.BUFFERED_RECORDS_PER_PARTITION_CONFIG, 20_000);
        set.put(StreamsConfig.METRICS_RECORDING_LEVEL_CONFIG, "INFO");
        set.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
        set.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 10_000);
        set.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG), 4 << 20);
        set.put(StreamsConfig.consumerPrefix(ConsumerConfig.RECEIVE_BUFFER_CONFIG), 1 << 20);
        set.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), lingerMs);
        set.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 256 << 10);
        set.put(StreamsConfig.producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG), "lz4");
        return set;
    }

    private static boolean shared(KafkaStreams streams, int threads, int partitions) {
        int tasks = 0;
        int busy = 0;
        for (ThreadMetadata thread : streams.metadataForLocalThreads()) {
            tasks += thread.activeTasks().size();
            busy += thread.activeTasks().size() * threads == partitions ? 1 : 0;
        }
        return streams.state() == KafkaStreams.State.RUNNING && tasks == partitions && busy == threads;
    }

    public static void main(String[] args) throws InterruptedException {
        String broker = args[0];
        String input = args[1];
        String output = args[2];
        int threads = Integer.parseInt(args[3]);
        int partitions = Integer.parseInt(args[4]);
        int fast = Integer.parseInt(args[5]);
        int slow = Integer.parseInt(args[6]);
        Topology topology = new Topology();
        topology.addSource("trades", new ByteArrayDeserializer(), new ByteArrayDeserializer(), input);
        topology.addProcessor("cross", () -> new EmaCross(fast, slow), "trades");
        topology.addSink("signals", output, new ByteArraySerializer(), new ByteArraySerializer(), "cross");

        KafkaStreams streams = new KafkaStreams(topology, properties(broker, output, threads, args[7], args[8]));
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(10))));
        streams.pause();
        streams.start();
        while (!shared(streams, threads, partitions)) {
            Thread.sleep(20);
        }
        streams.resume();
        System.out.println("ready");
    }
}
