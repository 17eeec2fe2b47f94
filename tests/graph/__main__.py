"""`python -m tests.graph`: the simulator as a process of its own. It says one line when it listens."""

import argparse
import os
import secrets
import shutil
import signal
import ssl
import tempfile
import threading
import uuid
from pathlib import Path

from cryptography import x509

from tests.graph.clients import Client
from tests.graph.server import Server
from tests.graph.throttle import PER_DAY, PER_MINUTE
from tests.graph.tree import TEBIBYTE, new_drive_id
from tests.graph.world import Options, World

HOST = "127.0.0.1"


def main() -> None:
    given = arguments()
    folder = given.state or Path(tempfile.mkdtemp(prefix="graph-"))
    world = make_world(given, folder)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    servers = start(given, world)
    scheme = "https" if given.tls_certificate else "http"
    print(f"ready {scheme}://{HOST}:{servers[0].port}", flush=True)
    stopped.wait()
    world.script.close()
    for server in servers:
        server.server_close()
    shutil.rmtree(folder if not given.state else world.drafts, ignore_errors=True)


def start(given: argparse.Namespace, world: World) -> list[Server]:
    tls = None
    if given.tls_certificate:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(given.tls_certificate, given.tls_key)
    servers = [Server(HOST, given.port, world, tls)]
    if given.upload_port is not None:
        servers.append(Server(HOST, given.upload_port, world, tls))
        world.options.upload_port = servers[1].port
    for server in servers:
        server.start()
    return servers


def make_world(given: argparse.Namespace, folder: Path) -> World:
    options = Options(given.tenant, folder, control_key=given.control_key)
    options.token_lifetime, options.session_lifetime = given.token_lifetime, given.session_lifetime
    options.session_default = given.session_default
    options.latency, options.upload_host = given.latency, given.upload_host
    world = World(options)
    world.throttle.per_minute, world.throttle.per_day = given.resource_units, given.resource_units_per_day
    for described in given.drive or [new_drive_id()]:
        add_drive(world, described)
    client = Client(given.client_id, secrets={given.client_secret: None}, roles=set(given.roles.split(",")))
    for path in given.client_certificate or []:
        client.certificates.append(x509.load_pem_x509_certificate(path.read_bytes()))
    world.authority.clients[client.id] = client
    return world


def add_drive(world: World, described: str) -> None:
    """Read ID[,type=...][,quota=BYTES][,site=NAME]; drives of one site name belong to one site."""
    drive_id, *rest = described.split(",")
    wanted = dict(one.split("=", 1) for one in rest)
    quota = int(wanted.get("quota", TEBIBYTE))
    world.add_drive(
        drive_id, site=wanted.get("site", "haulage"), kind=wanted.get("type", "business"), quota=quota
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.graph", description="A strict stand-in for Microsoft Graph."
    )
    add = parser.add_argument
    add("--port", type=int, default=0)
    add("--tls-certificate", type=Path)
    add("--tls-key", type=Path)
    add("--state", type=Path, help="a folder for the bytes; a temporary one otherwise")
    add(
        "--control-key",
        default=os.environ.get("GRAPH_CONTROL_KEY", ""),
        help="without it /_control/ is not there",
    )
    add("--tenant", default=str(uuid.uuid4()))
    add("--client-id", default=str(uuid.uuid4()))
    add("--client-secret", default=os.environ.get("GRAPH_CLIENT_SECRET") or secrets.token_urlsafe(30))
    add("--client-certificate", type=Path, action="append", help="PEM; may be repeated")
    add("--roles", default="Sites.ReadWrite.All", help="application permissions, with commas")
    add(
        "--drive", action="append", metavar="ID[,type=KIND][,quota=BYTES][,site=NAME]", help="may be repeated"
    )
    add("--token-lifetime", type=float, default=3599.0)
    add("--session-lifetime", type=float, default=86_400.0)
    add(
        "--session-default",
        choices=["fail", "replace"],
        default="fail",
        help="the page says fail, rclone needs replace",
    )
    add("--latency", type=float, default=0.0, help="seconds that each request takes at least")
    add(
        "--resource-units", type=int, default=PER_MINUTE, help="for each application in a minute; 0: no limit"
    )
    add("--resource-units-per-day", type=int, default=PER_DAY)
    add("--upload-host", default="", help="another name in upload URLs")
    add("--upload-port", type=int, help="another port for upload URLs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
