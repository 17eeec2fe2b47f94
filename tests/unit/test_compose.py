"""docker-compose.yml against the settings: no engine runs here, but its variables can be wrong all the same."""

import re
from pathlib import Path

import yaml

from app.settings import Settings
from local.home import PROJECT

COMPOSE = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())
OURS = {
    name: service
    for name, service in COMPOSE["services"].items()
    if "DATABASE_URL" in service.get("environment", {})
}
OTHER_PROGRAMS = {"FLOWER_BASIC_AUTH"}


def image_environment() -> set[str]:
    line = next(line for line in (PROJECT / "Dockerfile").read_text().splitlines() if line.startswith("ENV "))
    return {pair.split("=")[0] for pair in line.split()[1:]}


def test_every_process_of_ours_is_there() -> None:
    assert set(OURS) == {"migrate", "command", "web", "worker", "beat", "flower"}


def test_every_variable_is_one_that_the_settings_know() -> None:
    known = {name.upper() for name in Settings.model_fields} | OTHER_PROGRAMS

    for name, service in OURS.items():
        assert set(service["environment"]) <= known, name
    assert image_environment() - {"PYTHONUNBUFFERED"} <= known


def test_every_required_setting_is_given() -> None:
    required = {name.upper() for name, field in Settings.model_fields.items() if field.is_required()}

    for name, service in OURS.items():
        assert required <= set(service["environment"]) | image_environment(), name


def test_both_servers_are_reached_over_verified_tls() -> None:
    for service in OURS.values():
        assert "sslmode=verify-full&sslrootcert=" in service["environment"]["DATABASE_URL"]
        assert service["environment"]["REDIS_URL"].startswith("rediss://")
        assert "ssl_cert_reqs=required" in service["environment"]["REDIS_URL"]


def test_no_password_stands_in_the_file() -> None:
    text = re.sub(r"(?m)^#.*$", "", (PROJECT / "docker-compose.yml").read_text())
    in_urls = re.findall(r"://\w*:(.+?)@", text)
    in_variables = re.findall(r"_PASSWORD: (.+)", text) + re.findall(r"_AUTH: (.+)", text)

    assert len(in_urls) >= 3
    for secret in in_urls + in_variables:
        assert re.fullmatch(r"(haulage:)?\$\{\w+_PASSWORD:\?\}", secret), secret


def test_ports_are_open_to_this_host_alone() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]

    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_worker_can_be_scaled() -> None:
    worker = COMPOSE["services"]["worker"]

    assert "container_name" not in worker
    assert "ports" not in worker
    assert not any("-n" in str(word).split() or "--hostname" in str(word) for word in worker["command"])


def test_what_the_image_copies_is_there() -> None:
    copied = [
        line.split()[1:-1]
        for line in (PROJECT / "Dockerfile").read_text().splitlines()
        if line.startswith("COPY")
    ]

    for name in (name for line in copied for name in line):
        assert Path(PROJECT, name).exists(), name
