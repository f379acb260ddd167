"""compose.yaml and deploy/: they are well formed, and what they say of the historian is what it takes: settings, commands, options, roles, ports, secrets, volumes."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate
import psycopg
import pytest
import yaml
from databases import with_database
from processes import run
from psycopg import sql

from historian.schema.engine import OLDEST_POSTGRES, OLDEST_TIMESCALE
from historian.settings import Settings

ROOT = Path(__file__).resolve().parent.parent.parent
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
#: variables of the database's image and of PostgreSQL's clients
FOREIGN = {"POSTGRES_PASSWORD", "PGPASSWORD", "HISTORIAN_OWNER_PASSWORD", "HISTORIAN_SERVER_PASSWORD"}


def manifests() -> list[dict[str, Any]]:
    files = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"]
    return [document for name in files for document in yaml.safe_load_all((KUBERNETES / name).read_text())]


MANIFESTS = manifests()


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and pod template of everything that runs there."""
    for document in MANIFESTS:
        if "template" in document.get("spec", {}):
            yield document["metadata"]["name"], document["spec"]["template"]


PODS = dict(pods())


def compose_value(text: str) -> str | None:
    """What a variable of a service is when .env names its secrets only."""
    default = re.fullmatch(r"\$\{\w+:-(.*)\}", text)
    return default[1] if default else None if "${" in text else text


def ours() -> Iterator[tuple[str, list[str], Mapping[str, str | None]]]:
    """What is run of the historian: where, its command line, its environment (None: from a secret)."""
    for name, service in COMPOSE["services"].items():
        if service["image"] == "historian":
            yield (
                f"compose {name}",
                [*service.get("entrypoint", ["historian"]), *service["command"]],
                {key: compose_value(value) for key, value in service.get("environment", {}).items()},
            )
    for name, pod in PODS.items():
        for container in pod["spec"]["containers"]:
            if container["image"] == "historian":
                yield (
                    f"kubernetes {name}",
                    [*container.get("command", ["historian"]), *container["args"]],
                    {one["name"]: one.get("value") for one in container.get("env", [])},
                )


OURS = list(ours())
IDS = [where for where, _, _ in OURS]


def command_lines(command: list[str]) -> list[list[str]]:
    """The arguments of each `historian` that a command runs."""
    if command[0] == "sh":
        return [shlex.split(part)[1:] for part in command[-1].split("&&")]
    assert command[0] == "historian"
    return [command[1:]]


@pytest.mark.parametrize("line", sorted({shlex.join(line) for _, command, _ in OURS for line in command_lines(command)}))
def test_every_command_is_one_that_the_command_line_takes(line: str) -> None:
    # --help is answered only once everything else on the line has been understood
    done = run(*shlex.split(line), "--help")
    assert done.returncode == 0, done.stderr
    assert run(*shlex.split(line), "--no-such-option", "--help").returncode == 2


