"""What one worker hears of a drive holds for the whole fleet, and is told wherever somebody may look."""

import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import redis

from app import catalogue, queue, tokens, uploads
from app.database import Session, session_scope, short_lived_engine
from app.staging import Staging
from app.uploads import Destination
from app.vault import Vault
from local.system import System
from tests.acceptance.conftest import Haulage, wait_until
from tests.graph.launch import Simulator, running
from tests.installation import CORP, LIBRARY, LIBRARY_CORP, Installation, with_library
from tests.web_server import WebServer, web_server

LARGE = 21 * 2**20  # three fragments


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[Simulator]:
    (tmp_path / "graph").mkdir()
    with running(folder=tmp_path / "graph") as made:
        yield made


@pytest.fixture
def library(
    installation: Installation, simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Haulage]:
    """A fleet of two workers, with one child each, for a drive in a directory and one in a simulator."""
    made = with_library(installation, simulator)
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    made.forget_process_state()
    (tmp_path / "logs").mkdir()
    system = System(tmp_path, os.environ | {"PYTHONUNBUFFERED": "1"}, tmp_path / "logs")
    haulage = Haulage(made, system, made.servers.postgres_log.stat().st_size)
    haulage.start_beat()
    try:
        yield haulage
    finally:
        haulage.kill_all()


def start_fleet(haulage: Haulage, *names: str, **extra: str) -> None:
    for name in names or ("one", "two"):
        haulage.start_worker(name=name, children=1, **extra)


def hand_in(haulage: Haulage, corp_index: int, name: str, size: int = 1000) -> UUID:
    staging = Staging(haulage.installation.staging_dir, 2**40, 0)
    with session_scope() as session:
        root = catalogue.root_id(session, corp_index)
        staged = staging.put([os.urandom(size)])
        upload_id = uploads.register(session, Destination(corp_index, root, (), name), staged).id
    queue.wake([upload_id])
    return upload_id


def column(haulage: Haulage, upload_id: UUID, *names: str) -> tuple[Any, ...]:
    statement = f"SELECT {', '.join(names)} FROM corporate.uploads WHERE id = %s"
    return haulage.installation.query(statement, str(upload_id))[0]


def states(haulage: Haulage, corp_index: int) -> set[str]:
    found = haulage.installation.query(
        "SELECT DISTINCT state FROM corporate.uploads WHERE corp_index = %s", corp_index
    )
    return {state for (state,) in found}


def pause(haulage: Haulage) -> tuple[Any, ...]:
    """Return the reason for which the library pauses, and how long in all; nothing if it does not."""
    found = haulage.installation.query(
        "SELECT reason, extract(epoch FROM paused_until - since)::float FROM corporate.drives"
        " WHERE name = %s AND paused_until > now()",
        LIBRARY,
    )
    return found[0] if found else ()


def wait_for_pause(haulage: Haulage, reason: str) -> None:
    wait_until(lambda: pause(haulage)[:1] == (reason,), reason, 60, lambda: pause(haulage))


def asked(simulator: Simulator) -> list[str]:
    return [f"{one['method']} {one['path']}" for one in simulator.control("GET requests")]


@contextmanager
def stalled(simulator: Simulator, begin: Callable[[], UUID], **fault: Any) -> Iterator[UUID]:
    """Begin an upload, and hold a fragment of it for the length of the block; it goes on at its end."""
    fragment = {"method": "PUT", "path": "uploadSession"}
    simulator.control("POST faults", action="stall", name="held", **fragment, **fault)
    begun = begin()  # last: a worker that is up has a file of two fragments through in no time
    wait_until(lambda: simulator.control("GET stalls", name="held", wait=20), "the request is stalled")
    yield begun
    simulator.control("POST release", name="held")


def throttle(simulator: Simulator, **headers: str) -> None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    refusal = {"status": 429, "code": "activityLimitReached", "headers": named}
    simulator.control("POST faults", method="PUT", path="small.*content", action="answer", **refusal)


