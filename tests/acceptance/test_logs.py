"""What is written about an upload on its way, by every process that it meets; and what no process ever writes."""

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import make_url

from local.system import BIN
from tests.acceptance.conftest import Haulage, wait_until
from tests.installation import CORP, execute, in_database
from tests.web_server import UPLOADS, WebServer, web_server

FAULTY = "tests.acceptance.samples.faulty"
SLOW = "tests.acceptance.samples.slow"
REQUEST = "request-from-outside.7"
FLOWER = f"user:{secrets.token_hex(8)}"


@dataclass
class Running:
    web: WebServer
    haulage: Haulage

    def send(self, name: str, content: bytes = b"x") -> UUID:
        with self.web.client() as client:
            answer = client.post(
                UPLOADS, params={"name": name}, content=content, headers={"X-Request-ID": REQUEST}
            )
        return UUID(answer.json()["id"])

    def shown(self, upload_id: UUID) -> dict[str, Any]:
        with self.web.client() as client:
            return client.get(f"{UPLOADS}/{upload_id}").json()

    def logs(self) -> str:
        files = [self.web.log, *self.haulage.system.logs.glob("*.log")]
        return "\n".join(file.read_text(errors="replace") for file in files)


@pytest.fixture
def running(haulage: Haulage) -> Iterator[Running]:
    with web_server(haulage.installation, LOG_FORMAT="json") as web:
        yield Running(web, haulage)


def test_a_failing_upload_is_followed_from_the_request_to_the_drive(running: Running) -> None:
    running.haulage.start_worker(sample=FAULTY, LOG_FORMAT="json")

    upload_id = running.send("raise placed")

    wait_until(lambda: "attempt 1 failed" in running.haulage.log(), "an attempt has failed")
    lines = [line for line in running.haulage.log().splitlines() if "attempt 1 failed" in line]
    told = json.loads(lines[0])
    assert (told["upload"], told["corporation"], told["request"]) == (str(upload_id), str(CORP), REQUEST)
    assert told["level"] == "warning"
    assert "as the name says" in told["traceback"]


def test_text_carries_the_same_facts(running: Running) -> None:
    running.haulage.start_worker(sample=FAULTY)

    upload_id = running.send("raise placed")

    facts = f"[upload={upload_id} corporation={CORP} request={REQUEST}]"
    wait_until(lambda: facts in running.haulage.log(), "an attempt has failed")
    assert "Traceback" in running.haulage.log()


def test_a_transfer_tells_how_far_it_is_and_how_long_it_takes(running: Running) -> None:
    running.haulage.start_worker(sample=SLOW, PUT_SECONDS="0.5")
    size = 40 * 64 * 1024

    upload_id = running.send("slow", b"x" * size)

    wait_until(lambda: running.shown(upload_id)["seconds_left"], "a speed is told")
    first = running.shown(upload_id)
    wait_until(lambda: running.shown(upload_id)["transferred"] > first["transferred"], "it has come further")
    assert 0 < first["transferred"] < size
    assert first["bytes_per_second"] > 0
    with running.web.client() as client:
        client.post(f"{UPLOADS}/{upload_id}/cancel")
    wait_until(lambda: running.shown(upload_id)["state"] == "cancelled", "it is cancelled")
    assert running.shown(upload_id)["seconds_left"] is None


def secrets_of(running: Running) -> dict[str, str]:
    environment = running.haulage.installation.environment
    passwords = {
        name: str(make_url(environment[name]).password)
        for name in ("DATABASE_URL", "WEB_DATABASE_URL", "OWNER_DATABASE_URL", "REDIS_URL")
    }
    return passwords | {"token": running.web.token, "other token": running.web.other_token, "flower": FLOWER}


def found_in(text: str, known: dict[str, str]) -> set[str]:
    return {name for name, secret in known.items() if secret in text or secret[:-4] in text}


def provoke(running: Running) -> None:
    """Bring about what is written when things go wrong."""
    with running.web.client() as client:
        client.get(UPLOADS, params={"cursor": "x"})
        client.get(f"/api/v1/corporations/{CORP}/items/{CORP}/nothing/content")
        client.get("/api/v1/corporations/8/uploads")
        client.get(UPLOADS, headers={"Authorization": f"Bearer {running.web.other_token}"})
        client.get(UPLOADS, headers={"Authorization": f"Bearer {running.web.token}x"})
        client.get(UPLOADS, headers={"Authorization": "", "Cookie": f"haulage_token={running.web.token}"})
        ours = {"Sec-Fetch-Site": "same-origin"}
        assert client.post("/sign-in", data={"token": running.web.token}, headers=ours).status_code == 303
        assert (
            client.post("/sign-in", data={"token": f"{running.web.token}x"}, headers=ours).status_code == 401
        )
    for name in ("raise placed", "raise recorded", "exit placed"):
        running.send(name)
    wait_until(lambda: running.haulage.log().count("attempt 1 failed") >= 2, "attempts have failed")
    # Every session is ended from outside: what a driver says then may hold more than it should.
    installation = running.haulage.installation
    name = str(make_url(installation.environment["DATABASE_URL"]).database)
    execute(
        in_database(installation.servers.admin_url, name),
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    running.send("after")
    wait_until(lambda: running.haulage.states().get("stored"), "it goes on")


def test_no_secret_is_ever_written(running: Running, tmp_path: Path) -> None:
    running.haulage.start_worker(
        sample=FAULTY, LOG_FORMAT="json", DB_ECHO_POOL="debug", FLOWER_BASIC_AUTH=FLOWER
    )
    running.haulage.start_beat()
    unfit = {"DATABASE_URL": running.haulage.installation.environment["DATABASE_URL"] + "&sslmode=nonsense"}
    running.haulage.system.start("unfit", *worker_command(), **unfit)

    provoke(running)
    running.haulage.system.processes["unfit"].wait(60)

    known = secrets_of(running)
    assert len(set(known.values())) == len(known)
    assert all(len(secret) > 8 for secret in known.values())
    assert found_in(running.logs(), known) == set()
    assert len(running.logs()) > 10_000


def test_control_a_secret_that_is_written_is_found(running: Running, tmp_path: Path) -> None:
    leak = running.haulage.system.logs / "leak.log"
    leak.write_text(f"connecting to {running.haulage.installation.environment['DATABASE_URL']}")

    assert "DATABASE_URL" in found_in(running.logs(), secrets_of(running))


def worker_command() -> list[str | Path]:
    return [BIN / "celery", "-A", "tasks.worker", "worker", "-l", "debug", "-c", "1", "-n", "unfit@%h"]
