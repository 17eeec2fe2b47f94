"""As little as Django needs. Where PostgreSQL is, and TLS, comes from one URL, which libpq reads itself."""

import os
import secrets
from pathlib import Path
from urllib.parse import urlsplit

SECRET_KEY = os.environ.get("SECRET_KEY") or secrets.token_hex()
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "office.urls"
INSTALLED_APPS = ["office"]
URL = os.environ["DATABASE_URL"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": urlsplit(URL).path[1:],
        "OPTIONS": {"dsn": URL},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CORP = 7
INBOX = Path(os.environ["INBOX_DIR"], str(CORP))
REDIS_URL = os.environ["REDIS_URL"]
