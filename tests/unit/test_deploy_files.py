"""Service units, containers and their configuration name what exists."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from cauda.core.settings import load
from cauda.deploy.cli import app

DEPLOY = Path(__file__).parents[2] / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
COMPOSE = yaml.safe_load((DEPLOY / "compose.yml").read_text())


def parses(arguments: list[str]) -> None:
    """Raises click's UsageError when the command line has no such command or option."""
    group: Any = get_command(app)
    name, command, rest = group.resolve_command(group.make_context("cauda", list(arguments)), list(arguments))
    command.make_context(name, rest)


def unit(path: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def test_there_is_a_unit_for_each_process() -> None:
    assert [path.stem for path in UNITS] == ["cauda-deliverer", "cauda-grader", "cauda-listener"]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_starts_a_command_that_exists(path: Path) -> None:
    (start,) = unit(path)["ExecStart"]
    env, cauda, *arguments = start.split()
    assert (env, cauda) == ("/usr/bin/env", "cauda")
    parses(arguments)


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_stops_later_than_the_drain(path: Path) -> None:
    """The service manager must not kill what is still finishing a transfer."""
    (stop,) = unit(path)["TimeoutStopSec"]
    assert float(stop) > load(None, environ={}).limits.drain_s


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_does_not_hide_processes(path: Path) -> None:
    """Liveness is read from /proc: hidden is taken for dead, and a live worker's study would be graded twice."""
    assert not {"ProtectProc", "ProcSubset", "PrivatePIDs"} & set(unit(path))


def test_grading_leaves_the_processor_to_who_waits_for_an_answer() -> None:
    """The kernel shares between units and containers by weight alone: niceness counts within each of them."""
    usual_weight, usual_shares = 100, 1024  # systemd.resource-control(5), docker run --cpu-shares
    weights = {path.stem: int(unit(path).get("CPUWeight", [usual_weight])[0]) for path in UNITS}
    shares = {name: service.get("cpu_shares", usual_shares) for name, service in COMPOSE["services"].items()}
    assert all(weights["cauda-grader"] * 10 <= weight for name, weight in weights.items() if name != "cauda-grader")
    assert all(shares["grader"] * 10 <= share for name, share in shares.items() if name != "grader")


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_systemd_accepts_the_unit(path: Path) -> None:
    done = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_units_find_the_configuration_where_the_readme_puts_it() -> None:
    readme = (DEPLOY.parent / "README.md").read_text()
    assert "/etc/cauda/cauda.toml" in readme
    assert all("CAUDA_CONFIG=/etc/cauda/cauda.toml" in " ".join(unit(path)["Environment"]) for path in UNITS)


@pytest.mark.parametrize("name", ["listener", "grader", "deliverer"])
def test_a_container_starts_a_command_that_exists(name: str) -> None:
    parses(COMPOSE["services"][name]["command"])


def test_every_service_waits_for_what_it_needs_and_mounts_what_is_there() -> None:
    services = COMPOSE["services"]
    for service in services.values():
        assert set(service.get("depends_on", {})) <= set(services)
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert source in COMPOSE["volumes"] or (DEPLOY / source).is_file(), source
    build = services["listener"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).is_file()
    for name in ("grader", "deliverer"):
        assert services[name]["depends_on"]["postgres"]["condition"] == "service_healthy"
        assert "healthcheck" in services["postgres"]


def test_the_containers_configuration_is_valid_and_meets_orthancs() -> None:
    """AE titles and ports of both ends agree."""
    environment = {
        key: re.sub(r"\$\{[^}]*\}", "secret", value)
        for key, value in COMPOSE["services"]["listener"]["environment"].items()
    }
    settings = load(DEPLOY / "compose.toml", environ=environment)
    orthanc = json.loads((DEPLOY / "orthanc.json").read_text())
    (destination,) = settings.destinations
    assert settings.ledger.startswith("postgresql://cauda:secret@postgres/")
    assert (destination.aet, destination.host, destination.port) == (
        orthanc["DicomAet"],
        "orthanc",
        orthanc["DicomPort"],
    )
    us = orthanc["DicomModalities"]["cauda"]
    assert (us["AET"], us["Host"], us["Port"]) == (settings.node.aet, "listener", settings.node.port)
    assert us["AllowFind"]  # the study is looked up before its results are sent (CLINICAL.md 25)
    assert destination.live
    published = {port.rpartition(":")[2] for port in COMPOSE["services"]["listener"]["ports"]}
    assert published == {str(settings.node.port), str(settings.http.port)}


def test_no_password_is_shipped() -> None:
    for path in (DEPLOY / "compose.yml", DEPLOY / "compose.toml", DEPLOY / "cauda.example.toml"):
        assert not re.search(r"(?i)password\s*[:=]\s*[\"']?[a-z0-9]", path.read_text())
