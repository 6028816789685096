"""Read the sources of the settings and say precisely what is wrong with them: file, line, key, what would be right.

Called by `settings.load_settings`, which owns the models; everything here follows from their JSON Schema.
"""

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError

from tapeline.schemas.errors import SettingsError
from tapeline.streams.settings_toml import Keys, locate

ENV_PREFIX = "TAPELINE_"
ENV_RESERVED = ("TAPELINE_HOME", "TAPELINE_CONFIG")
Json = dict[str, Any]


class Sources:
    """What the file and the environment say, and where each of them says it."""

    def __init__(self, file: Path | None, env: Mapping[str, str], schema: Json) -> None:
        """Read `file` (None: there is none) and the TAPELINE_SECTION__KEY variables of `env`.

        Raise SettingsError for a file that is not TOML; variables that cannot be placed are in `faults`.
        """
        self.file = file
        self.schema = schema
        self.env = env
        self.data: Json = {}
        self.lines: dict[Keys, int] = {}
        self.variables: dict[Keys, str] = {}
        if file is not None:
            self.data, self.lines = _read_toml(file)
        self.faults = [fault for name in sorted(env) if (fault := self._take(name, env[name]))]

    def place(self, keys: Keys) -> str:
        """Say where `keys` are set, or failing that the nearest table around them."""
        for end in range(len(keys), 0, -1):
            if variable := self.variables.get(keys[:end]):
                return f"environment variable {variable}"
            if line := self.lines.get(keys[:end]):
                return f"{self.file}:{line}"
        return str(self.file) if self.file else "settings"

    def fault(self, keys: Keys, message: str) -> str:
        """Return one line: place, key, message."""
        return f"{self.place(keys)}: {_dotted(keys)}: {message}"

    def explain(self, error: ValidationError) -> list[str]:
        """Turn pydantic's findings into one line each, in the order of the file."""
        faults: dict[Keys, str] = {}
        for finding in error.errors(include_url=False):
            keys, found = self._inside(finding["loc"])
            match finding["type"]:
                case "extra_forbidden":
                    message = self._unknown(keys)
                case "settings":  # raised by a validator of ours, which may name a key of its table
                    message = finding["msg"]
                    keys += tuple(finding.get("ctx", {}).get("keys", ()))
                case _:
                    node = _schema_at(self.schema, keys)
                    message = f"must be {_wanted(node)}, not {_shown(found, node)}"
            faults.setdefault(keys, self.fault(keys, message))  # a union has one finding a member
        return [faults[keys] for keys in sorted(faults, key=lambda keys: self.lines.get(keys, 0))]

    def _take(self, name: str, text: str) -> str | None:
        """Put one environment variable into the data; return what is wrong with it."""
        if not name.startswith(ENV_PREFIX) or name in ENV_RESERVED:
            return None
        if "__" not in name:
            # Kubernetes injects TAPELINE_KAFKA_PORT and the like for a service of that name, so only
            # what would be a key of ours with two underscores is taken for a slip.
            for section, table in self.schema["properties"].items():
                for key in _resolve(self.schema, table).get("properties", {}):
                    if name == f"{ENV_PREFIX}{section}_{key}".upper():
                        right = f"{ENV_PREFIX}{section}__{key}".upper()
                        return f"environment variable {name}: nothing reads it; did you mean {right} (two underscores)?"
            return None
        keys: tuple[str, ...] = tuple(name.removeprefix(ENV_PREFIX).lower().split("__"))
        table = self.data
        for end, key in enumerate(keys[:-1], 1):
            inner = table.get(key)
            if not isinstance(inner, dict):
                if variable := self.variables.get(keys[:end]):
                    return f"environment variable {name}: {variable} is set too; unset one of the two"
                inner = table[key] = {}
                self.variables.setdefault(keys[:end], name)
            table = inner
        table[keys[-1]] = _from_env(text, _schema_at(self.schema, keys), is_path=keys[-1] == "file")
        self.variables[keys] = name
        return None

    def _inside(self, loc: tuple[str | int, ...]) -> tuple[Keys, Any]:
        """Cut pydantic's `loc` (which also names union members) to the part that is in the data; return its value."""
        value: Any = self.data
        for depth, key in enumerate(loc):
            try:
                value = value[key]
            except (TypeError, KeyError, IndexError):  # not in the data: a union member, a default, "[key]"
                return loc[:depth], value
        return loc, value

    def _unknown(self, keys: Keys) -> str:
        """Say what an unknown key could have been meant for."""
        *parents, key = keys
        known = list(_schema_at(self.schema, tuple(parents)).get("properties", {}))
        if close := get_close_matches(str(key), known, n=1):
            return f"unknown key; did you mean {close[0]}?"
        for section, table in self.schema["properties"].items():
            if key in _resolve(self.schema, table).get("properties", {}):
                return f"unknown key here; it belongs into [{section}]"
        return f"unknown key; known are {', '.join(known)}"


