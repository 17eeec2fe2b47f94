"""`make up`: the whole system in the foreground, with its data kept until the next time."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

from local import servers, system
from local.account import NoAccount
from local.discovery import NoServer
from local.home import default_home, write_private
from local.process import NotStarted
from local.system import NotUp, System

CORPORATION = "1"


def main() -> int:
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, _leave)
    home = default_home()
    try:
        running = servers.start(home)
        with system.installed(running, home / "data", logs=home / "logs") as haulage:
            _start(haulage, home)
            _stay(haulage)
    except KeyboardInterrupt:
        print("\nStopped. The data stays for the next time; `make clean` removes it.")
        return 0
    except (NoServer, NoAccount, NotStarted, NotUp) as problem:
        print(problem, file=sys.stderr)
        return 1
    finally:
        for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(ending, signal.SIG_IGN)  # a second Ctrl-C must not leave servers behind
        servers.stop(home)


def _leave(*_: object) -> None:
    raise KeyboardInterrupt


def _start(haulage: System, home: Path) -> None:
    token = _token(haulage, home)
    haulage.start_worker()
    haulage.start_beat()
    web = haulage.start_web(int(os.environ.get("PORT") or system.free_port()))
    password = system.new_password()
    flower = haulage.start_flower(
        int(os.environ.get("FLOWER_PORT") or system.free_port()), f"haulage:{password}"
    )
    print(
        f"""
Haulage is up. Ctrl-C stops it; its data stays.

  web       {web}          (interface: {web}/docs)
  Flower    {flower}          user haulage, password {password}
  token     {token}
  inbox     {haulage.data / "inbox" / CORPORATION}
  drive     {haulage.data / "drive" / CORPORATION}
  logs      {haulage.logs}

Try:

  curl -F file=@README.md -H 'Authorization: Bearer {token}' \\
      {web}/api/v1/corporations/{CORPORATION}/uploads
""",
        flush=True,
    )


def _token(haulage: System, home: Path) -> str:
    """Return the token of the last time, or make the corporation and its token."""
    kept = home / "token"
    if not kept.exists():
        try:
            haulage.run("corp", "add", CORPORATION, "Local")
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
