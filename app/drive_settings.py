"""Reads the settings of every drive that has a name of its own: DRIVES names them, DRIVE_<NAME>_… says what each is."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Annotated, Literal

from cryptography.fernet import Fernet
from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.errors import BadName, BadSettings
from app.graph.credentials import LOGIN_URL
from app.names import parts
from app.settings import Folder, settings

GRAPH_URL = "https://graph.microsoft.com/v1.0"
UNITS_PER_MINUTE = (
    1250  # for an application in a tenant of up to 1,000 licences (SharePoint's page on throttling)
)
FILESYSTEM = "filesystem"  # the drive that DRIVE_DIR is; no other may have its name


def _https(url: str) -> str:
    if not re.fullmatch(r"https://[^\s/?#@]+(/[^\s?#]*)?", url):
        raise ValueError("must be an address that begins with https://")
    return url.rstrip("/")


def _folder(path: str) -> str:
    try:
        named = parts(path)
    except BadName as error:  # which pydantic would let through, and the other problems would stay untold
        raise ValueError(str(error)) from error
    if not named:
        raise ValueError("must name a folder in the drive, like Haulage or Apps/Haulage")
    if named[0].lower() == "forms":  # "Restrictions and limitations in OneDrive and SharePoint"
        raise ValueError("SharePoint keeps Forms at a library's root for itself: name another folder")
    return path


def _hosts(listed: str) -> str:
    wrong = [
        one for one in _listed(listed) if not re.fullmatch(r"\.?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*(:\d+)?", one)
    ]
    if wrong:
        raise ValueError(f"{wrong[0]!r} is no name of a host, like files.example.com or .example.com")
    return listed


def _listed(text: str) -> list[str]:
    return [one for one in re.split(r"[,\s]+", text) if one]


Https = Annotated[str, AfterValidator(_https)]


class _Drive(BaseSettings):
    model_config = SettingsConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class FilesystemSettings(_Drive):
    kind: Literal["filesystem"]
    dir: Folder


class OneDriveSettings(_Drive):
    """One library of OneDrive for Business or SharePoint, and the application that may write to it."""

    kind: Literal["onedrive"]
    tenant_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]+$")]
    client_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")]
    client_secret: Annotated[str | None, Field(min_length=1, repr=False)] = None
    client_secret_file: Folder | None = None
    certificate_file: Folder | None = None  # PEM: a private key and its certificate
    drive_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9!_-]+$")]
    folder: Annotated[str, AfterValidator(_folder)] = "Haulage"  # holds the corporations' roots
    graph_url: Https = GRAPH_URL
    login_url: Https = LOGIN_URL
    ca_file: Folder | None = None  # for a proxy that looks into TLS
    upload_hosts: Annotated[str, AfterValidator(_hosts)] = (
        ""  # more hosts that may get bytes, comma-separated; Microsoft's own are known
    )
    units_per_minute: Annotated[int, Field(gt=0)] = (
        UNITS_PER_MINUTE  # what Microsoft allows, to be shown beside what is used
    )

    @model_validator(mode="after")
    def _one_credential(self) -> "OneDriveSettings":
        given = (self.client_secret, self.client_secret_file, self.certificate_file)
        if sum(one is not None for one in given) != 1:
            raise ValueError("needs exactly one of CLIENT_SECRET, CLIENT_SECRET_FILE and CERTIFICATE_FILE")
        return self

    def hosts(self) -> tuple[str, ...]:
        return tuple(_listed(self.upload_hosts.lower()))


DriveSettings = FilesystemSettings | OneDriveSettings
_KINDS: Mapping[str, type[DriveSettings]] = {"filesystem": FilesystemSettings, "onedrive": OneDriveSettings}


def names() -> list[str]:
    """Return what DRIVES names, whether it can be used or not."""
    return _listed(settings().drives)


@cache
def drive_settings() -> Mapping[str, DriveSettings]:
    """Return the settings of every drive by its name; raise BadSettings with one message that lists every problem."""
    found, problems = readable()
    if problems:
        listed = "\n".join(f"  {one}" for one in problems)
        raise BadSettings(f"The settings of the drives have {len(problems)} problem(s):\n{listed}")
    return found


def readable() -> tuple[Mapping[str, DriveSettings], Sequence[str]]:
    """Return the settings of those drives that have good ones, and every problem of the others and of SESSION_KEYS."""
    found: dict[str, DriveSettings] = {}
    problems: list[str] = []
    named = names()
    for place, name in enumerate(named):
        problems += _read(name, found) if name not in named[:place] else [_no_name(name)]
    if root := settings().drive_dir:
        found[FILESYSTEM] = FilesystemSettings.model_construct(kind="filesystem", dir=root)
    return found, [*problems, *_keys()]


def _read(name: str, found: dict[str, DriveSettings]) -> Iterator[str]:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,31}", name) or name in {FILESYSTEM, "dir"}:
        yield _no_name(name)
        return
    prefix = f"DRIVE_{name.upper()}_"
    kind = _KINDS.get(os.environ.get(f"{prefix}KIND", ""))
    if kind is None:
        yield f"{prefix}KIND must be one of {', '.join(_KINDS)}"
        return
    known = {f"{prefix}{field.upper()}" for field in kind.model_fields}
    yield from (
        f"{one} is no setting of a {os.environ[f'{prefix}KIND']} drive" for one in _beginning(prefix) - known
    )
    try:
        found[name] = kind(_env_prefix=prefix)
    except ValidationError as error:
        yield from (_problem(prefix, dict(one)) for one in error.errors(include_input=False))


def _no_name(name: str) -> str:
    return f"DRIVES: {name!r} is no name for a drive: small letters, digits and _, each once, and not {FILESYSTEM}"


def _beginning(prefix: str) -> set[str]:
    """Return the settings of one drive, without those of another whose name goes on where this one ends."""
    longer = [f"DRIVE_{name.upper()}_" for name in names()]
    longer = [one for one in longer if one.startswith(prefix) and one != prefix]
    return {name for name in os.environ if name.startswith(prefix) and not name.startswith(tuple(longer))}


def _keys() -> Iterator[str]:
    try:
        keys = session_keys()
    except BadSettings as error:
        yield str(error)
        return
    if not keys and any(os.environ.get(f"DRIVE_{one.upper()}_KIND") == "onedrive" for one in names()):
        yield "SESSION_KEYS is not set; a onedrive needs it: `haulage drive key` makes one"


def _problem(prefix: str, error: dict[str, object]) -> str:
    place = error["loc"]
    name = prefix + str(place[0]).upper() if isinstance(place, tuple) and place else prefix.rstrip("_")
    if error["type"] == "missing":
        return f"{name} is not set"
    if error["type"] == "string_pattern_mismatch":
        return f"{name} has characters that no such id has: docs/onedrive.md says where to find it"
    return f"{name}: {str(error['msg']).removeprefix('Value error, ')}"


def session_keys() -> tuple[str, ...]:
    """Return the keys that sessions are sealed with, the one in use first."""
    keys = tuple(_listed(settings().session_keys or ""))
    for key in keys:
        try:
            Fernet(key)
        except ValueError:
            raise BadSettings(
                "SESSION_KEYS: each key must be 32 bytes in base64: `haulage drive key` makes one"
            ) from None
    return keys
