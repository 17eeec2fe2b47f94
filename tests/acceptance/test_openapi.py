"""The interface's own document, held against what the interface does: by a program that knows nothing but the document."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app import database, tokens
from local.servers import Servers
from tests.installation import CORP, fresh_installation, make_database
from tests.web_server import UPLOADS, WebServer, web_server

# What makes a good name, cursor or key is more than a schema says.
BY_THE_BOOK = ("--phases=examples,coverage", "--exclude-checks=positive_data_acceptance")
# What was spoilt in the corporation is mended by the fixed one, and then rightly accepted.
AT_RANDOM = ("--phases=fuzzing,stateful", "--exclude-checks=positive_data_acceptance,negative_data_rejection")
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
# Fixed, so that requests get past the door; what lies behind a foreign corporation is walked in test_web_items.py.
CONFIG = """
[parameters]
corp_index = {corp_index}
[warnings]
enabled = false
"""


@pytest.fixture(scope="module")
def web(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    installation = fresh_installation(servers, make_database(servers), tmp_path_factory.mktemp("web"))
    with web_server(installation) as running, running.client() as client:
        client.post(UPLOADS, params={"name": "there"}, content=b"x")
        yield running


@pytest.fixture(scope="module")
def operator(web: WebServer) -> str:
    engine = database.short_lived_engine(web.installation.environment["OWNER_DATABASE_URL"])
    with database.Session(engine) as session, session.begin():
        return tokens.create(session, None, "operator")


def ask_everything(web: WebServer, token: str, tmp_path: Path, examples: int, *options: str) -> str:
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG.format(corp_index=CORP))
    told = tmp_path / "schemathesis.log"
    with told.open("wb") as output:
        ended = subprocess.run(
            [
                SCHEMATHESIS,
                f"--config-file={config}",
                "run",
                f"http://127.0.0.1:{web.port}/openapi.json",
                f"--header=Authorization: Bearer {token}",
                f"--max-examples={examples}",
                "--checks=all",
                "--suppress-health-check=filter_too_much",
                "--no-color",
                *options,
            ],
            cwd=tmp_path,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    assert ended.returncode == 0, told.read_text()[-20_000:]
    return told.read_text()


def cases(told: str) -> int:
    return int(re.search(r"([\d,]+) generated", told)[1].replace(",", ""))


def test_no_answer_is_undocumented(web: WebServer, tmp_path: Path) -> None:
    told = ask_everything(web, web.token, tmp_path, 50, "--exclude-path=/metrics", *BY_THE_BOOK)

    assert cases(told) > 300
    assert "Traceback" not in web.log.read_text()


def test_no_answer_to_random_requests_is_undocumented(web: WebServer, tmp_path: Path) -> None:
    told = ask_everything(web, web.token, tmp_path, 50, "--exclude-path=/metrics", *AT_RANDOM)

    assert cases(told) > 300
    assert "Traceback" not in web.log.read_text()


def test_no_answer_to_an_operator_is_undocumented(web: WebServer, operator: str, tmp_path: Path) -> None:
    ask_everything(web, operator, tmp_path, 50, "--include-path=/metrics", *BY_THE_BOOK)
    ask_everything(web, operator, tmp_path, 50, "--include-path=/metrics", *AT_RANDOM)


@pytest.mark.prove
@pytest.mark.timeout(1800)
def test_no_answer_to_many_requests_is_undocumented(web: WebServer, operator: str, tmp_path: Path) -> None:
    ask_everything(web, web.token, tmp_path, 300, "--exclude-path=/metrics", *BY_THE_BOOK)
    told = ask_everything(web, web.token, tmp_path, 300, "--exclude-path=/metrics", *AT_RANDOM)
    ask_everything(web, operator, tmp_path, 300, "--include-path=/metrics", *AT_RANDOM)

    assert cases(told) > 3000
    assert "Traceback" not in web.log.read_text()


def test_the_document_needs_no_token(web: WebServer) -> None:
    document = httpx.get(f"http://127.0.0.1:{web.port}/openapi.json", trust_env=False).json()

    operations = [one for path in document["paths"].values() for one in path.values()]
    assert len({one["operationId"] for one in operations}) == len(operations) >= 14
