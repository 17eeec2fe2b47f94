"""The application's own token for Microsoft Graph, by msal, from a client secret or a certificate."""

import logging
import re
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from msal import ConfidentialClientApplication
from msal.exceptions import MsalError

from app.errors import DriveRefuses, DriveUnavailable
from app.graph.answers import SLOWLY, SOON
from app.graph.http import Session, Silence, why

log = logging.getLogger(__name__)

LOGIN_URL = "https://login.microsoftonline.com"
# From learn.microsoft.com/entra/identity-platform/reference-error-codes, in our words
_REASONS = {
    "90002": "there is no tenant with this id",
    "900023": "this is no tenant id",
    "700016": "the tenant knows no application with this client id",
    "7000215": "the client secret is wrong: its value is wanted, not its id",
    "7000222": "the client secret has expired: make a new one",
    "700027": "the application knows no such certificate: upload its public half to the registration",
    "700024": "the login service calls our assertion too early or too late: is this machine's clock right?",
    "7000112": "the application is disabled in the tenant",
    "53003": "a policy of conditional access forbids it",
}


@dataclass(frozen=True, repr=False)
class Identity:
    """Who we are to Microsoft: a secret, a file with one, or a PEM file with a private key and its certificate."""

    tenant: str
    client_id: str
    secret: str | None = None
    secret_file: Path | None = None
    certificate: Path | None = None
    login_url: str = LOGIN_URL
    ca_file: Path | None = None


class Credentials:
    """Tokens of one identity, cached by msal. Made after the fork: it holds connections. Shared by threads.

    After a refusal the files are read again: whoever has put a new one in its place need not start anything anew.
    """

    def __init__(self, identity: Identity, drive: str) -> None:
        self._identity, self._drive, self._lock = identity, drive, threading.Lock()
        self._silence = Silence()
        self._scopes = ["https://graph.microsoft.com/.default"]
        self._app: ConfidentialClientApplication | None = None

    def token(self, *, renew: bool = False, claims: str | None = None) -> str:
        """Return a token; a new one if the last was refused, with the claims that the refusal asked for.

        Raises DriveRefuses with what is to be corrected, or DriveUnavailable if the login service is out of reach.
        """
        with self._lock:
            try:
                return self._asked(renew=renew, claims=claims)
            except DriveRefuses:
                self._app = None
                raise
            except requests.RequestException as error:
                raise DriveUnavailable(f"the login service is out of reach: {why(error)}", SOON) from None
            except (MsalError, RuntimeError):  # msal's words for a status of 500 and more, and for a redirect
                raise DriveUnavailable("the login service has trouble of its own", SOON) from None

    def _asked(self, *, renew: bool, claims: str | None) -> str:
        if self._app is None:
            self._app = self._made()
        if renew:
            self._app.remove_tokens_for_client()
        try:
            told = self._app.acquire_token_for_client(self._scopes, claims_challenge=claims)
        except ValueError as error:  # msal reads JSON without a look at what came
            raise DriveUnavailable(
                "the login service answered with something other than JSON", SOON
            ) from error
        if "access_token" in told:
            return str(told["access_token"])
        raise _refused(told)

    def _made(self) -> ConfidentialClientApplication:
        identity = self._identity
        try:
            return ConfidentialClientApplication(
                identity.client_id,
                authority=f"{identity.login_url}/{identity.tenant}",
                client_credential=self._credential(),
                # It would ask Microsoft about login hosts that it does not know; ours is a setting.
                instance_discovery=False if identity.login_url != LOGIN_URL else None,
                http_client=Session(str(identity.ca_file) if identity.ca_file else None, self._silence),
            )
        except ValueError as error:
            raise _no_authority(
                str(error.__context__)
            ) from error  # what was answered is there, not in msal's words

    def _credential(self) -> str | dict[str, str]:
        try:
            return credential(self._identity, self._drive)
        except DriveRefuses:
            path = self._identity.certificate or self._identity.secret_file
            log.error("drive %s: no credential is to be had from %s", self._drive, path)  # noqa: TRY400  its message says why
            raise


def credential(identity: Identity, drive: str | None = None) -> str | dict[str, str]:
    """Return what msal wants of a secret or a certificate; raise DriveRefuses, which names the file that is not good.

    By its path, which is for those who run the system alone; or, given the drive's name, by its setting: what pauses a
    drive is shown to its corporations.
    """
    if identity.certificate is not None:
        return _certificate(identity.certificate, _called(identity.certificate, drive, "CERTIFICATE_FILE"))
    if identity.secret_file is None:
        return identity.secret or ""
    called = _called(identity.secret_file, drive, "CLIENT_SECRET_FILE")
    secret = _text(identity.secret_file, called, "a client secret").strip()
    if not secret:
        raise DriveRefuses(f"{called} is not to be read as a client secret: it is empty", SLOWLY)
    return secret


def _text(path: Path, called: str, wanted: str) -> str:
    try:
        return path.read_text()
    except OSError as error:
        reason = str(error.strerror)
    except ValueError:
        reason = "it is no text"
    raise DriveRefuses(f"{called} is not to be read as {wanted}: {reason}", SLOWLY)


def _called(path: Path, drive: str | None, setting: str) -> str:
    return str(path) if drive is None else f"DRIVE_{drive.upper()}_{setting}"


def _certificate(path: Path, called: str) -> dict[str, str]:
    pem = _text(path, called, "a key with its certificate")
    key, certificate = _key(pem, called), _public_half(pem, called)
    if key.public_key() != certificate.public_key():
        raise DriveRefuses(f"the key in {called} is not that of the certificate", SLOWLY)
    ends_at = certificate.not_valid_after_utc
    if ends_at < datetime.now(UTC):
        raise DriveRefuses(f"the certificate in {called} ended on {ends_at:%Y-%m-%d}: make a new one", SLOWLY)
    return {"private_key": pem, "public_certificate": pem}


def _key(pem: str, called: str) -> PrivateKeyTypes:
    try:
        return load_pem_private_key(pem.encode(), password=None)
    except TypeError:
        reason = "its key has a passphrase"
    except (ValueError, UnsupportedAlgorithm):
        reason = "it holds no private key in PEM"
    raise DriveRefuses(f"{called} is not to be read as a key with its certificate: {reason}", SLOWLY)


def _public_half(pem: str, called: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except ValueError:
        reason = "it holds no certificate in PEM"
    raise DriveRefuses(f"{called} is not to be read as a key with its certificate: {reason}", SLOWLY)


def _no_authority(message: str) -> DriveRefuses | DriveUnavailable:
    number = _number(message)
    if number in _REASONS or "HTTP status: 4" in message:
        return DriveRefuses(_REASONS.get(number, "the login service knows no such tenant"), SLOWLY)
    return DriveUnavailable("the login service did not say where tokens are to be had", SOON)


def _refused(told: dict[str, Any]) -> DriveRefuses | DriveUnavailable:
    """A refusal in words; its own text names the application and is Microsoft's to change."""
    if told.get("error") in {"temporarily_unavailable", "server_error"}:
        return DriveUnavailable("the login service has trouble of its own", SOON)
    number = _number(str(told.get("error_description")))
    reason = _REASONS.get(number, f"the login service refuses us: {told.get('error')} (AADSTS{number})")
    return DriveRefuses(reason, SLOWLY)


def _number(message: str) -> str:
    found = re.search(r"AADSTS(\d+)", message)
    return found[1] if found else ""
