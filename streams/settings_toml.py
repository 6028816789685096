"""Say on which line of a TOML text every key and every list item stands; tomllib keeps no positions.

Called by `settings_check`, so that an error in `tapeline.toml` names its line. The text has passed tomllib before it
comes here, so this scanner trusts the grammar and only follows it.
"""

import re
import tomllib
from itertools import count

Keys = tuple[str | int, ...]
"""The way to a value: names of tables and keys, and indices (from 0) into lists and arrays of tables."""

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
# A closing triple quote may be preceded by one or two quotes of the text itself, hence the {0,2}.
_STRING = re.compile(
    r'"""(?:\\[\s\S]|[^\\])*?"""(?:"{0,2})'
    r"|'''[\s\S]*?'''(?:'{0,2})"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'"
)
_SCALAR = re.compile(r"[^,\]}#\n]*")


def locate(text: str) -> dict[Keys, int]:
    """Map the way to each key, table and list item of a valid TOML text to its line, counted from 1.

    A table that is named in several places (dotted keys, sub-tables) stands where it is first named.
    """
    return _Scanner(text).scan()


class _Scanner:
    """One pass over the text; `at` is the next character to read."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[Keys, int] = {}
        self.last_index: dict[Keys, int] = {}  # of each array of tables, as `[[name]]` headers come by

    def scan(self) -> dict[Keys, int]:
        table: Keys = ()
        self._skip(_BLANK)
        while self.at < len(self.text):
            if self.text.startswith("[[", self.at):
                table = self._header(brackets=2)
            elif self.text[self.at] == "[":
                table = self._header(brackets=1)
            else:
                self._pair(table)
            self._skip(_BLANK)
        return self.lines

    def _header(self, brackets: int) -> Keys:
        line = self._line()
        self.at += brackets
        *parents, name = self._key()
        self.at += brackets
        table: Keys = ()
        for parent in parents:
            table = self._note((*table, parent), line)
            if table in self.last_index:  # `[a.b]` below `[[a]]` belongs to the last a
                table = (*table, self.last_index[table])
        table = self._note((*table, name), line)
        if brackets == 2:
            self.last_index[table] = self.last_index.get(table, -1) + 1
            table = self._note((*table, self.last_index[table]), line)
        return table

    def _pair(self, table: Keys) -> None:
        """Read `key = value`; a dotted key names the tables on its way."""
        line = self._line()
        for name in self._key():
            table = self._note((*table, name), line)
        self.at += 1  # the equals sign
        self._skip(_SPACE)
        self._value(table)

    def _key(self) -> list[str]:
        """Read a key with its dots and leave `at` on the character after it."""
        names = []
        while True:
            self._skip(_SPACE)
            if self.text[self.at] in "\"'":
                names.append(str(tomllib.loads(f"name = {self._skip(_STRING)}")["name"]))
            else:
                names.append(self._skip(_BARE_KEY))
            self._skip(_SPACE)
            if self.text[self.at] != ".":
                return names
            self.at += 1

    def _value(self, keys: Keys) -> None:
        match self.text[self.at]:
            case "[":
                self._items("]", keys)
            case "{":
                self._items("}", keys)
            case '"' | "'":
                self._skip(_STRING)
            case _:
                self._skip(_SCALAR)

    def _items(self, closing: str, keys: Keys) -> None:
        """Read a list or an inline table up to its closing bracket."""
        self.at += 1
        for index in count():
            self._skip(_BLANK)
            if self.text[self.at] == closing:
                break
            if closing == "}":
                self._pair(keys)
            else:
                self._value(self._note((*keys, index), self._line()))
            self._skip(_BLANK)
            if self.text[self.at] == ",":
                self.at += 1
        self.at += 1

    def _note(self, keys: Keys, line: int) -> Keys:
        self.lines.setdefault(keys, line)
        return keys

    def _skip(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        assert found, f"valid TOML expected at offset {self.at}"  # noqa: S101 - tomllib has accepted the text
        self.at = found.end()
        return found.group()

    def _line(self) -> int:
        return self.text.count("\n", 0, self.at) + 1
