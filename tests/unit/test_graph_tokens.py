"""The simulated identity platform: who gets a token, what it is good for, and how it ends."""

import json
import time
from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from tests.graph.launch import SCOPE, Simulator, code, item_url

pytest_plugins = ["tests.graph.fixtures"]
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def ask(simulator: Simulator, bare: httpx.Client, tenant: str = "", **form: str) -> httpx.Response:
    ours = {"grant_type": "client_credentials", "client_id": simulator.client_id, "scope": SCOPE}
    ours["client_secret"] = simulator.client_secret
    wanted = {name: value for name, value in (ours | form).items() if value}
    return bare.post(f"/{tenant or simulator.tenant}/oauth2/v2.0/token", data=wanted)


def number(answer: httpx.Response) -> tuple[int, str, int]:
    body = answer.json()
    assert body["error_description"].startswith(f"AADSTS{body['error_codes'][0]}: ")
    return answer.status_code, body["error"], body["error_codes"][0]


def test_discovery_says_where_tokens_are(simulator: Simulator, bare: httpx.Client) -> None:
    found = bare.get(f"/{simulator.tenant}/v2.0/.well-known/openid-configuration").json()
    other = bare.get(f"/{uuid4()}/v2.0/.well-known/openid-configuration")

    assert found["token_endpoint"] == f"{simulator.authority}/oauth2/v2.0/token"
    assert number(other) == (400, "invalid_tenant", 90002)


@pytest.mark.parametrize(
    ("form", "refusal"),
    [
        ({"client_secret": "wrong"}, (401, "invalid_client", 7000215)),
        ({"client_secret": ""}, (401, "invalid_client", 7000218)),
        ({"client_id": "unknown"}, (400, "unauthorized_client", 700016)),
        ({"grant_type": ""}, (400, "invalid_request", 900144)),
        ({"grant_type": "password"}, (400, "unsupported_grant_type", 70003)),
        ({"scope": "User.Read"}, (400, "invalid_scope", 1002012)),
        ({"tenant": str(uuid4())}, (400, "invalid_request", 90002)),
    ],
)
def test_a_wrong_request_for_a_token_is_refused(
    simulator: Simulator, bare: httpx.Client, form: dict[str, str], refusal: tuple[int, str, int]
) -> None:
    assert number(ask(simulator, bare, **form)) == refusal


def test_a_secret_that_is_over_is_refused(simulator: Simulator, bare: httpx.Client) -> None:
    simulator.control("POST client", id="old", secrets={"over": 0, "good": 60})

    assert number(ask(simulator, bare, client_id="old", client_secret="over")) == (
        401,
        "invalid_client",
        7000222,
    )
    assert ask(simulator, bare, client_id="old", client_secret="good").status_code == 200


@pytest.mark.parametrize(
    ("given", "challenge"),
    [("", "Bearer"), ("Bearer nonsense", "invalid_token"), ("Basic Og==", "invalid_token")],
)
def test_without_a_good_token_graph_answers_401(
    bare: httpx.Client, graph_drive: str, given: str, challenge: str
) -> None:
    answer = bare.get(f"/v1.0/drives/{graph_drive}/root", headers={"Authorization": given} if given else {})

    assert code(answer) == (401, "unauthenticated", "InvalidAuthenticationToken")
    assert challenge in answer.headers["www-authenticate"]


@pytest.mark.parametrize(
    ("action", "challenge"), [("expire", "expired_token"), ("revoke", "insufficient_claims")]
)
def test_a_token_ends_or_is_revoked(
    simulator: Simulator, graph_drive: str, action: str, challenge: str
) -> None:
    simulator.control("POST client", id=action, secrets={"secret": None})
    with simulator.graph(action, "secret") as graph:
        assert graph.get(f"/v1.0/drives/{graph_drive}/root").status_code == 200

        assert simulator.control("POST tokens", action=action, client=action) == {"tokens": 1}
        answer = graph.get(f"/v1.0/drives/{graph_drive}/root")

    assert answer.status_code == 401
    assert challenge in answer.headers["www-authenticate"]


def test_the_lifetime_of_tokens_can_be_set(
    simulator: Simulator, bare: httpx.Client, graph_drive: str
) -> None:
    simulator.control("POST tokens", lifetime=0)
    given = ask(simulator, bare).json()
    simulator.control("POST tokens", lifetime=3599)

    answer = bare.get(
        f"/v1.0/drives/{graph_drive}/root", headers={"Authorization": f"Bearer {given['access_token']}"}
    )

    assert given["expires_in"] == 0
    assert answer.status_code == 401
    assert ask(simulator, bare).json()["expires_in"] == 3599


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        ("User.Read.All", [403, 403, 403]),
        ("Files.Read.All", [200, 403, 403]),
        ("Sites.Read.All", [200, 403, 403]),
        ("Files.ReadWrite.All", [200, 201, 403]),
        ("Sites.ReadWrite.All", [200, 201, 200]),
        ("Sites.Selected", [403, 403, 403]),
    ],
)
def test_each_permission_is_good_for_what_its_page_says(
    simulator: Simulator, graph_drive: str, role: str, expected: list[int]
) -> None:
    simulator.control("POST client", id="limited", secrets={"secret": None}, roles=[role], grants={})

    assert attempts(simulator, graph_drive) == expected


