"""The identity platform: discovery, the token endpoint for client credentials, and the tokens it has given."""

import secrets
import uuid
from base64 import b64decode, b64encode
from binascii import Error as BadEncoding
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from tests.graph import assertions
from tests.graph.clients import Client
from tests.graph.clock import Clock
from tests.graph.problems import GraphError

ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
RESOURCE = "https://graph.microsoft.com"
# "Scopes and permissions in the Microsoft identity platform": without a resource, Microsoft Graph is meant.
SCOPES = (f"{RESOURCE}/.default", ".default")


@dataclass
class Refused(Exception):
    """An OAuth error, with the number of "Microsoft Entra authentication and authorization error codes"."""

    status: int
    error: str
    number: int
    message: str

    def as_json(self, stamp: str) -> dict[str, Any]:
        trace = str(uuid.uuid4())
        return {
            "error": self.error,
            "error_description": f"AADSTS{self.number}: {self.message} Trace ID: {trace} Timestamp: {stamp}",
            "error_codes": [self.number],
            "timestamp": stamp,
            "trace_id": trace,
            "correlation_id": trace,
        }


@dataclass
class Token:
    client: Client
    ends: float
    revoked: bool = False


class Authority:
    """One tenant."""

    def __init__(self, tenant: str, clock: Clock, lifetime: float) -> None:
        self.tenant, self.clock, self.lifetime = tenant, clock, lifetime
        self.clients: dict[str, Client] = {}
        self.tokens: dict[str, Token] = {}

    def discovery(self, tenant: str, base: str) -> dict[str, Any]:
        """Answer `/.well-known/openid-configuration` ("OpenID Connect on the Microsoft identity platform")."""
        self._require_tenant(tenant, "invalid_tenant")
        return {
            "issuer": f"{base}/{self.tenant}/v2.0",
            "authorization_endpoint": f"{base}/{self.tenant}/oauth2/v2.0/authorize",
            "token_endpoint": f"{base}/{self.tenant}/oauth2/v2.0/token",
            "token_endpoint_auth_methods_supported": [
                "client_secret_post",
                "client_secret_basic",
                "private_key_jwt",
            ],
            "jwks_uri": f"{base}/{self.tenant}/discovery/v2.0/keys",
            "response_types_supported": ["code"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "tenant_region_scope": None,
        }

    def grant(self, tenant: str, base: str, form: dict[str, str], authorization: str) -> dict[str, Any]:
        """Answer the token endpoint ("OAuth 2.0 client credentials flow on the Microsoft identity platform")."""
        self._require_tenant(tenant, "invalid_request")
        form = form | _basic(authorization)
        if "grant_type" not in form:
            raise Refused(
                400, "invalid_request", 900144, "The request body must contain the parameter: 'grant_type'."
            )
        if form["grant_type"] != "client_credentials":
            raise Refused(
                400, "unsupported_grant_type", 70003, "The app requested an unsupported grant type."
            )
        client = self.clients.get(form.get("client_id", ""))
        if client is None:
            unknown = (
                f"Application with identifier '{form.get('client_id', '')}' was not found in the directory."
            )
            raise Refused(400, "unauthorized_client", 700016, unknown)
        self._authenticate(client, form, base)
        if form.get("scope") not in SCOPES:
            raise Refused(
                400,
                "invalid_scope",
                1002012,
                "Client credential flows must have a scope value with /.default.",
            )
        return self._issue(client)

    def check(self, authorization: str | None, base: str) -> Client:
        """Return whose token this is, or raise 401 with the challenge that says why."""
        challenge = (
            f'Bearer realm="", authorization_uri="{base}/common/oauth2/authorize", client_id="{RESOURCE}"'
        )
        scheme, _, value = (authorization or "").partition(" ")
        if not value:
            raise _unauthenticated("Access token is empty.", challenge)
        token = self.tokens.get(value)
        if scheme.lower() != "bearer" or token is None:
            raise _unauthenticated("Access token validation failure.", f'{challenge}, error="invalid_token"')
        if token.revoked:
            raise _unauthenticated(
                "Continuous access evaluation resulted in challenge.", challenge + _claims()
            )
        if token.ends <= self.clock.monotonic():
            why = 'error="expired_token", error_description="Invalid JWT, token is expired"'
            raise _unauthenticated("Lifetime validation failed, the token is expired.", f"{challenge}, {why}")
        return token.client

    def revoke(self, client_id: str | None = None) -> int:
        """Revoke what was given so far, to one client or to all; return how many."""
        ours = [one for one in self.tokens.values() if client_id in (None, one.client.id)]
        for token in ours:
            token.revoked = True
        return len(ours)

    def expire(self, client_id: str | None = None) -> int:
        ours = [one for one in self.tokens.values() if client_id in (None, one.client.id)]
        for token in ours:
            token.ends = self.clock.monotonic()
        return len(ours)

    def _require_tenant(self, tenant: str, error: str) -> None:
        if tenant.lower() != self.tenant.lower():
            raise Refused(
                400,
                error,
                90002,
                f"Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID.",
            )

    def _authenticate(self, client: Client, form: dict[str, str], base: str) -> None:
        if form.get("client_assertion_type") == ASSERTION:
            audiences = {f"{base}/{self.tenant}/oauth2/v2.0/token", f"{base}/{self.tenant}/v2.0"}
            try:
                assertions.check(form.get("client_assertion", ""), client, audiences)
            except assertions.BadAssertion as error:
                raise Refused(401, "invalid_client", error.number, str(error)) from error
        elif "client_secret" not in form:
            missing = "The request body must contain the following parameter: 'client_assertion' or 'client_secret'."
            raise Refused(401, "invalid_client", 7000218, missing)
        elif form["client_secret"] not in client.secrets:
            raise Refused(401, "invalid_client", 7000215, "Invalid client secret provided.")
        else:
            ends = client.secrets[form["client_secret"]]
            if ends is not None and ends <= self.clock.monotonic():
                raise Refused(
                    401,
                    "invalid_client",
                    7000222,
                    f"The provided client secret keys for app '{client.id}' are expired.",
                )

    def _issue(self, client: Client) -> dict[str, Any]:
        value = f"eyJ0eXAiOiJKV1QifQ.{secrets.token_urlsafe(300)}.{secrets.token_urlsafe(64)}"
        self.tokens[value] = Token(client, self.clock.monotonic() + self.lifetime)
        seconds = int(self.lifetime)
        return {
            "token_type": "Bearer",
            "expires_in": seconds,
            "ext_expires_in": seconds,
            "access_token": value,
        }


def _basic(authorization: str) -> dict[str, str]:
    if not authorization.lower().startswith("basic "):
        return {}
    try:
        name, _, secret = b64decode(authorization[6:]).decode().partition(":")
    except (BadEncoding, UnicodeDecodeError):
        return {}
    return {"client_id": unquote(name), "client_secret": unquote(secret)}


def _claims() -> str:
    """Return the claims challenge of "Continuous access evaluation enabled APIs"."""
    wanted = b'{"access_token":{"nbf":{"essential":true,"value":"1604106651"}}}'
    return f', error="insufficient_claims", claims="{b64encode(wanted).decode()}"'


def _unauthenticated(message: str, challenge: str) -> GraphError:
    """The code is that of "Microsoft Graph error responses"; the live service has been seen to send the inner one."""
    return GraphError(
        401, "unauthenticated", message, "InvalidAuthenticationToken", {"WWW-Authenticate": challenge}
    )
