"""Reads the environment once into a frozen value, or lists everything that is wrong with it."""

import re
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.errors import BadSettings


def _redis(url: str) -> str:
    if not url.startswith(("redis://", "rediss://")):
        raise ValueError("must begin with redis:// or rediss:// (TLS)")
    if re.search(r"cert_reqs=(cert_)?none", url, re.IGNORECASE):
        raise ValueError("asks for TLS without checking the certificate; use ssl_cert_reqs=required")
    if re.search(r"check_hostname=(false|no|0)", url, re.IGNORECASE):
        raise ValueError(
            "asks for TLS without checking whose certificate it is; leave ssl_check_hostname out"
        )
    if url.startswith("rediss://") and "ssl_cert_reqs=" not in url:  # which Celery's own client demands
        raise ValueError("must say how TLS is checked: ?ssl_cert_reqs=required&ssl_ca_certs=/path/ca.crt")
    return url


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("must be an absolute path, since every process has its own working directory")
    return path


def _page(url: str) -> str:
    if not re.match(r"https?://[^\s/]", url):
        raise ValueError("must begin with https:// or http://")
    return url


Folder = Annotated[Path, AfterValidator(_absolute)]
Seconds = Annotated[int, Field(gt=0)]
Bytes = Annotated[int, Field(gt=0)]


class Settings(BaseSettings):
    """The environment, by the same names in capitals. What has no default must be set."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    database_url: Annotated[str, Field(min_length=1, repr=False)]
    owner_database_url: Annotated[str | None, Field(repr=False)] = None  # migrations; DATABASE_URL if not set
    redis_url: Annotated[str, AfterValidator(_redis), Field(repr=False)]

    staging_dir: Folder  # the same directory for every web process and worker
    inbox_dir: Folder  # holds one directory per corporation, named by its corp_index
    drives: str = ""  # the names of more drives, whose own settings app/drive_settings.py reads
    drive_dir: Annotated[Folder | None, Field(validate_default=True)] = None  # the drive called filesystem
    session_keys: Annotated[str | None, Field(repr=False)] = (
        None  # seal what drives remember; the first is used
    )

    max_upload_bytes: Bytes = 50 * 2**30
    staging_reserve_bytes: Annotated[int, Field(ge=0)] = (
        256 * 2**20
    )  # free space that receiving never uses up

    lease_seconds: Seconds = 60  # how long a silent worker keeps its claim; it renews every third of this
    slice_seconds: Seconds = 600  # how long one transfer holds a worker before it queues again
    retry_seconds: Seconds = 2  # before the second attempt; doubled for each one after it, 300 at most
    max_attempts: Annotated[int, Field(gt=0)] = 8
    sweep_seconds: Seconds = 2
    wake_window: Annotated[int, Field(gt=0)] = 1000  # wake-ups that may wait in Redis at a time
    keep_failed_seconds: Seconds = 7 * 24 * 3600  # how long a failed upload's bytes wait for a retry

    db_pool_size: Annotated[int, Field(gt=1)] = 2  # per worker child: one for the work, one for the heartbeat
    web_pool_size: Annotated[int, Field(gt=0)] = 8
    db_pool_reset_on_return: Literal["rollback", "commit", "none"] = "rollback"
    db_echo_pool: Literal["", "info", "debug"] = ""

    flower_url: Annotated[str, AfterValidator(_page)] | None = None  # the operations page links to it

    log_format: Literal["text", "json"] = "text"  # how web, workers and beat write their logs

    @field_validator("drive_dir")
    @classmethod
    def _one_drive_at_least(cls, given: Path | None, info: ValidationInfo) -> Path | None:
        if given is None and not info.data.get("drives"):
            raise PydanticCustomError("missing", "is not set")
        return given


@cache
def settings() -> Settings:
    """Return this process's settings; raise BadSettings with one message that lists every problem."""
    try:
        return Settings()
    except ValidationError as error:
        problems = "\n".join(f"  {_problem(dict(one))}" for one in error.errors(include_input=False))
        raise BadSettings(f"The environment has {error.error_count()} problem(s):\n{problems}") from None


def _problem(error: dict[str, object]) -> str:
    place = error["loc"]
    name = str(place[0]).upper() if isinstance(place, tuple) and place else "?"
    if error["type"] == "missing":
        return f"{name} is not set"
    return f"{name}: {str(error['msg']).removeprefix('Value error, ')}"
