"""What the doctor of an installation makes of what it sees, without anything running."""

import json
import re
import runpy
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from redis.exceptions import NoPermissionError

from app.cli.main import haulage
from app.diagnosis import broker, certificates, clocks, disks, environment, findings, flower, workers
from app.diagnosis.examination import NAMES
from app.diagnosis.findings import Check, Finding, Level, Secrets, bad, good, run
from app.figures import Connection
from app.settings import Settings, settings
from local.home import PROJECT

PAGE = (PROJECT / "docs" / "installation-doctor.md").read_text()
ENVIRONMENT = {
    "DATABASE_URL": "postgresql://worker:s3cret@db.example/x",
    "REDIS_URL": "redis://:s3cret@127.0.0.1:1/0",
    "STAGING_DIR": "/srv/staging",
    "INBOX_DIR": "/srv/inbox",
    "DRIVE_DIR": "/srv/drive",
}


def chosen(**overrides: Any) -> Settings:
    return Settings(**{name.lower(): value for name, value in ENVIRONMENT.items()} | overrides)


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    yield
    settings.cache_clear()


# The page


def test_every_line_stands_in_the_page_and_no_other() -> None:
    assert set(re.findall(r"^\| `([a-z-]+)` \|", PAGE, re.MULTILINE)) == set(NAMES)


def test_the_page_says_what_a_line_that_is_not_good_wants() -> None:
    rows = re.findall(r"^\| `[a-z-]+` \|(.*)\|(.*)\|$", PAGE, re.MULTILINE)

    assert len(rows) == len(NAMES)
    assert all(means.strip() and do.strip() for means, do in rows)


# A row of checks


def fails() -> Any:
    raise RuntimeError("postgresql://worker:s3cret@db\nis not there")


def levels(found: list[Finding]) -> dict[str, str]:
    return {one.name: str(one.level) for one in found}


def test_a_look_that_fails_hides_no_other() -> None:
    found = run([Check("one", fails), Check("two", lambda: good("fine"))])

    assert levels(found) == {"one": "bad", "two": "good"}
    assert "RuntimeError" in found[0].found


def test_what_depends_on_a_gate_that_is_bad_is_said_to_be_not_examined() -> None:
    row = [
        Check("gate", lambda: bad("away", "Start it."), is_gate=True),
        Check("behind", lambda: good("fine")),
    ]

    found = run(row)

    assert levels(found) == {"gate": "bad", "behind": "warning"}
    assert (found[1].found, found[1].do) == (
        "not examined: it depends on gate",
        "Mend gate first, then look again.",
    )


def test_a_bad_line_that_is_no_gate_hides_nothing() -> None:
    found = run([Check("one", lambda: bad("x", "y")), Check("two", lambda: good("fine"))])

    assert levels(found) == {"one": "bad", "two": "good"}


def test_a_look_that_hangs_is_left_behind() -> None:
    end = threading.Event()
    row = [
        Check("hangs", lambda: good(str(end.wait())), seconds=0.1),
        Check("after", lambda: good("fine")),
        Check("gate", lambda: good(str(end.wait())), is_gate=True, seconds=0.1),
        Check("behind", lambda: good("fine")),
    ]

    found = run(row)
    end.set()

    assert levels(found) == {"hangs": "bad", "after": "good", "gate": "bad", "behind": "warning"}
    assert "no answer within" in found[0].found
    assert found[3].found == "not examined: it depends on gate"


# Secrets


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://u:pass-word@host/db", "for pass-word"),
        ("postgresql://u:p%40ss-word@host/db", "for p@ss-word or p%40ss-word"),
        ("postgresql://u:pa@ss-word@host/db", 'could not translate host name "ss-word"'),
        ("redis://:sec/ret-part@host/0", "Port could not be cast to integer value as 'ret-part'"),
        ("postgresql:///db?host=/run&password=pass-word", "pass-word"),
        ("rediss://host/0?ssl_password=pass-word&x=1", "pass-word"),
        ("user:pass-word", "pass-word is short"),
    ],
)
def test_no_part_of_a_password_is_shown(url: str, said: str) -> None:
    hidden = Secrets([url, None]).hide(said)

    assert not re.search("pass|word|ret-part", hidden.replace("host name", ""))
    assert "***" in hidden


