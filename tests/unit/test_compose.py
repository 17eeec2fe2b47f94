"""docker-compose.yml and the Dockerfile, read: no engine runs here, but much of what they say can be wrong all the same."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.settings import Settings
from local.home import PROJECT

TEXT = (PROJECT / "docker-compose.yml").read_text()
COMPOSE = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: one for name, one in SERVICES.items() if "DATABASE_URL" in one.get("environment", {})}
ONE_SHOT = {"init", "migrate", "command"}
OTHER_PROGRAMS = {
    "flower": {"FLOWER_BASIC_AUTH"},
    "postgres": {
        "POSTGRES_PASSWORD",
        "OWNER_PASSWORD",
        "WEB_PASSWORD",
        "WORKER_PASSWORD",
    },  # the image, roles.sh
    "redis": {"REDIS_PASSWORD", "REDISCLI_AUTH"},  # redis.sh, redis-cli
    "web": {"FORWARDED_ALLOW_IPS"},  # uvicorn
}
DOCKERFILE = re.sub(r"(?m)^#.*\n", "", (PROJECT / "Dockerfile").read_text()).replace("\\\n", " ")


def instructions(name: str) -> list[str]:
    return re.findall(rf"^{name} (.*)$", DOCKERFILE, re.MULTILINE)


def image_environment() -> set[str]:
    return {pair.split("=")[0] for line in instructions("ENV") for pair in line.split()}


def test_every_process_of_ours_is_there() -> None:
    assert set(OURS) == {"migrate", "command", "web", "worker", "beat", "flower"}
    assert set(SERVICES) - set(OURS) == {"init", "postgres", "redis"}


def test_every_variable_is_one_that_somebody_reads() -> None:
    known = {name.upper() for name in Settings.model_fields}

    for name, service in SERVICES.items():
        ours = known if name in OURS else set()
        assert set(service.get("environment", {})) <= ours | OTHER_PROGRAMS.get(name, set()), name
    assert image_environment() - {"PATH", "PYTHONUNBUFFERED"} <= known


def test_every_required_setting_is_given() -> None:
    required = {name.upper() for name, field in Settings.model_fields.items() if field.is_required()}

    for name, service in OURS.items():
        assert required <= set(service["environment"]) | image_environment(), name


def test_both_servers_are_reached_over_verified_tls() -> None:
    urls = [
        value for one in OURS.values() for key, value in one["environment"].items() if key.endswith("_URL")
    ]
    ca = "/certificates/ca/ca.crt"

    assert len(urls) > len(OURS)
    for url in urls:
        if url.startswith("rediss://"):
            assert url.endswith(f"?ssl_cert_reqs=required&ssl_ca_certs={ca}")
        else:
            assert re.match(r"postgresql://haulage_\w+:\$\{", url)
            assert url.endswith(f"?sslmode=verify-full&sslrootcert={ca}")
    for name, service in OURS.items():
        assert "ca:/certificates/ca:ro" in service["volumes"], name
    assert "ssl=on" in " ".join(SERVICES["postgres"]["command"])


def test_each_process_comes_with_a_role_of_its_own() -> None:
    roles = {
        name: re.search(r"//(\w+):", one["environment"]["DATABASE_URL"])[1] for name, one in OURS.items()
    }

    assert roles == {
        "web": "haulage_web",
        **dict.fromkeys(("worker", "beat", "flower"), "haulage_worker"),
        **dict.fromkeys(("migrate", "command"), "haulage_owner"),
    }


def test_a_password_that_is_missing_is_asked_for_by_name() -> None:
    used = re.findall(r"\$\{(\w+)(.*?)\}", re.sub(r"(?m)^#.*$", "", TEXT))
    [names] = re.findall(r"for name in ([A-Z ]+);", TEXT)

    assert {name for name, _ in used} == {f"{one}_PASSWORD" for one in names.split()}
    assert {rest for _, rest in used} == {":?put it into .env, as the head of docker-compose.yml says"}


def test_no_password_stands_in_the_file() -> None:
    text = re.sub(r"(?m)^#.*$", "", TEXT)
    in_urls = re.findall(r"://\w*:(.+?)@", text)
    in_variables = re.findall(r"_PASSWORD: (.+)", text) + re.findall(r"_AUTH: (.+)", text)

    assert len(in_urls) >= 3
    for secret in in_urls + in_variables:
        assert re.fullmatch(r"(haulage:)?\$\{\w+_PASSWORD:\?[^}]+\}", secret), secret


def test_no_password_stands_on_a_command_line() -> None:
    for name, service in SERVICES.items():
        words = [*service["command"], *service.get("healthcheck", {}).get("test", [])]
        assert not [word for word in words if re.search(r"(?<!\$)\$\{", word)], name


def test_ports_are_open_to_this_host_alone() -> None:
    ports = {name: one["ports"] for name, one in SERVICES.items() if "ports" in one}

    assert set(ports) == {"web", "flower"}
    assert all(port.startswith("127.0.0.1:") for some in ports.values() for port in some)


def test_the_worker_can_be_scaled() -> None:
    worker = SERVICES["worker"]

    assert not {"container_name", "hostname", "ports"} & set(worker)
    assert not any("-n" in str(word).split() or "--hostname" in str(word) for word in worker["command"])


def test_a_worker_has_longer_to_stop_than_a_slice_lasts() -> None:
    seconds = int(SERVICES["worker"]["stop_grace_period"].removesuffix("s"))

    assert seconds > Settings.model_fields["slice_seconds"].default


def test_every_image_is_pinned() -> None:
    images = {one["image"] for one in SERVICES.values()}
    assert {one for one in images if not one.startswith("haulage:")} == {
        "postgres:17.10-bookworm",
        "redis:8.2.3-bookworm",
    }
    bases = {line.split()[0] for line in instructions("FROM")}

    assert len(bases) == 1, "what was built in one is run in the other"
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm", bases.pop())
    version = re.search(r'^version = "(.+)"$', (PROJECT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    assert {one for one in images if one.startswith("haulage:")} == {f"haulage:{version}"}


def test_every_tag_of_ours_is_built_by_one_service_and_pulled_by_none() -> None:
    """Builds of one tag side by side end with "already exists", and a pull would ask a registry for our name."""
    builders = [(one["image"], name) for name, one in SERVICES.items() if "build" in one]
    users = {name: one for name, one in SERVICES.items() if one["image"] in dict(builders)}

    assert builders == [(SERVICES["web"]["image"], "init")]
    assert set(users) == {"init", *OURS}
    assert {name for name, one in users.items() if one.get("pull_policy") != "never"} == {"init"}


def waited_for(name: str) -> set[str]:
    before = set(SERVICES[name].get("depends_on", {}))
    return before.union(*map(waited_for, before))


def test_whoever_comes_by_up_waits_for_who_builds_the_image() -> None:
    assert {name for name in SERVICES if "init" not in waited_for(name)} == {"init", "command"}
    assert SERVICES["command"]["profiles"], "it comes by `run`, after `up`"


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_can_do_nothing_that_it_need_not(name: str) -> None:
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert not {"privileged", "network_mode", "pid", "ipc"} & set(service)
    if name == "init":
        assert service["cap_add"] == ["CHOWN", "DAC_OVERRIDE", "FOWNER"]
    else:
        assert "cap_add" not in service
        assert re.fullmatch(r"(?!0)\d+:(?!0)\d+", service["user"]), "not root"


def test_the_image_is_nobody_important_of_itself() -> None:
    [account] = [line for line in instructions("RUN") if "useradd" in line]

    assert "groupadd --system --gid 10001 haulage" in account
    assert "--uid 10001 --gid 10001" in account
    assert instructions("USER") == ["10001:10001"]
    assert all(one["user"] == "10001:10001" for one in OURS.values())


@pytest.mark.parametrize("name", SERVICES)
def test_what_goes_on_is_looked_after_and_what_ends_is_waited_for(name: str) -> None:
    service = SERVICES[name]

    if name not in ONE_SHOT:
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
        return
    assert service["restart"] == "no"
    assert "healthcheck" not in service
    # `up --wait` takes a container that ended for a failure, unless one that goes on depends on its good end.
    waiting = [
        other
        for other, one in SERVICES.items()
        if one.get("depends_on", {}).get(name) == {"condition": "service_completed_successfully"}
    ]
    assert set(waiting) - ONE_SHOT or service.get("profiles")


def test_whoever_makes_progress_is_asked_for_that() -> None:
    for name in ("worker", "beat"):
        check = SERVICES[name]["healthcheck"]

        assert check["test"] == ["CMD", "haulage", "health", name]
        assert check["timeout"] == "45s", (
            "the command looks for ten seconds before it says that somebody is ill"
        )


def test_a_key_is_within_reach_of_its_server_alone() -> None:
    for server in ("postgres", "redis"):
        volume = f"{server}-key"
        users = {
            name for name, one in SERVICES.items() for mount in one["volumes"] if mount.startswith(volume)
        }

        assert users == {"init", server}
        assert f"{volume}:/certificates/{server}:ro" in SERVICES[server]["volumes"]


def test_every_volume_is_declared_and_used() -> None:
    used = {mount.split(":")[0] for one in SERVICES.values() for mount in one["volumes"]}

    assert {name for name in used if not name.startswith(".")} == set(COMPOSE["volumes"])
    for name in used:
        assert not name.startswith(".") or (PROJECT / name).exists(), name


def test_what_the_image_copies_is_there_and_reaches_the_engine() -> None:
    copied = [line.split()[:-1] for line in instructions("COPY") if not line.startswith("--from")]
    let_in = re.findall(r"^!(\S+)$", (PROJECT / ".dockerignore").read_text(), re.MULTILINE)

    names = {name for line in copied for name in line}
    assert names == set(let_in)
    for name in names:
        assert Path(PROJECT, name).exists(), name


def test_nothing_is_installed_that_is_not_pinned_with_its_hash() -> None:
    installs = [part for line in instructions("RUN") for part in line.split("&&") if "pip " in part]

    assert len(installs) == 4
    for one in installs:
        assert "--require-hashes" in one or "--no-index" in one or "--no-deps" in one, one
