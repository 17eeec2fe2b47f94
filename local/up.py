"""`make up`: the whole system in the foreground, with its data kept until the next time."""

import os
import sys
import time
from pathlib import Path
from typing import NoReturn

from app.drive_settings import FILESYSTEM
from local import endings, servers, system
from local import home as homes
from local.account import NoAccount
from local.discovery import NoServer
from local.home import Occupied, default_home, write_private
from local.process import NotStarted
from local.system import NotUp, System

CORPORATION = "1"


def main() -> int:
    endings.heed()
    home = default_home()
    try:
        with homes.only_one(home):
            return _run(home)
    except KeyboardInterrupt:
        print("\nStopped. The data stays for the next time; `make clean` removes it.")
        return 0
    except (NoServer, NoAccount, NotStarted, NotUp, Occupied) as problem:
        print(problem, file=sys.stderr)
        return 1


def _run(home: Path) -> int:
    try:
        running = servers.start(home)
        drives = system.named_drives(os.environ)
        with system.installed(running, home / "data", logs=home / "logs", **drives) as haulage:
            _start(haulage, home)
            _stay(haulage)
    finally:
        servers.stop(home)


def _start(haulage: System, home: Path) -> None:
    token = _token(haulage, home)
    haulage.start_worker()
    haulage.start_beat()
    web = haulage.start_web(_port("PORT"))
    password = system.new_password()
    flower = haulage.start_flower(_port("FLOWER_PORT"), f"haulage:{password}")
    print(
        f"""
Haulage is up. Ctrl-C stops it; its data stays.

  web       {web}          (described at {web}/openapi.json)
  Flower    {flower}          user haulage, password {password}
  token     {token}
  inbox     {haulage.data / "inbox" / CORPORATION}
  drive     {haulage.data / "drive" / CORPORATION}{_more_drives(haulage)}
  logs      {haulage.logs}

In another terminal: `. {system.write_environment(haulage, home)}`, then `haulage tree --corp {CORPORATION}`, or
a second worker: `DATABASE_URL=$WORKER_DATABASE_URL celery -A tasks.worker worker -l info -n second@%h`.

Try:

  curl -F file=@README.md -H 'Authorization: Bearer {token}' \\
      {web}/api/v1/corporations/{CORPORATION}/uploads
""",
        flush=True,
    )


def _more_drives(haulage: System) -> str:
    more = haulage.environment.get("DRIVES")
    return f"\n  drives    {more}          (for `haulage corp add NUMBER NAME --drive …`)" if more else ""


def _port(variable: str) -> int:
    wanted = os.environ.get(variable) or str(system.free_port())
    if not wanted.isascii() or not wanted.isdigit():
        raise NotUp(f"{variable} is {wanted!r}; it must be a port's number")
    return int(wanted)


def _token(haulage: System, home: Path) -> str:
    """Return the token of the last time, or make the corporation and its token."""
    kept = home / "token"
    if not kept.exists():
        try:
            haulage.run("corp", "add", CORPORATION, "Local", "--drive", FILESYSTEM)
        except NotUp as problem:  # an earlier start was interrupted between these lines
            if "exists already" not in str(problem):
                raise
        token = haulage.run("token", "create", "--corp", CORPORATION, "--label", "make up").strip()
        write_private(kept, token)
    return kept.read_text()


def _stay(haulage: System) -> NoReturn:
    while True:
        haulage.check()
        time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main())
