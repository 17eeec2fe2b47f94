"""A client's signed assertion, checked as "Microsoft identity platform certificate credentials" describes it."""

import json
import time
from base64 import urlsafe_b64decode
from binascii import Error as BadEncoding
from datetime import UTC, datetime
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from tests.graph.clients import Client

PADDINGS = {
    "RS256": padding.PKCS1v15(),
    "PS256": padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=padding.PSS.DIGEST_LENGTH),
}


class BadAssertion(Exception):
    """Not accepted; the number is that of the AADSTS code."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number


def check(assertion: str, client: Client, audiences: set[str]) -> None:
    """Raise BadAssertion unless the client signed it for us, and not too long ago."""
    try:
        head, body, signature = assertion.split(".")
        header, claims = _json(head), _json(body)
        signed, given = f"{head}.{body}".encode(), _bytes(signature)
    except (ValueError, BadEncoding) as error:
        raise BadAssertion(50027, "JWT token is invalid or malformed.") from error
    _check_signature(client, header, signed, given)
    _check_claims(client, claims, audiences)


def _check_signature(client: Client, header: dict[str, Any], signed: bytes, given: bytes) -> None:
    certificate = client.certificate_for(header)
    if certificate is None:
        raise BadAssertion(
            700027, "The certificate with identifier used to sign the client assertion is not registered"
        )
    if certificate.not_valid_after_utc < datetime.now(UTC):
        raise BadAssertion(
            700027, "Client assertion failed signature validation. [Reason - The key used is expired.]"
        )
    key = certificate.public_key()
    if header.get("alg") not in PADDINGS or not isinstance(key, RSAPublicKey):
        raise BadAssertion(5002738, "The algorithm of the client assertion is not supported.")
    try:
        key.verify(given, signed, PADDINGS[header["alg"]], hashes.SHA256())
    except InvalidSignature:
        raise BadAssertion(700027, "Client assertion contains an invalid signature.") from None


def _check_claims(client: Client, claims: dict[str, Any], audiences: set[str]) -> None:
    now = time.time()
    if claims.get("aud") not in audiences:
        raise BadAssertion(700023, "Client assertion audience claim does not match Realm issuer.")
    if claims.get("iss") != client.id or claims.get("sub") != client.id:
        raise BadAssertion(
            700021, "Client assertion application identifier doesn't match 'client_id' parameter."
        )
    if (
        not isinstance(claims.get("exp"), (int, float))
        or claims["exp"] < now - 300
        or claims.get("nbf", 0) > now + 300
    ):
        raise BadAssertion(700024, "Client assertion is not within its valid time range.")
    if not claims.get("jti"):
        raise BadAssertion(50027, "JWT token is invalid or malformed: jti is missing.")


def _bytes(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _json(text: str) -> dict[str, Any]:
    value = json.loads(_bytes(text))
    return dict(value)