def test_what_one_worker_hears_both_keep_to_and_another_drive_goes_on(
    library: Haulage, simulator: Simulator
) -> None:
    start_fleet(library)
    throttle(simulator, Retry_After="600")
    with stalled(simulator, lambda: hand_in(library, LIBRARY_CORP, "large", LARGE), when="before") as large:
        small = hand_in(library, LIBRARY_CORP, "small")
        wait_for_pause(library, "drive_throttled")
        assert 590 < pause(library)[1] <= 600
        asked_before = asked(simulator)
    waiting = [small, large, *(hand_in(library, LIBRARY_CORP, f"later {n}") for n in range(5))]
    elsewhere = [hand_in(library, CORP, f"file {n}") for n in range(5)]

    wait_until(lambda: states(library, CORP) == {"stored"}, "the other drive goes on")
    for one in waiting:
        wait_until(lambda one=one: column(library, one, "reason") == ("drive_throttled",), "it was put off")
    told = [column(library, one, "state", "attempts", "due_at > now() + interval '500 s'") for one in waiting]
    assert told == [("queued", 0, True)] * len(waiting)
    assert len(elsewhere) == 5
    assert asked(simulator) == asked_before, "nobody asked while it paused"
    assert column(library, large, "transferred")[0] == 10 * 2**20, "what had come of it is kept"

    library.system.run("drive", "resume", LIBRARY)

    wait_until(lambda: states(library, LIBRARY_CORP) == {"stored"}, "all is stored")
    assert [column(library, one, "attempts") for one in waiting] == [(1,)] * len(waiting)
    fragments = [one for one in asked(simulator) if "uploadSession" in one and one.startswith("PUT")]
    assert len(fragments) == 3, "none was sent twice"


@pytest.mark.prove
@pytest.mark.parametrize(
    ("headers", "least"), [({"Retry_After": "3"}, 3), ({"Retry_After": "1", "RateLimit_Reset": "4"}, 4)]
)
def test_a_pause_is_over_by_itself_when_it_was_said_to_be(
    library: Haulage, simulator: Simulator, headers: dict[str, str], least: int
) -> None:
    start_fleet(library)
    throttle(simulator, **headers)
    hand_in(library, LIBRARY_CORP, "small")
    wait_for_pause(library, "drive_throttled")
    for number in range(20):
        hand_in(library, LIBRARY_CORP, f"later {number}")

    wait_until(lambda: states(library, LIBRARY_CORP) == {"stored"}, "all is stored")

    [(lasted, too_early)] = library.installation.query(
        "SELECT extract(epoch FROM d.paused_until - d.since)::float, count(e.id) FILTER (WHERE e.at < d.paused_until)"
        " FROM corporate.drives d, corporate.upload_events e"
        " WHERE e.kind = 'transferring' AND e.at > d.since + interval '100 ms' GROUP BY 1"
    )
    assert (least <= lasted < least + 1, too_early) == (True, 0)
    assert set(library.attempts()) == {1}


# A drive that stops: told wherever somebody may look, tried again by itself, mended


def assert_told_everywhere(library: Haulage, reason: str, says: str) -> None:
    """Look at every place that tells of a drive that has stopped."""
    fresh = hand_in(library, LIBRARY_CORP, "never tried")
    run = library.system.run
    told = json.loads(run("status", "--corp", str(LIBRARY_CORP), "--json"))["drive"]
    assert (told["name"], told["paused"]["reason"]) == (LIBRARY, reason)
    assert reason in run("status", "--corp", str(LIBRARY_CORP))
    assert reason in run("status", str(fresh), "--corp", str(LIBRARY_CORP))
    assert reason in run("uploads", "--corp", str(LIBRARY_CORP))
    assert f"{reason}: " in run("drive", "list")
    listed = {one["name"]: one for one in json.loads(run("drive", "list", "--json"))}
    assert listed[LIBRARY]["paused"]["reason"] == reason
    assert listed["filesystem"]["paused"] is None
    with web_server(library.installation) as web:
        assert_web_tells(web, fresh, reason, says)


def assert_web_tells(web: WebServer, fresh: UUID, reason: str, says: str) -> None:
    installation = web.installation
    engine = short_lived_engine(installation.environment["OWNER_DATABASE_URL"])
    with Session(engine) as session, session.begin():
        mine, operator = tokens.create(session, LIBRARY_CORP, "test"), tokens.create(session, None, "test")
    address = f"/api/v1/corporations/{LIBRARY_CORP}/uploads"
    with web.client(mine) as client:
        assert client.get(f"{address}/{fresh}").json()["reason"] == reason
        assert {one["reason"] for one in client.get(address).json()["uploads"]} == {reason}
        assert says in client.get("/files").text
    with web.client() as client:
        assert "Files are not stored" not in client.get("/files").text, "another corporation's drive is well"
    with web.client(operator) as client:
        assert reason in client.get("/operations").text
        figures = client.get("/metrics").text
    assert f'haulage_drive_paused{{drive="{LIBRARY}",reason="{reason}"}} 1.0' in figures


