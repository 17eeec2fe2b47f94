"""What the pages are made with: templates and static files, none of them read before somebody asks for a page."""

import hashlib
from collections.abc import Mapping
from functools import cache
from http import HTTPStatus
from pathlib import Path

from fastapi import Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from app import names
from app.web import page_words

_HERE = Path(__file__).parent
_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
STATIC = "/static/{version}/{name}"
A_YEAR = 365 * 24 * 3600


def render(template: str, status: int = HTTPStatus.OK, **values: object) -> HTMLResponse:
    """Make a page. Whatever is put into it is escaped."""
    return HTMLResponse(_templates().get_template(template).render(values), status)


@cache
def _templates() -> Environment:
    made = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters |= {
        "shown": names.printable,  # a name may hold marks that turn the reading direction of what follows
        "size": page_words.size,
        "span": page_words.span,
        "moment": page_words.moment,
        "clock": page_words.clock,
        "number": "{:,}".format,
    }
    made.globals |= {"static": _address, "version": _version, "count": page_words.count}
    return made


@cache
def _files() -> Mapping[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted((_HERE / "static").iterdir())}


@cache
def _version() -> str:
    """Return what changes whenever one of the static files does."""
    return hashlib.sha256(b"".join(_files().values())).hexdigest()[:12]


def _address(name: str) -> str:
    return STATIC.format(version=_version(), name=name)


def static(request: Request, version: str, name: str) -> Response:
    """Answer with a static file; what has this release's version in its address may be kept for good.

    A page of the release before may still ask while servers are replaced: it gets the file, but is not to keep it.
    """
    content = _files().get(name)
    if content is None:
        return Response(status_code=HTTPStatus.NOT_FOUND)
    is_current = version == _version()
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {
        "ETag": etag,
        "Cache-Control": f"public, max-age={A_YEAR}, immutable" if is_current else "no-cache",
        "X-Content-Type-Options": "nosniff",
    }
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(content, headers=headers, media_type=_TYPES[Path(name).suffix])