def test_what_is_no_secret_stays() -> None:
    assert Secrets(["postgresql://u:pw@host/db", "redis://host:1/0"]).hide("host 1 u db") == "host 1 u db"


def test_a_short_password_hides_no_part_of_other_words() -> None:
    hidden = Secrets(["postgresql://u:postgres@host/db", "redis://:a@host/0"])

    assert hidden.hide("postgresql, a port; postgres") == "postgresql, *** port; ***"


def test_what_moves_the_cursor_is_escaped() -> None:
    assert Secrets([]).hide("a\x1b[2Jb\u202e") == "a\\u001b[2Jb\\u202e"


# Settings


def test_every_problem_of_the_environment_is_a_line_and_nothing_else_is_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("REDIS_URL", "http://:s3cret@x")
    settings.cache_clear()

    ended = CliRunner().invoke(haulage, ["doctor", "--json"])

    told = json.loads(ended.stdout)
    assert ended.exit_code == 1
    assert {one["name"] for one in told} == {"settings"}
    assert {one["level"] for one in told} == {"bad"}
    assert [one["found"].split()[0] for one in told] == [
        "DATABASE_URL", "REDIS_URL:", "STAGING_DIR", "INBOX_DIR", "DRIVE_DIR", "nothing",
    ]  # fmt: skip
    assert "s3cret" not in ended.output
    assert all(one["do"] for one in told)


def test_a_variable_that_is_nearly_a_setting_is_told_without_its_value() -> None:
    found = environment.settings(
        {**ENVIRONMENT, "LEASE_SECOND": "s3cret", "WEB_DATABASE_URL": "x", "PATH": "y"}
    )

    assert found.level is Level.WARNING
    assert found.found.endswith("LEASE_SECOND is none, LEASE_SECONDS is one")
    assert environment.settings({**ENVIRONMENT, "WEB_DATABASE_URL": "x"}).level is Level.GOOD


# Limits

CHAIN = {"soft": 1260.0, "hard": 1320.0, "visibility": 3600.0}


def test_the_longest_call_is_the_one_of_celeryconfig(there: None) -> None:
    found = runpy.run_path(str(PROJECT / "celeryconfig.py"))

    assert found["LONGEST_CALL_SECONDS"] == environment.LONGEST_CALL_SECONDS


def test_the_limits_of_the_defaults_are_good() -> None:
    assert environment.limits(chosen(), **CHAIN).level is Level.GOOD


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"soft": 900.0}, "task_soft_time_limit only 900 s"),
        ({"hard": 1260.0}, "task_time_limit only 1260 s"),
        ({"visibility": 600.0}, "visibility_timeout only 600 s"),
    ],
)
def test_a_link_of_the_chain_that_is_too_short_is_bad(changed: dict[str, float], named: str) -> None:
    found = environment.limits(chosen(), **CHAIN | changed)

    assert found.level is Level.BAD
    assert named in found.found
    assert "celeryconfig.py" in found.do


# Clocks


@pytest.mark.parametrize(
    ("theirs", "level"),
    [(1000.4, "good"), (998.0, "warning"), (1003.0, "warning"), (1031.0, "bad"), (900.0, "bad")],
)
def test_clocks_are_judged_by_their_distance(theirs: float, level: str) -> None:
    assert clocks.apart(theirs, 1000.0, 1000.2, "Its").level == level


def test_a_slow_answer_is_no_distance() -> None:
    assert clocks.apart(1000.0, 1000.0, 1006.0, "Its").level is Level.GOOD


# Redis


@pytest.mark.parametrize(
    ("info", "level"),
    [
        ({"redis_version": "7.0.15"}, "good"),
        ({"redis_version": "7.2.4", "valkey_version": "9.1.2"}, "good"),
        ({"redis_version": "6.0.16"}, "warning"),
        ({"redis_version": "5.0.7"}, "warning"),
    ],
)
def test_an_old_redis_is_told(info: dict[str, str], level: str) -> None:
    assert broker.version(info).level == level


