"""Drives by name: their settings, the files that these name, and whether a OneDrive answers. Writes nothing there."""

import ssl
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509

from app.diagnosis.certificates import judged
from app.diagnosis.findings import Check, Verdict, bad, good, warning
from app.drive_settings import DriveSettings, OneDriveSettings
from app.drives.registry import identity, library
from app.errors import (
    DriveMissing,
    DriveRefuses,
    DriveThrottled,
    DriveUnavailable,
    FileForbidden,
    HaulageError,
)
from app.graph.credentials import credential
from app.graph.meter import Meter

ANSWER_SECONDS = 9.0  # for a token and one question; as a rule it is one
_CREDENTIALS = "client_secret_file", "certificate_file"
_PAGE = "docs/onedrive.md"

Known = Mapping[str, DriveSettings]


def settings(known: Known, problems: Sequence[str], variables: Iterable[str]) -> Verdict:
    """Judge the settings of all drives; `variables` are the names of all variables."""
    if problems:
        return bad(
            "; ".join(problems),
            f"Correct it in the environment of web and workers, which do not start with it; {_PAGE} has the settings.",
        )
    prefixes = ("DRIVE_DIR", *(f"{setting_of(name)}_" for name in known))
    stray = sorted(one for one in variables if one.startswith("DRIVE_") and not one.startswith(prefixes))
    if stray:
        more = f" and {len(stray) - 1} more" if len(stray) > 1 else ""
        return warning(
            f"{stray[0]}{more}: of no drive that DRIVES names",
            "Name the drive in DRIVES, or remove the variable.",
        )
    return good(", ".join(f"{name} ({one.kind})" for name, one in known.items()))


def setting_of(name: str, field: str = "") -> str:
    """Return the name of a drive's setting, or what the names of all its settings begin with."""
    return "_".join(filter(None, ("DRIVE", name.upper(), field.upper())))


def checks(known: Known) -> Iterator[Sequence[Check]]:
    """Yield a row for each OneDrive: one that does not answer must not hide the others."""
    for name, chosen in known.items():
        if isinstance(chosen, OneDriveSettings):
            yield [
                Check(f"onedrive-files:{name}", partial(files, name, chosen), is_gate=True),
                Check(
                    f"onedrive:{name}",
                    partial(answers, name, chosen),
                    seconds=ANSWER_SECONDS,
                    do_if_silent=_reach(name, chosen),
                ),
            ]


def files(name: str, chosen: OneDriveSettings) -> Verdict:
    """Judge the files that the settings name; shows nothing of what is in them."""
    put = (
        f"Put it there on every machine, readable by the user of web and workers; {_PAGE} says what is in it."
    )
    for field in (*_CREDENTIALS, "ca_file"):
        path: Path | None = getattr(chosen, field)
        if path is not None and (why := _unreadable(path)):
            return bad(f"{setting_of(name, field)} ({path}) cannot be read: {why}", put)
    try:
        credential(identity(chosen))
        if chosen.ca_file is not None:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(chosen.ca_file)
    except DriveRefuses as error:
        return bad(str(error), put)
    except ssl.SSLError:
        return bad(f"{setting_of(name, 'ca_file')} ({chosen.ca_file}) holds no certificate", put)
    return _ending(chosen)


def _unreadable(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        return error.strerror or type(error).__name__
    return None


def _ending(chosen: OneDriveSettings) -> Verdict:
    path = chosen.certificate_file
    if path is None:
        return good("the client secret is there; until when it is valid, Microsoft Entra alone tells")
    ends_at = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc.timestamp()
    do = "Make a new one, upload its public half to the registration, then put it in this file's place."
    return judged(f"the certificate in {path}", ends_at, do)


def answers(name: str, chosen: OneDriveSettings) -> Verdict:
    """Ask for a token, and with it for the drive itself: once each, unless the token is refused."""
    more = f"`haulage drive test {name}`"
    try:
        library(chosen, Meter(name)).prove_known()
    except DriveThrottled as error:
        return warning(
            str(error), "Wait: it ends by itself. `haulage drive list` shows what the last minute took."
        )
    except HaulageError as error:
        return bad(str(error), f"{_cure(error, name, chosen)} Then {more} tries all that an upload needs.")
    return good(f"the credentials are accepted, and the drive answers; whether it takes files tells {more}")


def _cure(error: HaulageError, name: str, chosen: OneDriveSettings) -> str:
    if isinstance(error, DriveMissing):
        return f"Correct {setting_of(name, 'drive_id')}, or let the application see that site."
    if isinstance(error, DriveRefuses | FileForbidden):
        return f"Correct it in Microsoft Entra, or in {setting_of(name)}_…: {_PAGE}, setting it up."
    if isinstance(error, DriveUnavailable):
        return _reach(name, chosen)
    return f"Look at the settings of {setting_of(name)}_…; the message is Microsoft's."


def _reach(name: str, chosen: OneDriveSettings) -> str:
    login, graph = (urlsplit(url).netloc for url in (chosen.login_url, chosen.graph_url))
    return (
        f"Let this machine reach {login} and {graph} over HTTPS; with a proxy in between, HTTPS_PROXY and"
        f" {setting_of(name, 'ca_file')}."
    )
