"""What the doctor makes of drives' settings and of the files that they name, without anything running."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from app.diagnosis import drives, environment
from app.diagnosis.findings import Level, Verdict
from app.drive_settings import DriveSettings, FilesystemSettings, OneDriveSettings

CANARY = "canary-of-a-secret"
PEM = serialization.Encoding.PEM


def onedrive(**given: Any) -> OneDriveSettings:
    ids = {"tenant_id": "t", "client_id": "c", "drive_id": "b!d"}
    credential = {} if {"client_secret_file", "certificate_file"} & set(given) else {"client_secret": CANARY}
    return OneDriveSettings.model_validate({"kind": "onedrive"} | ids | credential | given)


KNOWN: dict[str, DriveSettings] = {
    "reports": onedrive(),
    "nas": FilesystemSettings(kind="filesystem", dir=Path("/srv/nas")),
}


# Settings


def test_good_settings_are_told_by_the_drives_names() -> None:
    found = drives.settings(KNOWN, [], ["DRIVES", "DRIVE_DIR", "DRIVE_REPORTS_KIND", "DRIVE_NAS_DIR", "PATH"])

    assert found == Verdict(Level.GOOD, "reports (onedrive), nas (filesystem)")


def test_every_problem_of_the_settings_is_told() -> None:
    found = drives.settings(KNOWN, ["DRIVE_X_KIND must be", "SESSION_KEYS is not set"], ["DRIVE_Y_KIND"])

    assert (found.level, found.found) == (Level.BAD, "DRIVE_X_KIND must be; SESSION_KEYS is not set")
    assert "docs/onedrive.md" in found.do


@pytest.mark.parametrize(
    ("strays", "says"),
    [
        (["DRIVE_REPORT_KIND"], "DRIVE_REPORT_KIND: of no"),
        (["DRIVE_X_Z", "DRIVE_X_A"], "DRIVE_X_A and 1 more: of no"),
    ],
)
def test_variables_of_no_drive_are_told(strays: list[str], says: str) -> None:
    found = drives.settings(KNOWN, [], ["DRIVE_REPORTS_KIND", *strays])

    assert found.level is Level.WARNING
    assert found.found.startswith(says)
    assert "DRIVES" in found.do


def test_a_drives_setting_is_not_taken_for_a_misspelt_one_of_all() -> None:
    assert environment.settings(["DRIVE_A_DIR"]).level is Level.GOOD


# Files


def certificate(days: int) -> bytes:
    """Return a PEM with a key and its certificate, which ends so many days from now."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name.from_rfc4514_string("CN=haulage")
    ends = datetime.now(UTC) + timedelta(days=days)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(ends - timedelta(days=400)).not_valid_after(ends)
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(PEM, *plain) + made.sign(key, hashes.SHA256()).public_bytes(PEM)


def test_a_secret_in_the_settings_is_not_shown() -> None:
    found = drives.files("reports", onedrive())

    assert found.level is Level.GOOD
    assert CANARY not in found.found


def test_a_secret_in_a_file_is_good_and_not_shown(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(CANARY)

    found = drives.files("reports", onedrive(client_secret_file=tmp_path / "secret"))

    assert found.level is Level.GOOD
    assert CANARY not in found.found


@pytest.mark.parametrize("field", ["client_secret_file", "certificate_file", "ca_file"])
@pytest.mark.parametrize(("path", "says"), [("none", "No such file"), ("", "Is a directory")])
def test_a_file_that_cannot_be_read_is_told(field: str, path: str, says: str, tmp_path: Path) -> None:
    found = drives.files("reports", onedrive(**{field: tmp_path / path}))

    assert found.level is Level.BAD
    assert found.found.startswith(f"DRIVE_REPORTS_{field.upper()} ({tmp_path / path}) cannot be read: {says}")
    assert "on every machine" in found.do


@pytest.mark.parametrize(
    ("field", "content"),
    [("client_secret_file", ""), ("certificate_file", CANARY), ("ca_file", CANARY)],
)
def test_a_file_that_holds_something_else_is_told_without_it(
    field: str, content: str, tmp_path: Path
) -> None:
    (tmp_path / "own.pem").write_text(content)

    found = drives.files("reports", onedrive(**{field: tmp_path / "own.pem"}))

    assert found.level is Level.BAD
    assert f"{tmp_path}/own.pem" in found.found
    assert CANARY not in f"{found.found} {found.do}"


@pytest.mark.parametrize(
    ("days", "level", "says", "do"),
    [
        (100, Level.GOOD, "is valid until", ""),
        (12, Level.WARNING, "more day(s)", "Make a new one"),
        (-1, Level.BAD, "ended on", "Put"),
    ],
)
def test_until_when_the_certificate_is_valid_is_told(
    days: int, level: Level, says: str, do: str, tmp_path: Path
) -> None:
    (tmp_path / "own.pem").write_bytes(certificate(days))

    found = drives.files("reports", onedrive(certificate_file=tmp_path / "own.pem"))

    assert found.level is level
    assert f"the certificate in {tmp_path}/own.pem" in found.found
    assert says in found.found
    assert found.do.startswith(do)
    assert bool(found.do) == (level is not Level.GOOD)
