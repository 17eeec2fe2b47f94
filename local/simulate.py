"""`make simulator`: a stand-in for Microsoft Graph in the foreground, and how to talk to it. Nothing of it is kept."""

import shlex
import sys
import tempfile
import time
from pathlib import Path
from typing import NoReturn

from local import endings, rclone, simulator
from local.home import write_private
from local.process import NotStarted
from local.rclone import REMOTE, NoRclone
from local.simulator import DRIVE, Simulator
from local.system import BIN


def main() -> int:
    endings.heed()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="haulage-simulator-") as home,
            simulator.running(Path(home)) as running,
        ):
            _explain(running, Path(home))
            _stay(running)
    except KeyboardInterrupt:
        print("\nStopped; nothing was kept.")
        return 0
    except NotStarted as problem:
        print(problem, file=sys.stderr)
        return 1


def _explain(running: Simulator, home: Path) -> None:
    print(
        f"""
A simulator of Microsoft Graph is up, over TLS. Ctrl-C stops it; nothing is kept.

  Graph        {running.url}/v1.0
  authority    {running.authority}
  tenant       {running.tenant}
  client id    {running.client_id}
  drive id     {running.drive_id}
  CA           {running.ca_file}

Its client secret, and all that Haulage and rclone need, is in one file. In another terminal:

  . {_write_environment(running, home)}
  rclone lsf -R {REMOTE}        # {_has_rclone(home)}
  make up                    # a system that knows the drive `{DRIVE}`; . its file too, in a third one, then:
  haulage drive test {DRIVE} && haulage corp add 8 "Trial" --drive {DRIVE}
  haulage upload README.md --corp 8 && rclone lsf -R {REMOTE}

What can be made to go wrong is in docs/graph-simulator.md; with the same file, this lists what it was asked:

  curl --cacert $GRAPH_CA -H "X-Control-Key: $GRAPH_CONTROL_KEY" $GRAPH_CONTROL/requests
""",
        flush=True,
    )


def _write_environment(running: Simulator, home: Path) -> Path:
    """Write what Haulage, rclone and a hand at a terminal need, for a shell to read; return the file, its owner's alone."""
    remote = rclone.environment(running, home / "rclone", drive_id=running.drive_id)
    told = running.settings() | {name: value for name, value in remote.items() if name.startswith("RCLONE_")}
    told |= {
        "GRAPH_CONTROL": f"{running.url}/_control",
        "GRAPH_CONTROL_KEY": running.control_key,
        "GRAPH_CA": str(running.ca_file),
    }
    lines = [f"export {name}={shlex.quote(value)}" for name, value in told.items()]
    path = home / "environment"
    write_private(
        path, "\n".join([*lines, f"export PATH={shlex.quote(str(BIN))}:{home / 'rclone'}:$PATH", ""])
    )
    return path


def _has_rclone(home: Path) -> str:
    """Put rclone where the environment finds it; return a word on it."""
    try:
        (home / "rclone" / "rclone").symlink_to(rclone.program())
    except NoRclone as problem:
        return str(problem)
    return "its drive, as rclone sees it"


def _stay(running: Simulator) -> NoReturn:
    while True:
        running.check()
        time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main())