def _read_toml(file: Path) -> tuple[Json, dict[Keys, int]]:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise SettingsError(f"{file}: cannot be read ({error.strerror}); give the path of a TOML file") from error
    try:
        text = content.decode()
        return tomllib.loads(text), locate(text)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SettingsError(f"{file}:{line}: not UTF-8; save the file as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        at = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", message)
        line = int(at[1]) if at and at[1] else content.count(b"\n") + 1
        reason = message[: at.start()] if at else message
        raise SettingsError(f"{file}:{line}: not valid TOML: {reason}") from error
    except RecursionError as error:
        raise SettingsError(f"{file}: tables or lists are nested too deeply") from error


def _from_env(text: str, schema: Json, *, is_path: bool) -> Any:
    """Give an environment variable's text the type that its key wants; what does not fit is left for validation."""
    if schema.get("format") == "password":
        return SecretStr(text)  # the environment is a place for secrets, so here the value may be given directly
    if is_path or schema.get("format") == "path":
        return os.path.abspath(text)  # relative to where the command runs, not to the file
    if schema.get("type") == "string":
        return text
    if schema.get("type") == "array" and not text.lstrip().startswith("["):
        return [item.strip() for item in text.split(",")]
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _resolve(schema: Json, node: Json) -> Json:
    """Follow `$ref` and pick the non-null side of an optional."""
    if "$ref" in node:
        node = schema["$defs"][node["$ref"].rpartition("/")[2]] | {k: v for k, v in node.items() if k != "$ref"}
    sides = [side for side in node.get("anyOf", ()) if side.get("type") != "null"]
    return _resolve(schema, sides[0]) if len(sides) == 1 else node


def _schema_at(schema: Json, keys: Keys) -> Json:
    """Return the JSON Schema of the value at `keys`, empty if there can be none."""
    node = schema
    for key in keys:
        if isinstance(key, int):
            node = node.get("items", {})
        else:
            inner = node.get("properties", {}).get(key, node.get("additionalProperties"))
            node = inner if isinstance(inner, dict) else {}
        node = _resolve(schema, node)
    return node


def _wanted(node: Json) -> str:
    """Say in words what a JSON Schema node allows."""
    if "enum" in node:
        return "one of " + ", ".join(map(str, node["enum"]))
    match node.get("type"):
        case "integer" | "number":
            noun = "a whole number" if node["type"] == "integer" else "a number"
            if "exclusiveMinimum" in node:
                return f"{noun} above {node['exclusiveMinimum']:g} and up to {node['maximum']:g}"
            if "minimum" in node:
                return f"{noun} from {node['minimum']:g} to {node['maximum']:g}"
            return noun
        case "string":
            return "a text that is not empty" if node.get("minLength") else "a text in quotes"
        case "boolean":
            return "true or false"
        case "array":
            return "a list that is not empty" if node.get("minItems") else "a list"
        case "object":
            return "a table"
    sides = [_wanted(side) for side in node.get("anyOf", ())]
    if "a number" in sides:
        sides.remove("a whole number")
    return " or ".join(sides) or "left out"


def _shown(value: Any, wanted: Json) -> str:
    """Show a value that was refused; of what stands in place of a table or list (a secret, perhaps) only the kind."""
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return str(value)
        case str() if wanted.get("type") in ("object", "array"):
            return "a text"
        case str():
            return repr(value if len(value) <= 40 else value[:37] + "...") if value else "an empty text"
        case dict():
            return "a table"
        case list():
            return "a list" if value else "an empty list"
    return f"a {type(value).__name__}"


def _dotted(keys: Iterable[str | int]) -> str:
    text = ""
    for key in keys:
        if isinstance(key, int):
            text += f"[{key}]"
        else:
            text += ("." if text else "") + (key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else repr(key))
    return text
