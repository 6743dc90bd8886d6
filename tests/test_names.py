"""Names of columns as a user writes them: what each spelling means, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distbp.data.names import Index, Name, parse, quoted
from distbp.errors import DataError

ALL = slice(None)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a", ["a"]),
        (" a , b ,", ["a", "b"]),
        ('"mass, dry",b', ["mass, dry", "b"]),
        ("'it is \"so\"',b", ['it is "so"', "b"]),
        ("state_t[:, samples],y", ["state_t[:, samples]", "y"]),
        ("temp [K],b", ["temp [K]", "b"]),
        ("it's,b", ["it's", "b"]),
        ("a [m,s", ["a [m", "s"]),
        ("é\tü", ["é\tü"]),
        ('""', [""]),
    ],
)
def test_names_with_commas_between(text: str, names: list[str]) -> None:
    assert [str(name) for name in parse(text, "--x")] == names


@pytest.mark.parametrize("text", ["", " ,", ",,"])
def test_no_name_at_all(text: str) -> None:
    with pytest.raises(DataError, match=r"--drop .*expected the name of a data set or a column"):
        parse(text, "--drop")


def test_a_quote_that_does_not_end() -> None:
    with pytest.raises(DataError, match="a name in quotes has no end; expected another '"):
        parse("a,'b,c", "--y")


@given(st.lists(st.text(min_size=1).filter(lambda name: not ("'" in name and '"' in name)), min_size=1, max_size=4))
def test_a_quoted_name_is_read_back(names: list[str]) -> None:
    found = parse(",".join(map(quoted, names)), "--x")
    assert [str(name) for name in found] == names
    assert not any(name.quoted is False and (name.has_index or name.stars) for name in found)


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("x[:, samples]", (Index(ALL), Index(ALL, samples=True))),
        ("x[0,-1]", (Index(0), Index(-1))),
        ("x[12:20, ::2]", (Index(slice(12, 20)), Index(slice(None, None, 2)))),
        ("x[time=samples, lat = 3]", (Index(ALL, samples=True, axis="time"), Index(3, axis="lat"))),
        ("x", None),
    ],
)
def test_what_stands_in_brackets(text: str, index: tuple[Index, ...] | None) -> None:
    (name,) = parse(text, "--x")
    assert name.index() == index
    assert name.path == "x"


@pytest.mark.parametrize("inside", ["a", "1.5", "::0", "::-1", "1:2:3:4", "", "samples=", "=3", "1e3", "٣"])
def test_brackets_that_mean_nothing(inside: str) -> None:
    with pytest.raises(DataError, match=r"in the brackets: expected a number, a slice such as 12:20"):
        Name(f"x[{inside}]").index()


def test_stars_and_brackets_in_quotes_are_letters() -> None:
    assert parse("*/a/*", "--x")[0].stars == 2
    (name,) = parse('"*/a[0]"', "--x")
    assert (name.stars, name.has_index, name.path) == (0, False, "*/a[0]")
