// Answers each line {"schema": NAME, "event": ...} with the faults that the JSON Schema in the given folder finds.
// Called by test_asyncapi.py; `node validate_events.cjs FOLDER`.
"use strict";
const { readFileSync, readdirSync } = require("node:fs");
const { join } = require("node:path");
const Ajv = require("ajv/dist/2020");

const ajv = new Ajv({ strict: true, allErrors: true });
const validators = {};
for (const file of readdirSync(process.argv[2]).filter((name) => name.endsWith(".schema.json"))) {
  validators[file.replace(".schema.json", "")] = ajv.compile(JSON.parse(readFileSync(join(process.argv[2], file))));
}
for (const line of readFileSync(0, "utf8").trim().split("\n")) {
  const { schema, event } = JSON.parse(line);
  const validate = validators[schema];
  validate(event);
  console.log(JSON.stringify((validate.errors ?? []).map((error) => `${error.instancePath} ${error.message}`)));
}