def try_again(library: Haulage) -> None:
    """Let the pause be over, as if its minutes had passed: what was told stays told."""
    library.installation.query("UPDATE corporate.drives SET paused_until = now()")
    library.installation.query("UPDATE corporate.uploads SET due_at = now() WHERE state = 'queued'")


def stop_and_mend(library: Haulage, reason: str, says: str, mend: Any) -> None:
    first = hand_in(library, LIBRARY_CORP, "first", LARGE)
    wait_for_pause(library, reason)
    assert 290 < pause(library)[1] <= 300, "tried again by itself, slowly"
    wait_until(lambda: column(library, first, "state") == ("queued",), "its attempt has ended")
    assert_told_everywhere(library, reason, says)
    elsewhere = hand_in(library, CORP, "elsewhere")
    wait_until(lambda: column(library, elsewhere, "state") == ("stored",), "the other drive goes on")

    for _ in range(3):  # more often than an upload has attempts in these tests
        since = library.installation.query("SELECT paused_until FROM corporate.drives")
        try_again(library)
        wait_until(lambda since=since: pause(library) and since != pause(library), "it has stopped again")
    begun = library.installation.query("SELECT now() - since < interval '5 minutes' FROM corporate.drives")
    assert begun == [(True,)]
    mend()
    library.system.run("drive", "resume", LIBRARY)

    wait_until(lambda: states(library, LIBRARY_CORP) == {"stored"}, "all is stored", 60, library.states)
    assert set(library.attempts()) == {1}, "no attempt was burnt"


@pytest.mark.prove
def test_a_full_drive_stops_and_goes_on_once_there_is_room(library: Haulage, simulator: Simulator) -> None:
    start_fleet(library, MAX_ATTEMPTS="2")
    simulator.control("POST drive", quota=1000)

    stop_and_mend(
        library,
        "drive_full",
        "the drive is full: make room, or raise its quota",
        lambda: simulator.control("POST drive", quota=2**40),
    )


@pytest.mark.prove
def test_a_wrong_secret_stops_the_drive_until_it_is_put_right(library: Haulage, simulator: Simulator) -> None:
    wrong = {"a secret of another day": None}
    simulator.control("POST client", id=simulator.client_id, secrets=wrong)
    simulator.control("POST tokens", action="revoke")
    start_fleet(library, MAX_ATTEMPTS="2")

    stop_and_mend(
        library,
        "drive_refuses",
        "the client secret is wrong",
        lambda: simulator.control(
            "POST client", id=simulator.client_id, secrets={simulator.client_secret: None}
        ),
    )


@pytest.mark.prove
def test_an_item_of_a_drive_that_stops_waits_in_its_queue_and_holds_up_no_other(
    library: Haulage, simulator: Simulator
) -> None:
    """Its message is all there is; and it must not keep the only child from another drive."""
    simulator.control("POST folder", path=f"Haulage/{LIBRARY_CORP}/made elsewhere")
    [made] = [one for one in simulator.control("GET tree") if one["path"].endswith("/made elsewhere")]
    halt = (
        "INSERT INTO corporate.drives VALUES (%s, now() + interval '1 hour', 'drive_refuses', 'stops', now())"
    )
    library.installation.query(halt, LIBRARY)
    with session_scope() as session:
        root = catalogue.root_id(session, LIBRARY_CORP)
    start_fleet(library, "one")
    given = [LIBRARY_CORP, made["id"], root, "made elsewhere", "folder"]
    queue.celery.send_task(queue.RECORD_ITEM, args=given, queue="uploads")
    wait_until(lambda: "this task waits" in library.log("one"), "the item waits")

    elsewhere = hand_in(library, CORP, "elsewhere")
    wait_until(lambda: column(library, elsewhere, "state") == ("stored",), "the other drive goes on", 60)
    library.system.run("drive", "resume", LIBRARY)

    recorded = "SELECT onedrive_item_id FROM corporate.vmb_items WHERE corp_index = %s AND parent_id = %s"
    wait_until(
        lambda: library.installation.query(recorded, LIBRARY_CORP, root) == [(made["id"],)],
        "it is recorded",
        60,
    )