@pytest.mark.parametrize(("where", "command", "environment"), OURS, ids=IDS)
def test_every_variable_is_a_setting_with_a_good_value(
    where: str, command: list[str], environment: Mapping[str, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        if name in FOREIGN:
            continue
        field = name.removeprefix("HISTORIAN_").lower()
        assert name.startswith("HISTORIAN_"), f"{where}: {name}"
        assert field in Settings.model_fields, f"{where}: {name} is no setting"
        monkeypatch.setenv(name, value if value is not None else "from-a-secret")
    settings = Settings()
    if "serve" in command:
        from historian.server.listening import check_exposure

        check_exposure(settings)
        assert not settings.on_loopback


@pytest.mark.parametrize(("where", "command", "environment"), OURS, ids=IDS)
def test_the_migration_runs_as_the_owner_and_all_else_with_the_servers_role(
    where: str, command: list[str], environment: Mapping[str, str | None]
) -> None:
    dsn = environment.get("HISTORIAN_DSN")
    if dsn is None:
        assert "ingest" in command
        return
    parts = urlsplit(dsn)
    assert parts.password is None
    assert parts.username == ("historian_owner" if where.endswith("migrate") else "historian_server")
    assert parts.path == "/plant"
    assert parts.hostname in COMPOSE["services"]
    assert parts.hostname in {document["metadata"]["name"] for document in MANIFESTS if document["kind"] == "Service"}


def test_the_database_is_one_that_is_supported() -> None:
    images = {COMPOSE["services"]["timescaledb"]["image"], PODS["timescaledb"]["spec"]["containers"][0]["image"]}
    assert len(images) == 1
    match = re.fullmatch(r"timescale/timescaledb:(\d+)\.(\d+)\.\d+-pg(\d+)", images.pop())
    assert match is not None
    assert (int(match[1]), int(match[2])) >= OLDEST_TIMESCALE
    assert int(match[3]) * 10_000 >= OLDEST_POSTGRES


def test_images_are_pinned_and_the_same_in_both() -> None:
    composed = {service["image"] for service in COMPOSE["services"].values()}
    orchestrated = {container["image"] for pod in PODS.values() for container in pod["spec"]["containers"]}
    assert composed == orchestrated
    assert all(image == "historian" or re.search(r":\d", image) for image in composed)


def test_compose_refers_to_what_there_is() -> None:
    services, volumes = COMPOSE["services"], COMPOSE["volumes"]
    wanted = set()
    for name, service in services.items():
        assert set(service.get("depends_on", {})) <= set(services), name
        for other, condition in service.get("depends_on", {}).items():
            if condition["condition"] == "service_healthy":
                assert "healthcheck" in services[other], other
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (ROOT / source).is_file(), source
            else:
                assert source in volumes, source
        for secret in service.get("secrets", []):
            assert secret in COMPOSE["secrets"]
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name} is open to the network"
        wanted |= set(re.findall(r"\$\{(\w+):[?-]", yaml.safe_dump(service)))
    example = {line.partition("=")[0] for line in (DEPLOY / "compose/.env.example").read_text().splitlines() if "=" in line}
    assert wanted | {secret["environment"] for secret in COMPOSE["secrets"].values()} == example


@pytest.mark.parametrize("document", MANIFESTS, ids=[f"{document['kind']}-{document['metadata']['name']}" for document in MANIFESTS])
def test_every_manifest_is_valid_kubernetes(document: dict[str, Any]) -> None:
    kubernetes_validate.validate(document, "1.34", strict=True)


def test_manifests_refer_to_what_there_is() -> None:
    kustomization = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
    configurations = {one["name"]: [name.rpartition("=")[2] for name in one["files"]] for one in kustomization["configMapGenerator"]}
    secrets = set(re.findall(r"--from-literal=([\w-]+)=", (KUBERNETES / "README.md").read_text()))
    services = {document["metadata"]["name"]: document["spec"] for document in MANIFESTS if document["kind"] == "Service"}
    assert {path.name for path in KUBERNETES.glob("*.yaml")} == {*kustomization["resources"], "kustomization.yaml"}
    for files in configurations.values():
        assert all((KUBERNETES / name).is_file() for name in files)
    for name, pod in PODS.items():
        spec = pod["spec"]
        # else the cluster puts HISTORIAN_PORT=tcp://… into its environment, after the service of that name
        assert spec["enableServiceLinks"] is False, name
        assert spec["automountServiceAccountToken"] is False, name
        volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
        claims = next(
            document["spec"].get("volumeClaimTemplates", [])
            for document in MANIFESTS
            if document["metadata"]["name"] == name and "template" in document["spec"]
        )
        for container in spec["containers"]:
            mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
            assert mounted == {*volumes, *(claim["metadata"]["name"] for claim in claims)}, name
            for variable in container.get("env", []):
                if "valueFrom" in variable:
                    assert variable["valueFrom"]["secretKeyRef"]["name"] == "historian"
                    assert variable["valueFrom"]["secretKeyRef"]["key"] in secrets
            if name in services:
                exposed = {port["containerPort"] for port in container.get("ports", [])}
                names = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
                for port in services[name]["ports"]:
                    assert names.get(port.get("targetPort"), port["port"]) in exposed, name
        for volume in volumes.values():
            if "configMap" in volume:
                assert volume["configMap"]["name"] in configurations
            if "secret" in volume:
                assert {item["key"] for item in volume["secret"]["items"]} <= secrets
        assert all(
            services.get(name, {"selector": {"app": name}})["selector"][key] == value
            for key, value in pod["metadata"]["labels"].items()
            if key == "app"
        )


def test_both_have_the_same_files() -> None:
    for name in ("roles.sh", "mosquitto.conf", "mqtt.toml"):
        assert (KUBERNETES / name).read_bytes() == (DEPLOY / "compose" / name).read_bytes(), f"deploy/kubernetes/{name} differs"


def test_the_workers_configuration_is_good_and_names_what_there_is() -> None:
    path = DEPLOY / "compose/mqtt.toml"
    checked = run("ingest", "mqtt", path, "--check")
    assert checked.returncode == 0, checked.stderr
    configuration = tomllib.loads(path.read_text())
    server = urlsplit(configuration["worker"]["url"])
    assert server.hostname in COMPOSE["services"]
    assert str(server.port) == COMPOSE["services"][server.hostname]["environment"]["HISTORIAN_PORT"]
    assert configuration["mqtt"]["host"] in COMPOSE["services"]
    secret = Path(configuration["worker"]["token_file"])
    assert secret.parent == Path("/run/secrets")
    assert secret.name in COMPOSE["services"]["mqtt"]["secrets"]
    spec = PODS["mqtt"]["spec"]
    assert secret.name in {item["path"] for volume in spec["volumes"] if "secret" in volume for item in volume["secret"]["items"]}
    directory = Path(configuration["worker"]["directory"])
    assert directory.parent in {Path(mount["mountPath"]) for mount in spec["containers"][0]["volumeMounts"]}
    assert directory.parent in {Path(volume.split(":")[1]) for volume in COMPOSE["services"]["mqtt"]["volumes"]}


def test_the_broker_takes_its_configuration(short_tmp: Path) -> None:
    program = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    assert program is not None, "scripts/broker installs it"
    # as root it becomes another user, who has to get there
    directory = short_tmp / "broker"
    directory.mkdir()
    directory.chmod(0o777)
    text = (DEPLOY / "compose/mosquitto.conf").read_text().replace("/mosquitto/data/", f"{directory}/")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    # mosquitto has no option that only checks: an unknown key ends it at once with its name
    (directory / "mosquitto.conf").write_text(re.sub(r"(?m)^listener .*$", f"listener {port} 127.0.0.1", text))
    said = []
    with subprocess.Popen(
        [program, "-c", directory / "mosquitto.conf"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if "running" in line or "Error" in line:
                # not SIGTERM: mosquitto forgets the one that comes between this line and its loop, and would stay
                process.kill()
    assert "Error" not in "".join(said), said


def test_the_script_makes_roles_with_which_the_migration_and_the_server_work(postgres: str) -> None:
    """The script, as the image runs it, on a server whose database and roles have other names, then what `migrate` and `historian` do."""
    from historian.embedded.wheel import program

    suffix = f"_{os.getpid()}"
    script = (DEPLOY / "compose/roles.sh").read_text()
    names = {
        "historian_owner": f"historian_owner{suffix}",
        "historian_server": f"historian_server{suffix}",
        "plant": f"historian_test_plant{suffix}",
    }
    for name, other in names.items():
        script = re.sub(rf"(ROLE|OWNER|DATABASE|TO) {name}\b", rf"\1 {other}", script)
    assert script.count(suffix) == 7
    parts = urlsplit(postgres)
    with psycopg.connect(postgres) as conn:
        host, port, user = conn.info.host, conn.info.port, conn.info.user
    environment = {
        **os.environ,
        "PATH": f"{Path(program('psql')).parent}:{os.environ['PATH']}",
        "PGHOST": host,
        "PGPORT": str(port),
        "POSTGRES_USER": user,
        "HISTORIAN_OWNER_PASSWORD": 'it\'s "quoted" $1',
        "HISTORIAN_SERVER_PASSWORD": "s",
        **({"PGPASSWORD": parts.password} if parts.password else {}),
    }
    try:
        done = subprocess.run(["sh", "-c", script], env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        plant = with_database(postgres, names["plant"])
        owner = urlsplit(plant)._replace(netloc=f"{names['historian_owner']}@{urlsplit(plant).netloc.rpartition('@')[2]}").geturl()
        for arguments in (["db", "upgrade", "--init", "--dsn", owner], ["db", "grant", names["historian_server"], "--dsn", owner]):
            found = run(*arguments)
            assert found.returncode == 0, found.stderr
    finally:
        with psycopg.connect(postgres, autocommit=True) as conn:
            conn.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(names["plant"])))
            for role in ("historian_owner", "historian_server"):
                conn.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(names[role])))


def test_the_image_is_built_of_what_the_package_says() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    versions = set(re.findall(r"FROM python:(\d\.\d+)", text))
    assert len(versions) == 1
    assert f"Programming Language :: Python :: {versions.pop()}" in project["classifiers"]
    extras = re.search(r"whl\)\[([\w,]+)\]", text)
    assert extras is not None
    assert set(extras[1].split(",")) <= set(project["optional-dependencies"])
    user = re.search(r"--uid (\d+)", text)
    assert user is not None
    for name, pod in PODS.items():
        if pod["spec"]["containers"][0]["image"] == "historian":
            assert pod["spec"]["securityContext"]["runAsUser"] == int(user[1]), name
