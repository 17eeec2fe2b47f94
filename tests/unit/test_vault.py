import json

import pytest
from cryptography.fernet import Fernet

from app.vault import Vault

SESSION = {"url": "https://contoso.sharepoint.com/upload?tempauth=secret", "size": 7}


def test_what_is_sealed_tells_nothing_and_opens_again() -> None:
    vault = Vault([Fernet.generate_key().decode()])

    sealed = vault.seal(SESSION)

    assert "secret" not in json.dumps(sealed)
    assert vault.open(sealed) == SESSION


def test_an_old_key_still_opens_behind_a_new_one() -> None:
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()

    assert Vault([new, old]).open(Vault([old]).seal(SESSION)) == SESSION


@pytest.mark.parametrize("keys", [[], [Fernet.generate_key().decode()]])
def test_a_session_under_a_lost_key_begins_anew(keys: list[str], caplog: pytest.LogCaptureFixture) -> None:
    sealed = Vault([Fernet.generate_key().decode()]).seal(SESSION)

    assert Vault(keys).open(sealed) is None
    assert "SESSION_KEYS" in caplog.text


def test_without_keys_a_session_without_secrets_is_saved_as_it_is() -> None:
    assert Vault([]).seal({"draft": "x"}) == {"draft": "x"}
    assert Vault([]).seal(None) is None
    assert Vault([Fernet.generate_key().decode()]).open({"draft": "x"}) == {"draft": "x"}