# Transfers in a session that do not come to their end


@pytest.mark.prove
def test_a_transfer_that_is_cancelled_leaves_neither_session_nor_bytes(
    library: Haulage, simulator: Simulator
) -> None:
    start_fleet(library, "one")
    with stalled(
        simulator, lambda: hand_in(library, LIBRARY_CORP, "large", LARGE), when="after", nth=2
    ) as large:
        library.system.run("cancel", str(large), "--corp", str(LIBRARY_CORP))

    wait_until(lambda: column(library, large, "state") == ("cancelled",), "it is cancelled")
    wait_until(lambda: column(library, large, "cleanup_due_at") == (None,), "it is cleaned up")
    assert [one["state"] for one in simulator.control("GET sessions")] == ["cancelled"]
    assert not [one for one in simulator.control("GET tree") if not one["folder"]]
    assert column(library, large, "staged_id", "drive_session", "reserved_name") == (None, None, None)


@pytest.mark.prove
@pytest.mark.parametrize("nth", [2, 3])
def test_a_worker_that_wakes_in_the_middle_of_a_session_that_is_another_ones_by_then(
    library: Haulage, simulator: Simulator, nth: int
) -> None:
    """Stopped in its second fragment, and in the last: past the last question whether it still may."""
    start_fleet(library, "one")
    with stalled(
        simulator, lambda: hand_in(library, LIBRARY_CORP, "large", LARGE), when="head", nth=nth
    ) as large:
        zombie = library.holder(large)
        assert zombie is not None
        os.kill(zombie, signal.SIGSTOP)
        library.installation.query("UPDATE corporate.uploads SET due_at = now() WHERE state = 'transferring'")
        start_fleet(library, "two")
        wait_until(lambda: states(library, LIBRARY_CORP) == {"stored"}, "another worker has stored it")
    os.kill(zombie, signal.SIGCONT)

    wait_until(lambda: library.was_fenced(large), "the zombie has noticed")
    [there] = [one for one in simulator.control("GET tree") if not one["folder"]]
    assert (there["sha256"],) == column(library, large, "sha256")
    assert library.installation.query(
        "SELECT count(*) FROM corporate.upload_events WHERE kind = 'stored'"
    ) == [(1,)]
    assert [one["state"] for one in simulator.control("GET sessions")] == ["finished"]


# What is counted, and what is nowhere to be read


@pytest.mark.prove
def test_what_is_asked_is_counted_as_the_drive_counts_it(library: Haulage, simulator: Simulator) -> None:
    def spent() -> tuple[int, int]:
        units = simulator.control("GET throttle")[simulator.client_id]["day"]
        login = re.compile("oauth2|well-known")  # which has no units
        return len([one for one in asked(simulator) if not login.search(one)]), units

    before = spent()
    start_fleet(library, "one")
    for number in range(3):
        hand_in(library, LIBRARY_CORP, f"small {number}")
    with stalled(
        simulator, lambda: hand_in(library, LIBRARY_CORP, "large", LARGE), when="after", nth=2
    ) as large:
        library.system.run("cancel", str(large), "--corp", str(LIBRARY_CORP))  # the clean-up asks, too
    wait_until(lambda: column(library, large, "cleanup_due_at") == (None,), "it is cleaned up")
    library.system.stop("one")

    noted = library.installation.query(
        "SELECT sum(requests)::int, sum(units)::int FROM corporate.drive_requests WHERE drive = %s", LIBRARY
    )[0]
    after = spent()
    assert noted == (after[0] - before[0], after[1] - before[1])
    told = listed_of_last_minute(library)
    assert told == {"requests": noted[0], "units": noted[1], "units_allowed": 1250}


def listed_of_last_minute(library: Haulage) -> dict[str, int]:
    """Return what `drive list` says if all that was noted had been in the last minute."""
    minute = "SELECT date_trunc('minute', now())"
    while True:
        began = library.installation.query(minute)
        library.installation.query(
            "UPDATE corporate.drive_requests SET minute = date_trunc('minute', now()) - interval '1 minute'"
        )
        listed = {one["name"]: one for one in json.loads(library.system.run("drive", "list", "--json"))}
        if library.installation.query(minute) == began:  # else the last minute is another one by now
            return dict(listed[LIBRARY]["last_minute"])


