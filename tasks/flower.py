"""Keeps Flower from starting without a password: it shows every worker and task, and can stop them."""

import os
import sys

PASSWORDS = ("FLOWER_BASIC_AUTH", "FLOWER_AUTH_PROVIDER")


def refuse_without_password() -> None:
    """End a `celery … flower` process that would let anybody in."""
    given = any(os.environ.get(name) for name in PASSWORDS) or any("--basic" in word for word in sys.argv)
    if "flower" in sys.argv[1:] and not given:
        raise SystemExit("Flower must have a password: set FLOWER_BASIC_AUTH=user:password")
