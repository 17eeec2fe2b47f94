"""How commands write what they found: lines for people, or JSON for programs."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import click

from app.diagnosis.findings import Secrets

Command = TypeVar("Command", bound=Callable[..., Any])


def as_json_option(command: Command) -> Command:
    return click.option("--json", "as_json", is_flag=True, help="Write JSON, for programs.")(command)


def put_json(value: object) -> None:
    """Write one JSON document. Times are ISO 8601; text is as it is, escaped only where JSON needs it."""
    click.echo(json.dumps(value, default=_plain, ensure_ascii=False, indent=2))


def without_secrets(message: str) -> str:
    """Return what a driver says without the passwords in the environment, whatever it took them for."""
    urls = (os.environ.get(name) for name in ("DATABASE_URL", "OWNER_DATABASE_URL", "REDIS_URL"))
    return Secrets(urls).hide(message)


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, UUID | Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")
