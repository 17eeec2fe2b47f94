"""The ways of docs/adopting.md: beside an application of one's own, one's own tables, one's own tasks."""

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg2
import pytest
import redis
from sqlalchemy import URL, make_url

from local import given
from local.home import PROJECT
from local.system import BIN, System, free_port
from tests import environments
from tests.acceptance.conftest import Haulage, wait_until
from tests.installation import CORP, Installation, ask, execute, in_database

EXAMPLES = PROJECT / "examples"
ADOPTING = (PROJECT / "docs" / "adopting.md").read_text()


@pytest.fixture
def guest(installation: Installation) -> Iterator[URL]:
    """A role with a schema of its own, and the two grants that an application beside Haulage gets."""
    name, password = f"guest_{secrets.token_hex(4)}", secrets.token_hex(8)
    owner = make_url(installation.environment["OWNER_DATABASE_URL"])
    admin = in_database(installation.servers.admin_url, str(owner.database))
    execute(admin, f"CREATE ROLE {name} LOGIN PASSWORD '{password}'")
    execute(admin, f"CREATE SCHEMA AUTHORIZATION {name}")
    for grant in re.findall(r"GRANT .* TO invoices;", ADOPTING):
        execute(installation.environment["OWNER_DATABASE_URL"], grant.replace("invoices", name))
    yield owner.set(username=name, password=password, drivername="postgresql+psycopg2")
    execute(admin, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{name}'")
    execute(admin, f"DROP OWNED BY {name}")
    execute(admin, f"DROP ROLE {name}")


@dataclass
class Guest:
    """An example project beside Haulage: its own interpreter, which knows nothing of ours, and its web server."""

    python: Path
    directory: Path
    environment: dict[str, str]
    log: Path

    def run(self, *arguments: str) -> None:
        done = subprocess.run(
            [self.python, *arguments],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    @contextmanager
    def serving(self, *arguments: str, port: int) -> Iterator[httpx.Client]:
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                [self.python, *arguments],
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=90, trust_env=False) as client:
                wait_until(lambda: self.answers(client) or process.poll() is not None, "it answers")
                assert process.poll() is None, self.log.read_text()
                yield client
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    @staticmethod
    def answers(client: httpx.Client) -> bool:
        try:
            return client.get("/").status_code == httpx.codes.NOT_FOUND
        except httpx.TransportError:
            return False


def guest_of(haulage: Haulage, name: str, python: Path, tmp_path: Path, **environment: str) -> Guest:
    ours = {
        "PATH": os.environ["PATH"],
        "LC_ALL": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        "INBOX_DIR": haulage.installation.environment["INBOX_DIR"],
        "REDIS_URL": haulage.installation.environment["REDIS_URL"],
    }
    return Guest(python, EXAMPLES / name, ours | environment, tmp_path / f"{name}.log")


def stored(haulage: Haulage) -> dict[str, bytes]:
    """Return the files in the drive, without the drive's own."""
    root = haulage.installation.drive_dir / str(CORP)
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.prove
def test_neither_guest_has_haulage_at_hand() -> None:
    for name in ("flask", "beside-django"):
        for module in ("app", "tasks", "celeryconfig"):
            done = subprocess.run(
                [environments.interpreter(name), "-c", f"import {module}"], cwd="/", capture_output=True
            )

            assert b"ModuleNotFoundError" in done.stderr


def test_a_flask_application_queues_in_its_own_transaction(
    haulage: Haulage, guest: URL, tmp_path: Path
) -> None:
    port, web = free_port(), free_port()
    haulage.start_beat()
    haulage.start_worker()
    url = haulage.system.start_web(web)
    invoices = guest_of(
        haulage,
        "beside-flask",
        environments.interpreter("flask"),
        tmp_path,
        DATABASE_URL=guest.render_as_string(hide_password=False),
        HAULAGE_URL=url,
        HAULAGE_TOKEN=haulage.system.run("token", "create", "--corp", str(CORP)).strip(),
    )
    invoices.run("-m", "flask", "--app", "invoices", "create-tables")

    with invoices.serving(
        "-m", "flask", "--app", "invoices", "run", "--port", str(port), port=port
    ) as client:
        first = client.post("/invoices/1/Ada", content=b"one")
        second = client.post("/invoices/1/Bob", content=b"two")
        wait_until(lambda: client.get("/invoices/1").json()["state"] == "stored", "the invoice is stored")
        scanned = client.post("/scans/x.png", content=b"three")

    assert (first.status_code, second.status_code) == (202, 409)
    assert scanned.json()["state"] == "stored"
    assert stored(haulage) == {"invoices/1.pdf": b"one", "scans/x.png": b"three"}
    assert haulage.states() == {"stored": 2}, "what was rolled back was never queued"
    assert haulage.problems() == []


def test_a_django_project_queues_in_its_own_transaction(haulage: Haulage, guest: URL, tmp_path: Path) -> None:
    port = free_port()
    haulage.start_beat()
    haulage.start_worker()
    office = guest_of(
        haulage,
        "beside-django",
        environments.interpreter("beside-django"),
        tmp_path,
        DATABASE_URL=guest.set(drivername="postgresql").render_as_string(hide_password=False),
    )
    office.run("manage.py", "migrate", "--run-syncdb")

    with office.serving("manage.py", "runserver", "--noreload", str(port), port=port) as client:
        codes = [
            client.post(f"/letters/{path}", content=path.encode()).status_code
            for path in ("one/by-sql", "one/by-sql", "two/by-celery", "one/by-celery")
        ]
        wait_until(lambda: client.get("/letters/two").json()["result"], "the result is there")
        result = client.get("/letters/two").json()["result"]

    haulage.wait_until_stored(2)
    assert codes == [202, 409, 202, 409]
    assert (result["state"], result["parent_id"]) == ("stored", f"{CORP}/letters")
    assert sorted(stored(haulage).values()) == [b"one/by-sql", b"two/by-celery"]


def test_the_guest_may_do_nothing_but_queue(installation: Installation, guest: URL) -> None:
    connection = psycopg2.connect(guest.set(drivername="postgresql").render_as_string(hide_password=False))
    try:
        for statement in ("SELECT * FROM corporate.uploads", "SELECT * FROM corporate.vmb_items"):
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                connection.cursor().execute(statement)
            connection.rollback()
    finally:
        connection.close()


# The commands of the READMEs, typed as they stand there


@dataclass
class Terminal:
    """A shell at the top of a checkout, in which a README's blocks are typed; only ports and directories are others."""

    checkout: Path
    home: Path
    output: Path
    others: dict[str, str]

    def typed(self, block: str) -> str:
        written = "|".join(map(re.escape, self.others))
        return "set -eu\n" + re.sub(written, lambda one: self.others[one[0]], block)

    def run(self, *blocks: str, folder: str = ".") -> str:
        done = subprocess.run(
            ["sh", "-c", self.typed("\n".join(blocks))],
            cwd=self.checkout / folder, env=clean(), capture_output=True, text=True, timeout=100,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextmanager
    def running(self, *blocks: str, says: str) -> Iterator[None]:
        """Type blocks whose last command goes on, for as long as this one does, from when it has said so."""
        with self.output.open("ab") as output:
            process = subprocess.Popen(
                ["sh", "-c", self.typed("\n".join(blocks))],
                cwd=self.checkout, env=clean(), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip
        try:
            wait_until(lambda: says in self.said() or process.poll() is not None, says, tell=self.said)
            assert process.poll() is None, self.said()
            yield
        finally:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(60)

    def said(self) -> str:
        return self.output.read_text(errors="replace")


def clean() -> dict[str, str]:
    """What a person's own shell has who has just cloned this."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ["HOME"],
        "LC_ALL": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
    }


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """A checkout of one's own, so far as examples write into it, and a home for `make up`."""
    if given.urls():
        pytest.skip("these pages are about servers of their own")
    home = Path("/tmp" if os.geteuid() == 0 else tmp_path) / f"haulage-typed-{secrets.token_hex(4)}"
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    for one in PROJECT.iterdir():
        if one.name not in {"examples", ".venv"}:
            (checkout / one.name).symlink_to(one)
    shutil.copytree(EXAMPLES, checkout / "examples", ignore=shutil.ignore_patterns(".venv", "__pycache__"))
    others = {
        "make up": f"{sys.executable} -m local.up",  # without the set-up before it
        "/tmp/haulage": str(home),
        "8000": str(free_port()),
        "5000": str(free_port()),
    }
    yield Terminal(checkout, home, tmp_path / "output", others)
    subprocess.run(
        [sys.executable, "-m", "local", "clean"],
        cwd=PROJECT,
        env=clean() | {"HAULAGE_HOME": str(home)},
        check=True,
    )


def typed_in(name: str) -> list[str]:
    return re.findall(
        r"^```sh\n(.*?)^```", (EXAMPLES / name / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )


def installed(block: str, python: Path) -> str:
    """Take an environment that is there in the place of one that pip makes."""
    made, count = re.subn(
        r"(?m)^python3 -m venv .venv\n.*pip install.*$", f"ln -s {python.parents[1]} .venv", block
    )
    assert count == 1
    return made


@pytest.mark.prove
@pytest.mark.parametrize(
    ("name", "environment", "says"),
    [
        ("beside-flask", "flask", "Running on"),
        ("beside-django", "beside-django", "Starting development server"),
    ],
)
def test_what_the_readme_of_an_application_beside_says_works_as_typed(
    terminal: Terminal, name: str, environment: str, says: str
) -> None:
    up, prepare, calls = typed_in(name)
    prepare = installed(prepare, environments.interpreter(environment))
    lines = [re.fullmatch(r"(curl .*\S) +# (\d+)\b.*", line) for line in calls.splitlines()]

    with terminal.running(up, says="Haulage is up"), terminal.running(prepare, says=says):
        codes = [
            terminal.run(
                line[1].replace("curl", "curl -s -o answer -w '%{http_code}'"), folder=f"examples/{name}"
            )
            for line in lines
        ]

    assert codes == [line[2] for line in lines]
    assert len(codes) == 4


@pytest.mark.prove
def test_what_the_readme_of_a_task_of_ones_own_says_works_as_typed(terminal: Terminal) -> None:
    up, prepare, environment, worker, beat, write = typed_in("own-task")
    outbox = terminal.home / "outbox"

    with terminal.running(up, says="Haulage is up"):
        terminal.run(prepare)
        with (
            terminal.running(environment, worker, says=" ready."),
            terminal.running(environment, beat, says="is starting"),
        ):
            terminal.run(environment, write)
            wait_until(
                lambda: outbox.exists() and outbox.read_text() == "1 Dear reader\n",
                "it is sent",
                tell=terminal.said,
            )


@pytest.mark.parametrize("name", ["beside-flask", "beside-django"])
def test_the_roles_of_the_examples_are_made_as_the_document_says(name: str) -> None:
    comment, _, statements = (EXAMPLES / name / "role.sql").read_text().partition("\n")

    assert comment.startswith("-- As a superuser")
    assert statements.replace("office", "invoices") == of_the_document("sql", "CREATE ROLE")


@pytest.fixture
def letters(haulage: Haulage, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of the letters, whose table is in the database and whose worker runs."""
    own = EXAMPLES / "own-task"
    haulage.installation.query((own / "schema.sql").read_text())
    environment = {"OUTBOX": str(tmp_path / "outbox"), "PYTHONPATH": f"{own}{os.pathsep}{PROJECT}"}
    haulage.start_worker("-Q", "uploads,resume,upkeep,letters", sample="letters.worker", **environment)
    yield environment
    haulage.installation.query("DROP SCHEMA letters CASCADE")


def python(haulage: Haulage, extra: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**haulage.system.environment, **extra},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


SEND_AGAIN = """
import sys
from letters.tasks import send_letter
for letter in sys.argv[1:] * 20:
    send_letter.apply_async([int(letter)], queue="letters")
"""


def test_a_task_of_ones_own_that_comes_twice_has_one_effect(
    haulage: Haulage, letters: dict[str, str]
) -> None:
    outbox = Path(letters["OUTBOX"])
    words = [f"Dear reader {number}" for number in range(5)]

    written = python(haulage, letters, "-m", "letters.write", *words).split()
    python(haulage, letters, "-c", SEND_AGAIN, *written)

    wait_until(
        lambda: len(re.findall(r"send_letter\[.*succeeded", haulage.log())) == 5 + 5 * 20, "all are through"
    )
    assert sorted(outbox.read_text().splitlines()) == [
        f"{one} {two}" for one, two in zip(written, words, strict=True)
    ]
    assert haulage.installation.query("SELECT state, sends FROM letters.letters") == [("sent", 1)] * 5
    assert haulage.faults_in_logs() == []


def test_a_task_of_ones_own_whose_message_is_lost_is_found_by_its_row(
    haulage: Haulage, letters: dict[str, str]
) -> None:
    haulage.installation.query("INSERT INTO letters.letters (words) VALUES ('lost')")
    haulage.hand_in(3)

    haulage.system.start("beat", BIN / "celery", "-A", "letters.worker", "beat", "--pidfile=", **letters)

    wait_until(
        lambda: haulage.installation.query("SELECT state FROM letters.letters") == [("sent",)], "it is sent"
    )
    haulage.wait_until_stored(3)  # by the same worker


def test_the_queue_of_a_task_of_ones_own_is_no_stranger(haulage: Haulage, letters: dict[str, str]) -> None:
    # Of a priority that Celery does not use: it stays, and nobody stumbles over it.
    with closing(redis.Redis.from_url(haulage.installation.environment["REDIS_URL"])) as client:
        client.rpush("letters\x06\x165", "{}")

    def line(name: str) -> dict[str, str]:
        done = subprocess.run(
            [BIN / "haulage", "doctor", "--json"],
            env=haulage.system.environment,
            capture_output=True,
            text=True,
        )
        return {one["name"]: one for one in json.loads(done.stdout)}[name]

    wait_until(lambda: line("workers")["level"] == "good", "the worker answers")
    wait_until(
        lambda: line("redis-keys")["level"] == "good", "its queue is known", tell=lambda: line("redis-keys")
    )


def test_a_task_of_ones_own_is_seen_in_flower(haulage: Haulage, letters: dict[str, str]) -> None:
    flower = haulage.system.start_flower(free_port(), "user:password")
    (letter,) = python(haulage, letters, "-m", "letters.write", "hello").split()
    seen = {"auth": ("user", "password"), "timeout": 20, "trust_env": False}

    def tasks() -> dict[str, dict[str, str]]:
        return httpx.get(
            f"{flower}/api/tasks", params={"taskname": "letters.tasks.send_letter"}, **seen
        ).json()

    wait_until(
        lambda: [one["state"] for one in tasks().values()] == ["SUCCESS"], "Flower shows it", tell=tasks
    )
    assert [one["args"] for one in tasks().values()] == [f"[{letter}]"]


THEIRS = """
    CREATE SCHEMA corporate;
    CREATE TABLE corporate.vmb_items (
        id serial PRIMARY KEY,
        corp_index integer NOT NULL,
        onedrive_item_id varchar(100) NOT NULL,
        parent_id varchar(100),
        name varchar(255) NOT NULL,
        child_count integer DEFAULT 0,
        size bigint,
        web_url text
    );
    INSERT INTO corporate.vmb_items (corp_index, onedrive_item_id, parent_id, name, child_count, size) VALUES
        (7, '01REPORTS', NULL, 'Reports', 9, NULL),
        (7, '01YEAR', '01REPORTS', '2026', 0, NULL),
        (7, '01FILE', '01YEAR', 'January.pdf', 0, 100);
"""


@pytest.fixture
def adopting(haulage: Haulage, tmp_path: Path) -> Iterator[System]:
    """An installation whose database has a vmb_items of somebody else's, and nothing of ours."""
    servers = haulage.installation.servers
    name = f"adopting_{secrets.token_hex(6)}"
    execute(servers.admin_url, f"CREATE DATABASE {name} OWNER haulage_owner")
    own = {one: in_database(haulage.system.environment[one], name) for one in (
        "DATABASE_URL", "OWNER_DATABASE_URL", "WEB_DATABASE_URL",
    )}  # fmt: skip
    for folder in ("STAGING_DIR", "INBOX_DIR", "DRIVE_DIR"):
        own[folder] = str(tmp_path / "own" / folder)
        Path(own[folder]).mkdir(parents=True)
    ask(own["OWNER_DATABASE_URL"], THEIRS, ())
    haulage.system.environment = {**haulage.system.environment, **own}
    yield haulage.system
    haulage.system.stop()
    execute(servers.admin_url, f"DROP DATABASE {name} WITH (FORCE)")


def migrate(system: System, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / "haulage", "migrate", *options],
        env=system.environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_table_of_ones_own_is_refused_rehearsed_and_adopted(adopting: System) -> None:
    refused = migrate(adopting)
    rehearsed = migrate(adopting, "--adopt", "--dry-run")
    still_refused = migrate(adopting)
    drive = Path(adopting.environment["DRIVE_DIR"])
    assert not (drive / "7").exists()
    adopted = migrate(adopting, "--adopt")
    again = migrate(adopting, "--adopt", "--json")

    assert (refused.returncode, still_refused.returncode, refused.stdout) == (2, 2, "")
    assert refused.stderr == still_refused.stderr
    assert "  - there is no column kind (text)" in refused.stderr.splitlines()
    assert "`haulage migrate --adopt` adds what is missing" in refused.stderr
    assert (rehearsed.returncode, adopted.returncode) == (0, 0), rehearsed.stderr + adopted.stderr
    assert "everything is as it was before" in rehearsed.stdout
    assert set(rehearsed.stdout.splitlines()[:-1]) < set(adopted.stdout.splitlines())
    assert "  - child_count of 01REPORTS of corporation 7: 9, now 1" in adopted.stdout.splitlines()
    assert json.loads(again.stdout)["adopted"]["differences"] == []
    assert (drive / "7").is_dir()
    assert Path(adopting.environment["INBOX_DIR"], "7").is_dir()
    assert "Traceback" not in refused.stderr + adopted.stderr


@pytest.mark.parametrize("folder", ["STAGING_DIR", "INBOX_DIR", "DRIVE_DIR"])
def test_a_directory_that_cannot_be_made_is_told_before_anything_is_adopted(
    adopting: System, tmp_path: Path, folder: str
) -> None:
    sound = adopting.environment[folder]
    (tmp_path / "a-file").touch()
    adopting.environment[folder] = str(tmp_path / "a-file" / "below")

    failed = migrate(adopting, "--adopt", "--json")
    adopting.environment[folder] = sound
    adopted = migrate(adopting, "--adopt", "--json")

    assert (failed.returncode, adopted.returncode) == (2, 0), failed.stderr + adopted.stderr
    assert "Traceback" not in failed.stderr
    assert "a-file" in json.loads(failed.stdout)["error"]["message"]
    assert json.loads(adopted.stdout)["adopted"]["corporations"] == [7], "the first time changed nothing"


def test_the_staging_of_another_installation_is_told_before_anything_is_adopted(
    adopting: System, haulage: Haulage
) -> None:
    own = adopting.environment["STAGING_DIR"]
    adopting.environment["STAGING_DIR"] = str(haulage.installation.staging_dir)

    failed = migrate(adopting, "--adopt")
    adopting.environment["STAGING_DIR"] = own
    adopted = migrate(adopting, "--adopt")

    assert failed.returncode == 2
    assert "is the staging of another database" in failed.stderr
    assert (adopted.returncode, "Put right in corporate.vmb_items:" in adopted.stdout) == (0, True)


def test_what_needs_no_adoption_and_cannot_be_migrated_is_refused_by_adopt_too(adopting: System) -> None:
    ask(
        adopting.environment["OWNER_DATABASE_URL"],
        "DROP TABLE corporate.vmb_items; CREATE TABLE corporate.uploads ()",
        (),
    )

    done = migrate(adopting, "--adopt")

    assert done.returncode == 2
    assert "corporate.uploads is there already" in done.stderr
    assert "Traceback" not in done.stderr


def test_of_many_corrected_counts_the_first_are_shown_and_all_are_told_in_json(adopting: System) -> None:
    many = "SELECT 7, 'n' || n, '01YEAR', 'n' || n, 77 FROM generate_series(1, 25) n"
    ask(
        adopting.environment["OWNER_DATABASE_URL"],
        f"INSERT INTO corporate.vmb_items (corp_index, onedrive_item_id, parent_id, name, child_count) {many}",
        (),
    )

    shown = migrate(adopting, "--adopt", "--dry-run")
    told = json.loads(migrate(adopting, "--adopt", "--json").stdout)["adopted"]["corrected"]

    assert len(told) == 27
    assert "  - and 7 more, which --json tells" in shown.stdout.splitlines()
    assert sum("child_count of" in line for line in shown.stdout.splitlines()) == 20


def test_what_is_adopted_goes_on_as_a_catalogue(adopting: System, haulage: Haulage, tmp_path: Path) -> None:
    assert migrate(adopting, "--adopt").returncode == 0
    owner = adopting.environment["OWNER_DATABASE_URL"]
    ask(owner, of_the_document("sql", "INSERT INTO corporate.vmb_items"), ())
    haulage.start_beat()
    haulage.start_worker()
    (tmp_path / "new.pdf").write_bytes(b"new")

    adopting.run("upload", str(tmp_path / "new.pdf"), "--corp", "7", "--into", "reports/2026")
    adopting.run("upload", str(tmp_path / "new.pdf"), "--corp", "7")

    assert ask(
        owner, "SELECT onedrive_item_id, parent_id, child_count FROM corporate.vmb_items ORDER BY 1", ()
    ) == [
        ("01FEBRUARY", "01YEAR", 0),
        ("01FILE", "01YEAR", 0),
        ("01REPORTS", "7", 1),
        ("01YEAR", "01REPORTS", 3),
        ("01YEAR/new.pdf", "01YEAR", 0),
        ("7", None, 2),
        ("7/new.pdf", "7", 0),
    ]


def test_a_dry_run_of_nothing_is_a_mistake(adopting: System) -> None:
    done = migrate(adopting, "--dry-run")

    assert done.returncode == 2
    assert "--dry-run goes with --adopt" in done.stderr


def test_a_table_that_cannot_be_adopted_is_refused_in_json_too(adopting: System) -> None:
    ask(adopting.environment["OWNER_DATABASE_URL"], "UPDATE corporate.vmb_items SET parent_id = 'gone'", ())

    done = migrate(adopting, "--adopt", "--json")

    assert done.returncode == 2
    assert (
        "a parent_id that no row of their corporation has: 3" in json.loads(done.stdout)["error"]["message"]
    )


def of_the_document(language: str, has: str) -> str:
    """Return the one block of docs/adopting.md that is in this language and has these words."""
    blocks = re.findall(rf"```{language}\n(.*?)```", ADOPTING, re.DOTALL)
    (found,) = [block for block in blocks if has in block]
    return found


def test_the_key_of_a_name_is_computed_as_the_document_says() -> None:
    from app import names

    own: dict[str, object] = {}
    exec(of_the_document("python", "name_key"), own)

    for name in ("Übung.PDF", "U\u0308BUNG.pdf", "ẞ", "ﬁ", "İ", "Σς"):
        assert own["name_key"](name) == names.key(name)  # type: ignore[operator]
