"""Shows the classic fault: a warm pool crosses a fork without any safeguard, and TLS falls apart."""

import sys

from sqlalchemy import make_url

from benchmarks.workload import Size, measure
from local.servers import throwaway

NAMES = ("decryption failed or bad record mac", "EOF detected")
TRIES = 10


def show_classic_fault(url: str) -> list[str]:
    """Return the errors that parent and children get over TLS, at most ten runs until one of the two known names comes.

    Runs in processes of its own. The url's role must be allowed to make a table (fork_lab, dropped again).
    """
    psycopg2 = make_url(url).set(drivername="postgresql+psycopg2").render_as_string(hide_password=False)
    messages: list[str] = []
    for _ in range(TRIES):
        messages = list(measure("inherit", psycopg2, Size(tasks_per_child=30, tasks_of_parent=30)).messages)
        if any(name in message for message in messages for name in NAMES):
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