class Canary:
    """Everything that was written down anywhere, to be searched for what must not be in it."""

    def __init__(self, library: Haulage) -> None:
        self.library = library
        self.texts: dict[str, str] = {}

    def rows(self) -> None:
        ask = self.library.installation.query
        for (table,) in ask("SELECT tablename FROM pg_tables WHERE schemaname = 'corporate'"):
            found = ask(f"SELECT t::text FROM corporate.{table} t")
            self.texts[f"{table} {len(self.texts)}"] = "\n".join(row for (row,) in found)

    def messages(self) -> None:
        broker = redis.Redis.from_url(self.library.installation.servers.redis_url)
        for key in broker.scan_iter():
            self.texts[f"Redis {key!r}"] = repr(broker.dump(key)) + repr(key)

    def logs(self) -> None:
        for path in self.library.system.logs.glob("*.log"):
            self.texts[path.name] = path.read_text()
        self.texts["PostgreSQL"] = self.library.server_log()

    def finds(self, secret: str) -> list[str]:
        return [place for place, text in self.texts.items() if secret in text]


TROUBLES: tuple[dict[str, Any], ...] = (
    {"method": "PUT", "action": "cut", "when": "body", "bytes": 400_000},
    {"method": "PUT", "action": "answer", "status": 404, "code": "itemNotFound"},
    {"method": "PUT", "action": "answer", "status": 400, "code": "invalidRequest"},
    {"method": "PUT", "action": "answer", "status": 200, "body": "<html>"},
    {"method": "PUT", "action": "cut", "when": "after", "nth": 2},
)


@pytest.mark.prove
def test_secrets_and_upload_addresses_are_nowhere_to_be_read(library: Haulage, simulator: Simulator) -> None:
    canary = Canary(library)
    library.start_worker("-l", "debug", name="talkative")
    for number, trouble in enumerate(TROUBLES):
        simulator.control("POST faults", path="uploadSession", **trouble)
        one = hand_in(library, LIBRARY_CORP, f"large {number}", 11 * 2**20)
        wait_until(lambda one=one: column(library, one, "began_at") != (None,), "it has begun")
        for _ in range(20):
            canary.rows()
    wait_until(lambda: {one["struck"] for one in simulator.control("GET faults")} == {1}, "all struck")
    with stalled(
        simulator, lambda: hand_in(library, LIBRARY_CORP, "left", LARGE), when="after", nth=2
    ) as left:
        [sealed] = column(library, left, "drive_session")
        canary.rows()
        library.system.run("cancel", str(left), "--corp", str(LIBRARY_CORP))
    simulator.process.kill()  # the clean-up finds nobody there, and says so
    wait_until(lambda: "its traces could not be removed" in library.log("talkative"), "it has said so")
    look_everywhere(canary, library)

    session = Vault([library.installation.environment["SESSION_KEYS"]]).open(sealed)
    assert session is not None and set(sealed) == {"sealed"}  # noqa: PT018
    address, tempauth = session["url"].split("tempauth=")
    assert canary.finds("uploadSession") == [], "no part of an address"
    for secret in (address, tempauth, TOKEN, simulator.client_secret, KEY_NAME):
        assert canary.finds(secret) == [], secret[:20]
    assert len(canary.finds(str(left))) > 5, "what may be read is found by this very search"


TOKEN = "eyJ0eXAiOiJKV1QifQ."  # how each of the simulator's tokens begins
KEY_NAME = "client_secret="


def look_everywhere(canary: Canary, library: Haulage) -> None:
    canary.rows()
    canary.messages()
    canary.logs()
    for command in (("status",), ("uploads", "--all"), ("uploads", "--json")):
        canary.texts[" ".join(command)] = library.system.run(*command, "--corp", str(LIBRARY_CORP))
    canary.texts["drive list"] = library.system.run("drive", "list", "--json")
    with web_server(library.installation) as web:
        engine = short_lived_engine(library.installation.environment["OWNER_DATABASE_URL"])
        with Session(engine) as session, session.begin():
            mine, operator = tokens.create(session, LIBRARY_CORP, "a"), tokens.create(session, None, "b")
        pages = {mine: ("/files", f"/api/v1/corporations/{LIBRARY_CORP}/uploads")}
        for token, addresses in (pages | {operator: ("/operations", "/metrics")}).items():
            with web.client(token) as client:
                for address in addresses:
                    canary.texts[address] = client.get(address).text
        canary.texts["the web's log"] = web.log.read_text()
