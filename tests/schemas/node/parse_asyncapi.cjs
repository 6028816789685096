// Prints what the AsyncAPI project's own parser has to say about the document on stdin: its diagnostics, as JSON.
// Called by test_asyncapi.py.
"use strict";
const { readFileSync } = require("node:fs");
const { Parser } = require("@asyncapi/parser");

async function main() {
  const { document, diagnostics } = await new Parser().parse(readFileSync(0, "utf8"));
  const channels = document ? document.channels().all().map((channel) => channel.address()) : null;
  console.log(JSON.stringify({ channels, diagnostics }));
}

main();