@pytest.mark.parametrize(
    ("url", "level", "says"),
    [
        ("redis://:s3cret@127.0.0.1:6379/0", "good", "does not leave this machine"),
        ("redis://:s3cret@localhost/0", "good", "does not leave this machine"),
        ("redis://localhost/0", "warning", "no password"),
        ("redis://:s3cret@10.0.0.7:6379/0", "warning", "10.0.0.7 without TLS"),
        ("redis://:s3cret@redis.example/0", "warning", "redis.example without TLS"),
        ("rediss://:s3cret@redis.example/0", "good", "encrypted"),
        ("rediss://redis.example/0?ssl_cert_reqs=required", "warning", "no password"),
        ("rediss://redis.example/0?ssl_cert_reqs=required&ssl_certfile=/own.crt", "good", "encrypted"),
    ],
)
def test_redis_without_tls_is_told_unless_it_is_on_this_machine(url: str, level: str, says: str) -> None:
    found = broker.encryption(url)

    assert found.level == level
    assert says in found.found
    assert "s3cret" not in str(found)


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The queues that this process knows of, apart from Celery's settings: those want a whole environment."""
    queues: list[Any] = []
    monkeypatch.setattr(broker.queue, "celery", SimpleNamespace(conf=SimpleNamespace(task_queues=queues)))
    return queues


@pytest.mark.parametrize(
    "key",
    ["uploads", "upkeep\x06\x169", "unacked_index", "_kombu.binding.celery.pidbox", "celery-task-meta-1", "celeryev.x",
     "0b9f.reply.celery.pidbox"],
)  # fmt: skip
def test_what_celery_keeps_is_known(key: str, declared: list[Any]) -> None:
    assert broker.known_keys([]).fullmatch(key)


@pytest.mark.parametrize("key", ["session:1", "uploads2", "cache", "celery"])
def test_what_others_keep_is_not(key: str, declared: list[Any]) -> None:
    assert not broker.known_keys([]).fullmatch(key)


def test_the_queues_of_tasks_of_ones_own_are_no_strangers(declared: list[Any]) -> None:
    theirs = workers.Seen(
        tasks={"a@x": {*workers.TASKS, "letters.send"}, "b@x": {"shop.mail"}},
        queues={"a@x": {"uploads", "letters"}, "b@x": {"shop"}, "too-slow@x": {"images"}},
    )

    known = broker.known_keys(theirs.queues_of_ours())

    assert [name for name in ("letters", "letters\x06\x163", "images", "shop") if known.fullmatch(name)] == [
        "letters", "letters\x06\x163", "images",
    ]  # fmt: skip


def test_the_queues_that_are_declared_here_are_no_strangers(declared: list[Any]) -> None:
    declared.append(SimpleNamespace(name="letters"))

    assert broker.known_keys([]).fullmatch("letters")


def test_what_a_redis_user_may_not_ask_is_not_examined(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_client: object) -> Any:
        raise NoPermissionError("this user has no permissions to run the 'info' command")

    connection = SimpleNamespace(default_channel=SimpleNamespace(client=None))
    monkeypatch.setattr(broker, "connected", lambda _url: nullcontext(connection))

    assert "not examined" in broker.asked("redis://x", refused).found


# Where certificates are shown


@pytest.mark.parametrize(
    ("where", "hosts"),
    [
        ("h1:6432/db", [("h1", 6432)]),
        ("h1/db", [("h1", 5432)]),
        ("/db?host=h1&port=6432", [("h1", 6432)]),
        ("/db?host=h1,h2&port=5432,5433", [("h1", 5432), ("h2", 5433)]),
        ("/db?host=h1:1&host=h2:2", [("h1", 1), ("h2", 2)]),
        ("/db?host=h1&host=h2", [("h1", 5432), ("h2", 5432)]),
        ("[::1]:7/db", [("::1", 7)]),
    ],
)
def test_postgresql_is_looked_for_where_libpq_looks(where: str, hosts: list[tuple[str, int]]) -> None:
    found = certificates._of_postgres(f"postgresql://u:p@{where}")

    assert [(one.host, one.port) for one in found] == hosts


# File systems

