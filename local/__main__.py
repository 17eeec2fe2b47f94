"""The command: python -m local start | stop | status | clean | run -- COMMAND..."""

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence

from local import home, servers
from local.account import NoAccount
from local.discovery import NoServer
from local.process import NotStarted
from local.servers import Servers


def environment(running: Servers) -> dict[str, str]:
    return {
        "DATABASE_URL": running.worker_url,
        "OWNER_DATABASE_URL": running.owner_url,
        "REDIS_URL": running.redis_url,
    }


def report(running: Servers | None) -> int:
    """Print lines for a shell to eval."""
    if running is None:
        print("not running", file=sys.stderr)
        return 1
    for name, value in environment(running).items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


def run(command: Sequence[str]) -> int:
    """Run the command beside throw-away servers and return its exit code."""
    if shutil.which(command[0]) is None:
        print(f"{command[0]}: command not found", file=sys.stderr)
        return 127
    with servers.throwaway() as running:
        child = subprocess.Popen(command, env=os.environ | environment(running))
        # Ctrl-C reaches the command by itself, and the servers must stay until it has finished.
        signal.signal(signal.SIGINT, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: child.terminate())
        code = child.wait()
    return code if code >= 0 else 128 - code


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m local", description=servers.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("start", help="start the servers of this checkout and print their URLs")
    commands.add_parser("stop", help="stop them; their data stays")
    commands.add_parser("status", help="print their URLs, or fail if they do not run")
    commands.add_parser("clean", help="stop them and delete their data")
    runner = commands.add_parser("run", help="run a command beside throw-away servers: run -- COMMAND...")
    runner.add_argument("words", nargs="+", metavar="COMMAND")
    chosen = parser.parse_args(arguments)
    try:
        return perform(chosen)
    except (NoServer, NoAccount, NotStarted, home.Occupied) as problem:
        print(problem, file=sys.stderr)
        return 1


def perform(chosen: argparse.Namespace) -> int:
    match chosen.command:
        case "start":
            return report(servers.start())
        case "status":
            return report(servers.status())
        case "stop":
            servers.stop()
            return 0
        case "clean":
            with home.only_one(home.default_home()):
                servers.stop()
            home.remove(home.default_home())
            return 0
        case _:
            return run(chosen.words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
