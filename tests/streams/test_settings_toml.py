"""The line locator: every unique number in a generated document is found on the line where it was written."""

import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline.streams.settings_toml import Keys, locate

TABLES = """\
# [not.a.table]
top = 1
"quoted.key" = 2
'lite[ral]' = 3
dotted . "a b" .c = 4

[table]  # [comment]
text = \"\"\"
[fake]
key = 99
escaped \\\""" quote \"\"\"\"\"
raw = '''
[[fake]]
'''
list = [
  5, # , ]
  "] , }",

  [6, {x = 7, y.z = [8]}],
]
date = 1979-05-27 07:32:00
after = 9

[[many]]
n = 10
[many.sub]
n = 11
[[many.deep]]
n = 12
[[many]]
n = 13
[[many.deep]]
n = 14
[[many.deep]]
n = 15
"""

LINES: dict[Keys, int] = {
    ("top",): 2,
    ("quoted.key",): 3,
    ("lite[ral]",): 4,
    ("dotted",): 5,
    ("dotted", "a b", "c"): 5,
    ("table",): 7,
    ("table", "text"): 8,
    ("table", "list", 0): 16,
    ("table", "list", 1): 17,
    ("table", "list", 2, 1, "x"): 19,
    ("table", "list", 2, 1, "y", "z", 0): 19,
    ("table", "date"): 21,
    ("table", "after"): 22,
    ("many",): 24,
    ("many", 0): 24,
    ("many", 0, "sub"): 26,
    ("many", 0, "deep", 0, "n"): 29,
    ("many", 1): 30,
    ("many", 1, "deep", 0): 32,
    ("many", 1, "deep", 1, "n"): 35,
}


@pytest.mark.parametrize(("keys", "line"), LINES.items(), ids=str)
def test_every_form_of_key_is_found_on_its_line(keys: Keys, line: int) -> None:
    assert locate(TABLES)[keys] == line


def test_windows_line_ends_count_once() -> None:
    lines = locate('a = """x\r\ny"""\r\n[t]\r\nb = 1\r\n')
    assert lines == {("a",): 1, ("t",): 3, ("t", "b"): 4}


def test_nothing_is_found_in_an_empty_text() -> None:
    assert locate("") == {}
    assert locate("# only a comment") == {}


# Documents are drawn as text, with fresh numbers as values and strings that look like TOML as decoys. tomllib
# says where a number belongs, the text itself on which line it is: the scanner has to agree with both.
names = st.one_of(
    st.from_regex(r"[A-Za-z0-9_-]{1,6}", fullmatch=True),
    st.text(st.sampled_from("ab.#[]= \\\"'\t\u00e9"), max_size=5).map(
        lambda name: '"' + name.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t") + '"'
    ),
    st.text(st.sampled_from('ab.#[]= "'), max_size=5).map(lambda name: f"'{name}'"),
)
decoys = st.sampled_from(
    [
        '"""\n[a]\nb = 1\n"""',
        "'''\n[[a]]\n'''",
        '"# ] } ="',
        "'\"'",
        '"\\""',
        '""""quoted" \\\\"""',
        '"""\\"""\n"""',
        "''",
    ]
)
gaps = st.sampled_from(["", " ", "  # a = [1\n\n", "\n"])
NUMBER = "@"  # replaced by numbers that occur once
values = st.recursive(
    st.one_of(st.just(NUMBER), decoys),
    lambda inner: st.one_of(
        st.lists(st.tuples(gaps, inner, gaps), max_size=3).map(
            lambda items: "[" + ",".join(before + value + after for before, value, after in items) + "]"
        ),
        st.lists(st.tuples(names, inner), max_size=3).map(
            lambda pairs: "{" + ", ".join(f"{name} = {value}" for name, value in pairs) + "}"
        ),
    ),
    max_leaves=6,
)
keys = st.lists(names, min_size=1, max_size=3).map(" . ".join)
statements = st.one_of(
    st.tuples(keys, values).map(lambda pair: f"{pair[0]} = {pair[1]}"),
    keys.map(lambda key: f"[{key}]"),
    keys.map(lambda key: f"[[ {key} ]]"),
    st.sampled_from(["# x = 1", "", "\t"]),
)


def numbers_of(value: Any, way: Keys = ()) -> Iterator[tuple[Keys, int]]:
    match value:
        case dict():
            for name, inner in value.items():
                yield from numbers_of(inner, (*way, name))
        case list():
            for index, inner in enumerate(value):
                yield from numbers_of(inner, (*way, index))
        case int():
            yield way, value


@pytest.mark.slow
@given(st.lists(statements, max_size=12))
def test_every_number_is_found_on_the_line_where_it_stands(drawn: list[str]) -> None:
    text = ""
    unique = 1_000_000
    for statement in drawn:
        parts = statement.split(NUMBER)
        numbered = parts[0]
        for part in parts[1:]:
            unique += 1
            numbered += str(unique) + part
        try:  # a statement that would make the document invalid (a key twice, say) is left out
            tomllib.loads(text + numbered + "\n")
        except tomllib.TOMLDecodeError:
            continue
        text += numbered + "\n"
    lines = locate(text)
    for way, number in numbers_of(tomllib.loads(text)):
        assert lines[way] == text[: text.index(str(number))].count("\n") + 1
