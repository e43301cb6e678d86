"""TOML into dataclasses: each type, and what is wrong by file, line and key."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any, Literal

import pytest

from opensslcmp.server.tables import SettingsError, WrongValue, _lines_of, load_tables, near, refuse


class Colour(Enum):
    RED = "red"
    DARK_BLUE = "dark-blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Upper:
    text: str
    place: Path

    @classmethod
    def from_toml(cls, value: Any, directory: Path) -> Upper:
        if value == "FILE":
            (directory / "missing").read_bytes()
        if not isinstance(value, str) or not value.isupper():
            raise ValueError("is not in capitals")
        return cls(text=value, place=directory)


@dataclass(frozen=True, kw_only=True, slots=True)
class Named:
    name: str = "none"
    size: int = 1

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError("size is negative")


@dataclass(frozen=True, kw_only=True, slots=True)
class Inner:
    number: int
    ratio: float = 0.5

    def __post_init__(self) -> None:
        if self.number == 13:
            raise ValueError("this is not a number that brings luck")


@dataclass(frozen=True, kw_only=True, slots=True)
class Outer:
    text: str = ""
    flag: bool = False
    path: Path | None = None
    colour: Colour = Colour.RED
    level: Level = Level.LOW
    letter: Literal["a", "b"] = "a"
    sizes: tuple[int, ...] = ()
    words: frozenset[str] = frozenset()
    inner: Inner | None = None
    named: Mapping[str, Named] = field(default_factory=dict)
    capitals: tuple[Upper, ...] = ()

    def __post_init__(self) -> None:
        refuse(WrongValue("is too big", "named", name, "size") for name, each in self.named.items() if each.size > 9)


def load(tmp_path: Path, text: str) -> Outer:
    place = tmp_path / "settings.toml"
    place.write_text(text)
    return load_tables(place, Outer)


def problems(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, text)
    assert str(caught.value) == "\n".join(map(str, caught.value.problems))
    return [str(each).removeprefix(f"{tmp_path / 'settings.toml'}:") for each in caught.value.problems]


def test_every_type_is_read(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        """
        text = "x"
        flag = true
        path = "a/b"
        colour = "dark-blue"
        level = "high"
        letter = "b"
        sizes = [1, 2]
        words = ["u", "v"]
        inner = { number = 3, ratio = 1 }
        capitals = ["A"]
        [named.one]
        [named."t w o"]
        size = 2
        """,
    )
    assert (found.text, found.flag, found.path, found.letter) == ("x", True, tmp_path / "a/b", "b")
    colour: Any = found.colour
    assert (colour, found.level, found.sizes, found.words) == (Colour.DARK_BLUE, Level.HIGH, (1, 2), frozenset("uv"))
    assert found.inner == Inner(number=3, ratio=1.0)
    assert isinstance(found.inner.ratio, float)
    assert found.named == {"one": Named(name="one"), "t w o": Named(name="t w o", size=2)}
    assert found.capitals == (Upper(text="A", place=tmp_path),)
    with pytest.raises(TypeError):
        found.named["x"] = Named()  # type: ignore[index]


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    assert load(tmp_path, "") == Outer()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("text = 1", "1: text is not a string"),
        ("flag = 1", "1: flag is not true or false"),
        ("sizes = [1, true]", "1: sizes is not a whole number"),
        ("sizes = 1", "1: sizes is not an array"),
        ('words = ["a", "a"]', "1: words has something twice"),
        ('path = ""', "1: path is not a path"),
        ('colour = "green"', "1: colour is not one of red, dark-blue: green"),
        ("level = 1", "1: level is not one of low, high"),
        ('letter = "c"', "1: letter is not one of a, b: c"),
        ("inner = 3", "1: inner is not a table"),
        ("[inner]\nratio = 1", "1: [inner] number is missing"),
        ("[inner]\nnumber = 1\nratio = nan", "3: [inner] ratio is not a number"),
        ("[inner]\nnumber = 1\nratio = true", "3: [inner] ratio is not a number"),
        ("\n[inner]\nnumber = 13", "2: [inner] this is not a number that brings luck"),
        ("[named]\nx = 1", "1: named is not a table of tables, such as [named.NAME]"),
        ("[named.x]\nsize = -1", "2: [named.x] size is negative"),
        ("[named.x]\n\nsize = 10", "3: [named.x] size is too big"),
        ('[named.x]\nname = "y"', "2: [named.x] name is not known (there are size)"),
        ("colur = 1", "1: colur is not known; did you mean colour?"),
        ('capitals = ["a"]', "1: capitals is not in capitals"),
        ("\n\ntext = ", "3: Invalid value"),
        ('text = "x', "1: Unterminated string"),
    ],
)
def test_what_is_wrong_is_told_with_line_and_key(tmp_path: Path, text: str, words: str) -> None:
    assert problems(tmp_path, text) == [words]


def test_all_that_is_wrong_is_told_at_once_in_the_order_of_lines(tmp_path: Path) -> None:
    text = """
[named.a]
siz = 1
[named.b]
size = "x"
[inner]
number = 1.5
"""
    assert problems(tmp_path, text) == [
        "3: [named.a] siz is not known; did you mean size?",
        "5: [named.b] size is not a whole number",
        "7: [inner] number is not a whole number",
    ]
    assert problems(tmp_path, "[named.a]\nsize = 10\n[named.b]\nsize = 11") == [
        "2: [named.a] size is too big",
        "4: [named.b] size is too big",
    ]


def test_a_file_that_a_value_names_is_told_when_it_cannot_be_read(tmp_path: Path) -> None:
    (told,) = problems(tmp_path, 'capitals = ["FILE"]')
    assert told == f"1: capitals cannot be read: {tmp_path / 'missing'}: No such file or directory"


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    place = tmp_path / "settings.toml"
    place.write_bytes(b"text = '\xff'")
    with pytest.raises(SettingsError, match=r"settings\.toml: is not UTF-8"):
        load_tables(place, Outer)


LAYOUT = '''# comment = 1
a = 1 # b = 2
b.c = """x = 1
\\"""y"""""
[t] # [u]
"q.r" = { x = 1, "y" = {z = [1, [
2]]} }
d = 1979-05-27T07:32:00Z
e = 1.5
f = ["a#b", 'c\\', # ]
 "]"]
g = \'\'\'
[no]
'\'\'\'\'
h = ""
\t[u . "v w"]\r
z = true
'''


def test_lines_of_keys_are_found_in_every_kind_of_toml() -> None:
    tomllib.loads(LAYOUT)
    lines = {".".join(key): line for key, line in _lines_of(LAYOUT).items()}
    assert lines == {
        "a": 2,
        "b": 3,
        "b.c": 3,
        "t": 5,
        "t.q.r": 6,
        "t.q.r.x": 6,
        "t.q.r.y": 6,
        "t.q.r.y.z": 6,
        "t.d": 8,
        "t.e": 9,
        "t.f": 10,
        "t.g": 12,
        "t.h": 15,
        "u": 16,
        "u.v w": 16,
        "u.v w.z": 17,
    }


def test_a_word_that_is_far_from_all_is_answered_by_a_short_list_or_nothing() -> None:
    assert near("x", ["abc", "def"]) == " (there are abc, def)"
    assert near("x", [f"word{number}" for number in range(20)]) == ""
    assert near("wrd1", ["word1", "other"]) == "; did you mean word1?"
