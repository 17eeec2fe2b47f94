"""Redis as the broker: reached, encrypted, set so that it throws nothing away, and used by nobody else."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from ipaddress import ip_address
from itertools import islice
from typing import Any
from urllib.parse import parse_qs, urlsplit

from redis.exceptions import NoPermissionError, RedisError, ResponseError

from app import queue
from app.diagnosis import clocks
from app.diagnosis.findings import Check, Verdict, bad, first_line, good, not_examined, warning
from app.settings import Settings

IMPATIENT = {
    "socket_timeout": 2,
    "socket_connect_timeout": 2,
    "retry_on_timeout": False,
    "max_retries": 0,
}
OLDEST = (6, 2)
KEYS_LOOKED_AT = 5000
TLS_CLIENT = "ssl_certfile"  # in REDIS_URL: a certificate of this side, which may take a password's place
LONG_UPKEEP = 100  # messages; a sweep comes every few seconds, and is read at once
FULL = 0.7
# What Celery, its results and its remote control keep in the database, besides queues.
_OF_CELERY = r"unacked(_index|_mutex)?|_kombu\..*|celery-task-meta-.*|.*\.(celery\.)?pidbox|celeryev(\..*)?"
_ALLOW = "Allow this Redis user INFO, SCAN, LLEN and TIME."
# What Redis says though it is there, and what a person does about it; the first that fits.
_CURES = (
    (
        "NOAUTH|WRONGPASS|invalid username-password|[Aa]uthenticat",
        "refuses the password",
        "Correct user and password in REDIS_URL.",
    ),
    (
        "MISCONF|Errors writing to the AOF",
        "cannot write to its own disk, and takes no messages",
        "Make room on Redis' disk, or let it write there; its log tells. Uploads are accepted meanwhile, and wait.",
    ),
    (
        "LOADING|loading the dataset",
        "is just starting, and reads its data",
        "Look again in a minute. Uploads are accepted meanwhile, and wait.",
    ),
    (
        "NOPERM|no permissions",
        "does not let this user do what Celery must",
        "Give this Redis user what Celery needs: ACL SETUSER … ~* &* +@all -@dangerous +info +keys.",
    ),
    (
        "OOM|maxmemory",
        "is full, and takes no messages",
        "Raise maxmemory; see docs/installation-doctor.md, redis-memory. Uploads are accepted meanwhile, and wait.",
    ),
)

Info = dict[str, Any]


def checks(chosen: Settings) -> Sequence[Check]:
    url = chosen.redis_url
    looks = (
        ("redis-eviction", _eviction),
        ("redis-memory", _memory),
        ("redis-persistence", _persistence),
        ("clock-redis", _clock),
        ("queues", partial(_queues, chosen.wake_window)),
    )
    return [
        Check("redis", partial(_redis, url), is_gate=True),
        Check("redis-tls", partial(encryption, url)),
        *(Check(name, partial(asked, url, look)) for name, look in looks),
    ]


@contextmanager
def connected(url: str) -> Iterator[Any]:
    """A kombu connection to the broker that gives up within seconds."""
    connection = queue.celery.connection_for_read(url, transport_options=IMPATIENT, connect_timeout=2)
    try:
        yield connection
    finally:
        connection.release()


def asked(url: str, look: Any) -> Verdict:
    try:
        with connected(url) as connection:
            verdict: Verdict = look(connection.default_channel.client)
            return verdict
    except NoPermissionError as error:
        return not_examined(first_line(error), _ALLOW)


def _redis(url: str) -> Verdict:
    try:
        with connected(url) as connection:
            return _answering(connection.default_channel.client)
    except ValueError:  # its text may hold the end of a password
        return bad(
            "REDIS_URL cannot be read",
            "Write redis://:password@host:6379/0; in a password @ is %40, / is %2F, # is %23.",
        )
    except (RedisError, *queue.UNREACHABLE) as error:
        return _unreached(error)


def _answering(client: Any) -> Verdict:
    try:
        return version(client.info("server"))
    except NoPermissionError as error:  # it is there, and the lines below it can tell more
        return not_examined(first_line(error), _ALLOW)


def _unreached(error: Exception) -> Verdict:
    said = first_line(error)
    if re.search("Name or service|name resolution|nodename nor", said):
        return bad(
            "no machine has the name of the host in REDIS_URL",
            "Correct the host; in a password @ is %40, / is %2F, # is %23.",
        )
    for pattern, what, cure in _CURES:
        if re.search(pattern, said):
            return bad(f"{what}: {said}", cure)
    if "CERTIFICATE" in said.upper():
        return bad(f"its certificate is refused: {said}", "See redis-certificate and redis-ca.")
    return bad(
        f"does not answer: {said}",
        "Start Redis, or correct REDIS_URL. Uploads are accepted meanwhile, and wait.",
    )


def version(info: Info) -> Verdict:
    name = "Valkey" if "valkey_version" in info else "Redis"
    found = str(info.get("valkey_version") or info.get("redis_version", "?"))
    numbers = tuple(int(one) for one in re.findall(r"\d+", found)[:2])
    if numbers < OLDEST:
        return warning(
            f"{name} {found} answers", "Upgrade it to 6.2 or newer; older ones get no corrections."
        )
    return good(f"{name} {found} answers")


_GIVES = "can give the workers tasks"
_PASSWORD = "Set requirepass, or a user with an ACL, and put it into REDIS_URL."  # noqa: S105  advice


def encryption(url: str) -> Verdict:
    parsed = urlsplit(url)
    if parsed.scheme == "rediss":
        if parsed.password or TLS_CLIENT in parse_qs(parsed.query):
            return good("the connection is encrypted, and the server is proved")
        return warning(f"encrypted, but has no password: whoever reaches it {_GIVES}", _PASSWORD)
    if is_loopback(parsed.hostname or "localhost"):
        if parsed.password:
            return good("not encrypted, and does not leave this machine")
        return warning(
            f"has no password: every user of this machine {_GIVES}",
            _PASSWORD,
        )
    return warning(
        f"goes to {parsed.hostname} without TLS: password and messages can be read and changed on the way",
        "Write rediss://…?ssl_cert_reqs=required&ssl_ca_certs=/path/to/ca.crt, and switch TLS on in Redis.",
    )


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _eviction(client: Any) -> Verdict:
    policy = client.info("memory").get("maxmemory_policy", "?")
    if policy != "noeviction":
        return bad(
            f"maxmemory-policy is {policy}: what does not fit is thrown away without a word, messages too",
            "Set maxmemory-policy noeviction in redis.conf (and now: CONFIG SET maxmemory-policy noeviction).",
        )
    return good("maxmemory-policy is noeviction: nothing is thrown away")


def _memory(client: Any) -> Verdict:
    info: Info = client.info("memory")
    used, limit = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if limit == 0:
        return good(f"{used / 2**20:.0f} MiB are used; maxmemory is not set")
    do = "Raise maxmemory: when it is reached, workers end. See queues and redis-keys."
    told = f"{used / 2**20:.0f} of maxmemory's {limit / 2**20:.0f} MiB are used"
    if used >= limit:
        return bad(f"{told}: it takes no more messages, and workers end", do)
    if used > FULL * limit:
        return warning(told, do)
    return good(told)


def _persistence(client: Any) -> Verdict:
    info: Info = client.info("persistence")
    if info.get("aof_enabled"):
        if info.get("aof_last_write_status", "ok") != "ok":
            return warning(
                "its append-only file cannot be written", "Look into Redis' log; is its disk full?"
            )
        return good("an append-only file keeps the messages")
    try:
        saves = client.config_get("save").get("save", "")
    except ResponseError:
        return warning(
            "no append-only file, and this user may not ask for snapshots",
            "Set appendonly yes in redis.conf.",
        )
    if saves:
        return good("snapshots keep the messages, but for the last ones")
    return warning(
        "none: a restart forgets every wake-up. Nothing is lost by that, but the Celery door's tasks, which no row holds "
        "yet, are",
        "Set appendonly yes in redis.conf.",
    )


def keys_check(url: str, read: Callable[[], Iterable[str]]) -> Check:
    """Return the look for what others keep there; `read` gives the queues that workers of ours read."""
    return Check("redis-keys", lambda: asked(url, partial(_keys, known_keys(read()))))


def known_keys(read: Iterable[str]) -> re.Pattern[str]:
    """Match what Haulage keeps, and the queues of tasks of one's own, declared here or read by a worker of ours."""
    queues = {*queue.Queue, *(one.name for one in queue.celery.conf.task_queues), *read}
    return re.compile(rf"({'|'.join(map(re.escape, sorted(queues)))})(\x06\x16\d+)?|{_OF_CELERY}")


