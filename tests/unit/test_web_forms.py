"""Forms, fed in pieces of any size."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from app.errors import BadName, BadRequest, HaulageError, Incomplete
from app.web.forms import Form
from app.web.wishes import Wishes

CONTENT_TYPE = "multipart/form-data; boundary=b"


def read(body: bytes, piece: int, content_type: str = CONTENT_TYPE) -> tuple[bytes, Wishes]:
    wishes = Wishes()
    form = Form(content_type, wishes)
    found = b"".join(form.feed(body[at : at + piece]) for at in range(0, len(body), piece))
    form.end()
    return found, wishes


def form_of(disposition: str, data: bytes = b"x") -> bytes:
    return f"--b\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode() + data + b"\r\n--b--\r\n"


@given(
    data=st.binary(max_size=200) | st.text("\r\n-b", max_size=60).map(str.encode), piece=st.integers(1, 60)
)
def test_a_file_comes_out_as_it_went_in(data: bytes, piece: int) -> None:
    assume(b"\r\n--b" not in data)  # a sender's boundary is not in its file
    body = b'--b\r\nContent-Disposition: form-data; name="folder"\r\n\r\n\xc3\xbc\r\n' + form_of(
        'name="file"; filename="f"', data
    )

    assert read(body, piece) == (data, {"folder": "ü", "name": "f"})


@given(end=st.integers(0, 80))
def test_a_form_that_ends_anywhere_is_incomplete(end: int) -> None:
    body = form_of('name="file"; filename="a name that is long enough"')[:end]

    with pytest.raises(Incomplete):
        read(body, 7)


@given(body=st.binary(max_size=300), piece=st.integers(1, 60))
def test_nothing_but_our_own_errors_comes_of_nonsense(body: bytes, piece: int) -> None:
    with pytest.raises(HaulageError):
        read(b"--b\r\n" + body, piece)


@pytest.mark.parametrize(
    ("parameter", "name"),
    [
        ('filename="a;b=c.txt"', "a;b=c.txt"),
        ('filename="%22%0D%0A%41"', '"\r\n%41'),
        ('filename="ends in \\"', "ends in \\"),
        ('filename="an older \\"client\\""', 'an older "client"'),
        ("filename=bare.txt", "bare.txt"),
        ("filename=\"x\"; filename*=UTF-8''%e2%82%ac.txt", "€.txt"),
        ("filename*=utf-8'en'%20a", " a"),
        ('filename="C:\\dir\\x"', "C:\\dir\\x"),
    ],
)
def test_names_are_read_as_clients_write_them(parameter: str, name: str) -> None:
    assert read(form_of(f'name="file"; {parameter}'), 5)[1] == {"name": name}


def test_the_name_field_stands_above_the_name_of_the_file() -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="name"\r\n\r\nasked\r\n' + form_of(
        'name="file"; filename="f"'
    )

    assert read(body, 9)[1] == {"name": "asked"}


@pytest.mark.parametrize("parameter", ["filename*=iso-8859-1''%e9", "filename*=UTF-8''%e9"])
def test_other_encodings_of_a_name_are_refused(parameter: str) -> None:
    with pytest.raises(BadName):
        read(form_of(f'name="file"; {parameter}'), 100)


def test_a_name_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(BadRequest):
        read(b'--b\r\nContent-Disposition: form-data; name="file"; filename="\xe9"\r\n\r\n', 100)


def test_what_surrounds_the_file_is_bounded() -> None:
    with pytest.raises(BadRequest, match="beside its file"):
        read(form_of('name="file"; filename="f"') + b"x" * 70_000, 1000)
    with pytest.raises(BadRequest, match="malformed"):
        read(form_of('name="file"; filename="f' + "x" * 70_000), 1000)
