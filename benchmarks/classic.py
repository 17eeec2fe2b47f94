"""Shows the classic fault: a warm pool crosses a fork without any safeguard, and TLS falls apart."""

import sys
from collections.abc import Iterable

from sqlalchemy import make_url

from benchmarks.outcome import Size
from benchmarks.workload import measure
from local.servers import throwaway

# OpenSSL says the first in two ways: who finds the broken record, and who is told of it by the server.
NAMES = {
    "bad record mac": ("decryption failed or bad record mac", "ssl/tls alert bad record mac"),
    "EOF detected": ("EOF detected",),
}
TRIES = 10


def named(messages: Iterable[str]) -> dict[str, str]:
    """Return which of the two known errors are among the messages, and in which words each came."""
    found: dict[str, str] = {}
    for message in messages:
        for name, wordings in NAMES.items():
            if any(wording in message for wording in wordings):
                found.setdefault(name, message)
    return found


def show_classic_fault(url: str) -> list[str]:
    """Return the errors that parent and children get over TLS, at most ten runs until one of the two known names comes.

    Runs in processes of its own. The url's role must be allowed to make a table (fork_lab, dropped again).
    """
    psycopg2 = make_url(url).set(drivername="postgresql+psycopg2").render_as_string(hide_password=False)
    messages: list[str] = []
    for _ in range(TRIES):
        messages = list(measure("inherit", psycopg2, Size(tasks_per_child=30, tasks_of_parent=30)).messages)
        if named(messages):
            break
    return messages


def main() -> None:
    if len(sys.argv) > 1:
        print("\n".join(show_classic_fault(sys.argv[1])))
    else:
        with throwaway() as servers:
            print("\n".join(show_classic_fault(servers.owner_url)))


if __name__ == "__main__":
    main()