def _keys(known: re.Pattern[str], client: Any) -> Verdict:
    names = [one.decode(errors="replace") for one in islice(client.scan_iter(count=1000), KEYS_LOOKED_AT)]
    foreign = [name for name in names if not known.fullmatch(name)]
    if foreign:
        # A key's whole name may be a secret, as a session's is.
        kinds = sorted({name.partition(":")[0][:20] for name in foreign if ":" in name})
        told = f", beginning with {', '.join(f'{kind}:' for kind in kinds[:3])}" if kinds else ""
        return warning(
            f"{len(foreign)} key(s) in this database are not Haulage's{told}",
            "Give Haulage an instance, or at least a database number, of its own. A queue of your own tasks? Start its worker.",
        )
    return good("nobody else uses this database")


def _clock(client: Any) -> Verdict:
    before = clocks.now()
    seconds, microseconds = client.time()
    return clocks.apart(seconds + microseconds / 1e6, before, clocks.now(), "Redis'")


def _queues(window: int, client: Any) -> Verdict:
    lengths = {str(one): int(client.llen(one)) for one in queue.Queue}
    told = ", ".join(f"{name} {length}" for name, length in lengths.items())
    if lengths["upkeep"] > LONG_UPKEEP:
        return bad(f"nobody sweeps: {told}", "Start a worker that reads all queues, as it does without -Q.")
    if lengths["uploads"] > 2 * window:
        return warning(
            f"more messages than WAKE_WINDOW ({window}) would let in: {told}", "Start more workers."
        )
    return good(f"messages that wait: {told}")
