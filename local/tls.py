"""A certificate for this machine's own names, signed by an authority that nobody can use again."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import trustme

LIFETIME = timedelta(days=800)  # some verifiers refuse more than 825; every cold start issues a new one


@dataclass(frozen=True)
class Certificate:
    """PEM texts: the authority, the server's chain, the server's key."""

    authority: str
    chain: str
    key: str


def issue() -> Certificate:
    """Sign a leaf for the loopback names. The authority's key stays in memory and ends with this call."""
    authority = trustme.CA(path_length=0)
    leaf = authority.issue_cert("localhost", "127.0.0.1", "::1", not_after=datetime.now(UTC) + LIFETIME)
    return Certificate(
        authority=authority.cert_pem.bytes().decode(),
        chain="".join(part.bytes().decode() for part in leaf.cert_chain_pems),
        key=leaf.private_key_pem.bytes().decode(),
    )