@pytest.mark.parametrize(("grant", "expected"), [("read", [200, 403, 403]), ("write", [200, 201, 200])])
def test_sites_selected_is_good_for_the_site_that_was_granted(
    simulator: Simulator, grant: str, expected: list[int]
) -> None:
    ours = simulator.control("POST drives", site="ours")
    other = simulator.control("POST drives", site="theirs")
    grants = {ours["site"]: grant}
    simulator.control(
        "POST client", id="limited", secrets={"secret": None}, roles=["Sites.Selected"], grants=grants
    )

    assert attempts(simulator, ours["id"]) == expected
    assert attempts(simulator, other["id"]) == [403, 403, 403]


def attempts(simulator: Simulator, drive: str) -> list[int]:
    with simulator.graph("limited", "secret") as graph:
        answers = [
            graph.get(f"/v1.0/drives/{drive}/root"),
            graph.put(item_url(drive, "a.txt", "/content"), content=b"a"),
            graph.post(item_url(drive, "b.txt", "/createUploadSession"), json={}),
        ]
    for answer in answers:
        assert answer.status_code != 403 or code(answer) == (403, "accessDenied", "")
    return [answer.status_code for answer in answers]


class Certified:
    """An application with a certificate, and its assertions."""

    def __init__(self, simulator: Simulator, *, days: int = 30) -> None:
        self.id, self.audience = str(uuid4()), f"{simulator.authority}/oauth2/v2.0/token"
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.certificate = _self_signed(self.key, days)
        pem = self.certificate.public_bytes(serialization.Encoding.PEM).decode()
        simulator.control("POST client", id=self.id, certificates=[pem])

    def assertion(self, algorithm: str = "PS256", **claims: object) -> str:
        now = time.time()
        ours = {
            "aud": self.audience,
            "iss": self.id,
            "sub": self.id,
            "exp": now + 600,
            "iat": now,
            "jti": str(uuid4()),
        }
        sha1 = algorithm == "RS256"
        thumbprint = self.certificate.fingerprint(hashes.SHA1() if sha1 else hashes.SHA256())
        head = {"typ": "JWT", "alg": algorithm, "x5t" if sha1 else "x5t#S256": _encoded(thumbprint)}
        signed = f"{_encoded(json.dumps(head).encode())}.{_encoded(json.dumps(ours | claims).encode())}"
        pad: padding.AsymmetricPadding = padding.PKCS1v15() if sha1 else _pss()
        return f"{signed}.{_encoded(self.key.sign(signed.encode(), pad, hashes.SHA256()))}"


@pytest.mark.parametrize("algorithm", ["PS256", "RS256"])
def test_a_signed_assertion_is_as_good_as_a_secret(
    simulator: Simulator, bare: httpx.Client, algorithm: str
) -> None:
    ours = Certified(simulator)

    answer = _with_assertion(simulator, bare, ours.id, ours.assertion(algorithm))

    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("claims", "refusal"),
    [
        ({"aud": "https://elsewhere/token"}, 700023),
        ({"iss": "somebody"}, 700021),
        ({"exp": 1_000_000}, 700024),
        ({"nbf": 99_999_999_999}, 700024),
        ({"jti": ""}, 50027),
    ],
)
def test_a_wrong_assertion_is_refused(
    simulator: Simulator, bare: httpx.Client, claims: dict[str, Any], refusal: int
) -> None:
    ours = Certified(simulator)

    answer = _with_assertion(simulator, bare, ours.id, ours.assertion(**claims))

    assert number(answer) == (401, "invalid_client", refusal)


def test_an_assertion_of_another_key_or_an_old_certificate_is_refused(
    simulator: Simulator, bare: httpx.Client
) -> None:
    ours, other, old = Certified(simulator), Certified(simulator), Certified(simulator, days=-1)
    head, claims, _ = ours.assertion().split(".")
    forged = f"{head}.{claims}.{other.assertion().split('.')[2]}"

    for client, assertion in ((ours, forged), (ours, other.assertion()), (old, old.assertion())):
        answer = _with_assertion(simulator, bare, client.id, assertion)
        assert number(answer) == (401, "invalid_client", 700027)
    assert number(_with_assertion(simulator, bare, ours.id, "nonsense"))[2] == 50027


def _with_assertion(simulator: Simulator, bare: httpx.Client, client: str, assertion: str) -> httpx.Response:
    form = {"client_secret": "", "client_assertion_type": ASSERTION, "client_assertion": assertion}
    return ask(simulator, bare, client_id=client, **form)


def _self_signed(key: rsa.RSAPrivateKey, days: int) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test")])
    ends = datetime.now(UTC) + timedelta(days=days)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(x509.random_serial_number()).not_valid_before(ends - timedelta(days=60))
    return made.not_valid_after(ends).sign(key, hashes.SHA256())


def _pss() -> padding.PSS:
    return padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=padding.PSS.DIGEST_LENGTH)


def _encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")
