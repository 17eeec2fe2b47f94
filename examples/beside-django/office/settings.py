"""As little as Django needs. Where PostgreSQL is, and TLS, comes from libpq's own variables, as PGHOST and PGSSLMODE."""

import os
import secrets
from pathlib import Path

SECRET_KEY = os.environ.get("SECRET_KEY") or secrets.token_hex()
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "office.urls"
INSTALLED_APPS = ["office"]
DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": os.environ["PGDATABASE"]}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CORP = 7
INBOX = Path(os.environ["INBOX_DIR"], str(CORP))
REDIS_URL = os.environ["REDIS_URL"]