MOUNTS = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:27 / /mnt/a\\040drive rw,relatime shared:3 - vfat /dev/sdb1 rw
31 22 0:28 / /mnt rw - cifs //server/share rw
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [("/srv", "ext4"), ("/mnt/a drive/x", "vfat"), ("/mnt/other", "cifs"), ("/mntx", "ext4")],
)
def test_the_file_system_of_a_directory_is_the_one_mounted_nearest(folder: str, kind: str) -> None:
    assert disks.file_system(disks.Path(folder), MOUNTS) == kind


@pytest.mark.parametrize(("kind", "level"), [("vfat", "bad"), ("cifs", "warning"), ("xfs", "good")])
def test_a_drive_without_hard_links_is_told(
    kind: str, level: str, tmp_path: disks.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disks, "file_system", lambda *_: kind)

    found = disks.drive("DRIVE_DIR", tmp_path)

    assert found.level == level
    assert kind in found.found


@pytest.mark.parametrize("name", ["drive", "inbox"])
def test_a_directory_that_this_user_may_not_use_is_bad(
    name: str, tmp_path: disks.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = {
        "drive": partial(disks.drive, "DRIVE_DIR"),
        "inbox": lambda folder: disks.inbox(chosen(inbox_dir=folder)),
    }[name]
    assert look(tmp_path).level is Level.GOOD
    monkeypatch.setattr(disks.os, "access", lambda *_: False)  # root may do everything

    found = look(tmp_path)

    assert found.level is Level.BAD
    assert "this user may not" in found.found
    assert "chown" in found.do


@pytest.mark.parametrize(
    ("changed", "level"),
    [
        ({}, "good"),
        ({"f_bavail": 90}, "warning"),
        ({"f_bavail": 0}, "bad"),
        ({"f_favail": 1}, "warning"),
        ({"f_favail": 0}, "bad"),
        ({"f_blocks": 0, "f_bavail": 0}, "good"),  # does not tell
        ({"f_files": 0, "f_favail": 0}, "good"),  # has no such thing
    ],
)
def test_room_is_judged_by_its_share(
    changed: dict[str, int], level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = {"f_bavail": 500, "f_blocks": 1000, "f_frsize": 4096, "f_files": 1000, "f_favail": 900} | changed
    monkeypatch.setattr(disks.os, "statvfs", lambda _: type("Room", (), room))

    assert disks.space(disks.Path("/srv"), 0).level == level


# Workers

WORKER = workers.Worker("worker@here", frozenset({10, 11, 12}), 2, 1260.0, 1320.0)
SEEN = workers.Seen(
    workers=[WORKER],
    tasks={"worker@here": set(workers.TASKS)},
    queues={"worker@here": {"uploads", "resume", "upkeep"}},
    versions={"worker@here": "5.7.0"},
)


def session(process: int, host: str = "here") -> Connection:
    return Connection(process, "worker", host, 1, None, None, None, None)


def test_a_sound_worker_is_good() -> None:
    verdicts = [
        workers.queues(SEEN),
        workers.tasks(SEEN),
        workers.versions(SEEN),
        workers.limits(chosen(), SEEN),
    ]

    assert {one.level for one in verdicts} == {Level.GOOD}


def test_a_queue_that_nobody_reads_is_bad() -> None:
    found = workers.queues(replace(SEEN, queues={"worker@here": {"uploads"}}))

    assert (found.level, found.found) == (Level.BAD, "no worker reads resume, upkeep")


def test_a_worker_of_another_application_is_bad() -> None:
    found = workers.tasks(replace(SEEN, tasks={"celery@shop": {"shop.tasks.mail"}}))

    assert found.level is Level.BAD
    assert found.found.startswith("celery@shop does not know 7 of our tasks (tasks.catalogue.record_item)")


@pytest.mark.parametrize(
    ("look", "unheard"),
    [("queues", {"queues": {}}), ("tasks", {"tasks": {}}), ("versions", {"versions": {}})],
)
def test_a_worker_that_was_too_slow_for_a_question_is_not_accused(look: str, unheard: dict[str, Any]) -> None:
    found = getattr(workers, look)(replace(SEEN, **unheard))

    assert (found.level, found.found) == (
        Level.WARNING,
        "not examined: worker@here did not answer this in time",
    )


def test_another_celery_is_a_warning() -> None:
    found = workers.versions(replace(SEEN, versions={"worker@here": "5.7.0", "old@there": "5.3.1"}))

    assert (found.level, found.found) == (Level.WARNING, "old@there has Celery 5.3.1, this release 5.7.0")


@pytest.mark.parametrize(
    ("soft", "hard", "level"), [(300.0, 360.0, "bad"), (1260.0, 1200.0, "bad"), (0.0, 1320.0, "warning")]
)
def test_a_worker_with_limits_of_its_own_is_told(soft: float, hard: float, level: str) -> None:
    found = workers.limits(chosen(), replace(SEEN, workers=[replace(WORKER, soft=soft, hard=hard)]))

    assert found.level == level
    assert "worker@here" in found.found


@pytest.mark.parametrize(
    ("names", "level"), [(["a@x", "b@x"], "good"), (["a@x", "a@x"], "warning"), ([], "bad")]
)
def test_workers_of_one_name_are_told(names: list[str], level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = workers.Seen()
    found = [replace(WORKER, name=name) for name in names]
    monkeypatch.setattr(workers, "ask", lambda _url, seen: seen.workers.extend(found))

    assert workers.workers("redis://x", seen, list).level == level


def test_a_session_belongs_to_the_worker_of_its_process_and_host() -> None:
    there = replace(WORKER, name="worker@there", processes=frozenset({10, 20}))
    both = replace(SEEN, workers=[WORKER, there])

    assert both.is_answered_for(session(11, "here"))
    assert both.is_answered_for(session(20, "there"))
    assert not both.is_answered_for(session(20, "here"))  # in containers, all hosts have the same few numbers
    assert both.is_answered_for(session(20, "a-host-that-no-worker-is-named-after"))
    assert not both.is_answered_for(session(99, "here"))


# Flower


@pytest.mark.parametrize(
    ("variables", "level"),
    [
        ({}, "good"),
        ({"FLOWER_BASIC_AUTH": "ann:long-enough-for-anyone"}, "good"),
        ({"FLOWER_BASIC_AUTH": "ann:s3cret"}, "warning"),
        ({"FLOWER_BASIC_AUTH": "ann:long-enough-for-anyone,bob:s3cret"}, "warning"),
        ({"FLOWER_BASIC_AUTH": "s3cret"}, "warning"),
        ({"FLOWER_ADDRESS": "0.0.0.0"}, "warning"),
        ({"FLOWER_ADDRESS": "localhost"}, "good"),
        ({"FLOWER_UNAUTHENTICATED_API": "true"}, "bad"),
    ],
)
def test_what_the_environment_says_of_flower_is_judged(variables: dict[str, str], level: str) -> None:
    found = flower.flower({"FLOWER_PORT": "1"} | variables)

    assert found.level == level
    assert "s3cret" not in str(found)


# The command


@pytest.mark.parametrize(
    ("worst", "code"), [([Level.GOOD], 0), ([Level.GOOD, Level.WARNING], 0), ([Level.BAD, Level.WARNING], 1)]
)
def test_only_what_is_bad_makes_the_exit_code_one(
    worst: list[Level], code: int, there: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [Finding(f"line-{number}", level, "seen", "do") for number, level in enumerate(worst)]
    monkeypatch.setattr("app.cli.diagnose.examine", lambda *_: found)

    text, machine = (CliRunner().invoke(haulage, ["doctor", *form]) for form in ([], ["--json"]))

    assert (text.exit_code, machine.exit_code) == (code, code)
    assert json.loads(machine.stdout) == [
        {"name": one.name, "level": one.level, "found": "seen", "do": "do"} for one in found
    ]
    assert text.stdout.count("-> do") == len(found)


def test_the_help_says_what_the_exit_code_means() -> None:
    told = " ".join(CliRunner().invoke(haulage, ["doctor", "--help"]).output.split())

    assert "Exit code: 0 if nothing is bad (there may be warnings), 1 if something is." in told


def test_a_verdict_that_is_not_good_says_what_to_do() -> None:
    assert not findings.good("x").do
    assert findings.warning("x", "y").do
    assert findings.bad("x", "y").do
