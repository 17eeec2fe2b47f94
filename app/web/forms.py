"""Reads a multipart form as it arrives: few small fields and one file, whose bytes pass through."""

import re
from urllib.parse import unquote

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from app.errors import BadName, BadRequest, Incomplete
from app.web.wishes import Wishes

FILE_FIELD = "file"
MAX_OVERHEAD_BYTES = 64 * 2**10  # everything in a form that is not its file's bytes

# A quote inside a value is sent as %22, and by older clients as \"; only one before a semicolon or the end closes it.
_PARAMETER = re.compile(r';\s*([^=;\s]+)\s*=\s*(?:"(.*?)"\s*(?=;|$)|([^;]*))', re.DOTALL)


def is_form(content_type: str) -> bool:
    return parse_options_header(content_type)[0] == b"multipart/form-data"


class Form:
    """Feed it the body; it gives back what belongs to the file, and adds the fields to `wishes`."""

    def __init__(self, content_type: str, wishes: Wishes) -> None:
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            raise BadRequest("the Content-Type of the form has no boundary")
        self._wishes = wishes
        self._headers: dict[str, bytes] = {}
        self._header_name = self._header_value = self._field_value = b""
        self._field: str | None = None  # None while the part is the file
        self._file_bytes: list[bytes] = []
        self._filename: str | None = None
        self._overhead, self._has_file, self._has_ended = 0, False, False
        self._parser = _parser(boundary, self)

    def feed(self, data: bytes) -> bytes:
        """Take a piece of the body; return the bytes of the file in it."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise BadRequest(f"the form is malformed: {error}") from error
        found = b"".join(self._file_bytes)
        self._file_bytes.clear()
        self._overhead += len(data) - len(found)
        if self._overhead > MAX_OVERHEAD_BYTES:
            raise BadRequest(f"the form has more than {MAX_OVERHEAD_BYTES} bytes beside its file")
        return found

    def end(self) -> None:
        """Say that the body is over; the name the file came with counts unless another one was asked for."""
        if not self._has_ended:
            raise Incomplete("the form ends in the middle")
        if not self._has_file:
            raise BadRequest(f"the form has no field {FILE_FIELD!r} with a file")
        if "name" not in self._wishes and self._filename:
            self._wishes.add("name", self._filename)

    # What the parser calls

    def on_part_begin(self) -> None:
        self._headers, self._field_value = {}, b""

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def on_header_end(self) -> None:
        self._headers[self._header_name.decode("ascii").lower()] = self._header_value
        self._header_name = self._header_value = b""

    def on_headers_finished(self) -> None:
        parameters = _parameters(self._headers.get("content-disposition", b""))
        name = parameters.get("name")
        if name is None:
            raise BadRequest("a part of the form has no name")
        if name != FILE_FIELD:
            self._wishes.expect(name)
            self._field = name
        elif self._has_file:
            raise BadRequest("the form has a second file; send one at a time")
        else:
            self._field, self._has_file = None, True
            self._filename = _filename(parameters)

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._field is None:
            self._file_bytes.append(data[start:end])
        else:
            self._field_value += data[start:end]

    def on_part_end(self) -> None:
        if self._field is not None:
            self._wishes.add(self._field, _decoded(self._field_value))

    def on_end(self) -> None:
        self._has_ended = True


def _parser(boundary: bytes, form: Form) -> MultipartParser:
    try:
        return MultipartParser(
            boundary,
            {
                "on_part_begin": form.on_part_begin,
                "on_header_field": form.on_header_field,
                "on_header_value": form.on_header_value,
                "on_header_end": form.on_header_end,
                "on_headers_finished": form.on_headers_finished,
                "on_part_data": form.on_part_data,
                "on_part_end": form.on_part_end,
                "on_end": form.on_end,
            },
        )
    except FormParserError as error:
        raise BadRequest(f"the form is malformed: {error}") from error


def _parameters(disposition: bytes) -> dict[str, str]:
    found = _PARAMETER.findall(_decoded(disposition))
    return {key.lower(): quoted or bare.strip() for key, quoted, bare in found}


def _filename(parameters: dict[str, str]) -> str | None:
    extended = parameters.get("filename*")
    if extended is not None:  # RFC 5987: charset'language'percent-encoded
        charset, _, value = extended.partition("'")
        if charset.lower() != "utf-8":
            raise BadName("the file's name is not in UTF-8")
        return _unquoted(value.partition("'")[2])
    given = parameters.get("filename")
    return None if given is None else _unescaped(given)


def _unescaped(name: str) -> str:
    """Undo what the HTML standard ("multipart form data") has browsers do to a name, and no more."""
    name = name.replace('\\"', '"')
    return name.replace("%22", '"').replace("%0D", "\r").replace("%0A", "\n")


def _unquoted(value: str) -> str:
    try:
        return unquote(value, errors="strict")
    except UnicodeDecodeError as error:
        raise BadName("the file's name is not valid UTF-8") from error


def _decoded(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise BadRequest("the form has text that is not valid UTF-8") from error
