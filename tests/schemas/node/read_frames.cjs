// Compiles frames.ksy to every language and says which; then answers each line (a frame in base64) with one line:
// what JavaScript read in it, as JSON.
// Called by test_kaitai.py; `node read_frames.cjs FRAMES_KSY`.
"use strict";
const { readFileSync } = require("node:fs");
const { createInterface } = require("node:readline");
const yaml = require("js-yaml");
const compiler = require("kaitai-struct-compiler");
const KaitaiStream = require("kaitai-struct/KaitaiStream");

// The runtime reads 64-bit integers as floats, which are exact up to 2^53 only; times in nanoseconds are larger.
class ExactStream extends KaitaiStream {
  readU8le() {
    const low = BigInt(this.readU4le());
    return (BigInt(this.readU4le()) << 32n) | low;
  }
  readS8le() {
    return BigInt.asIntN(64, this.readU8le());
  }
}

// Numbers become text: JSON has no NaN and no 64-bit integers.
function plain(value) {
  if (typeof value === "number" || typeof value === "bigint") return String(value);
  if (value instanceof Uint8Array) return Buffer.from(value).toString("base64");
  if (Array.isArray(value)) return value.map(plain);
  if (value === null || typeof value !== "object") return value;
  const fields = Object.keys(value).filter((name) => !name.startsWith("_"));
  const computed = Object.entries(Object.getOwnPropertyDescriptors(Object.getPrototypeOf(value)));
  const getters = computed.filter(([, descriptor]) => descriptor.get).map(([name]) => name);
  return Object.fromEntries([...fields, ...getters].map((name) => [name, plain(value[name])]));
}

async function main() {
  const ksy = yaml.load(readFileSync(process.argv[2], "utf8"));
  for (const language of compiler.languages) await compiler.compile(language, ksy, null, false);
  const files = await compiler.compile("javascript", ksy, null, false);
  const module_ = { exports: {} };
  new Function("exports", "require", "module", files["TapelineFrames.js"])(module_.exports, require, module_);
  const TapelineFrames = module_.exports.TapelineFrames ?? module_.exports;
  console.log(JSON.stringify({ kind: TapelineFrames.Kind, languages: compiler.languages }));
  for await (const line of createInterface({ input: process.stdin })) {
    try {
      const bytes = Buffer.from(line, "base64");
      const stream = new ExactStream(new Uint8Array(bytes).buffer);
      const { frame } = new TapelineFrames(stream);
      console.log(JSON.stringify({ frame: plain(frame), unread: stream.size - stream.pos }));
    } catch (error) {
      console.log(JSON.stringify({ error: `${error.name}: ${error.message}` }));
    }
  }
}

main();
