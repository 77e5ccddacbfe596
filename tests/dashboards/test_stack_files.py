"""Static checks of the stack's files: pinned images, loopback ports, and no undefined names."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest
import yaml

from tests.support.board_files import FOLDER, boards
from tests.support.paths import ROOT
from tests.support.prometheus_server import require

STACK = FOLDER / "stack"


def read(path: str) -> Any:
    return yaml.safe_load((FOLDER / path).read_text("utf-8"))


SERVICES = read("compose.yaml")["services"]
SOURCES = {source["uid"]: source for source in read("provisioning/datasources/sidestream.yaml")["datasources"]}


@pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)
class TestServices:
    def test_is_pinned(self, service: dict[str, Any]) -> None:
        image, _, tag = service["image"].partition(":")
        assert re.match(r"v?\d+\.\d+", tag) or image == "sidestream-demo"

    def test_listens_on_loopback_alone(self, service: dict[str, Any]) -> None:
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))

    def test_what_it_mounts_is_there(self, service: dict[str, Any]) -> None:
        for mount in service.get("volumes", ()):
            source = mount.split(":")[0]
            if source.startswith("."):
                assert (FOLDER / source).exists(), mount
            else:
                assert source in read("compose.yaml")["volumes"]

    def test_waits_for_services_there_are(self, service: dict[str, Any]) -> None:
        assert set(service.get("depends_on", ())) <= set(SERVICES)


def test_grafana_is_open_to_viewers() -> None:
    environment = SERVICES["grafana"]["environment"]
    assert environment["GF_AUTH_ANONYMOUS_ENABLED"] == "true"
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"


def test_the_scale_profile_is_collector_kafka_clickhouse() -> None:
    scale = {name for name, service in SERVICES.items() if service.get("profiles") == ["scale"]}
    assert scale == {"kafka", "from-kafka", "clickhouse"}


@pytest.mark.parametrize("name", ["collector", "kafka", "from-kafka"])
def test_pipelines_of_the_collector_name_what_is_configured(name: str) -> None:
    config = read(f"stack/{name}.yaml")
    for pipeline in config["service"]["pipelines"].values():
        for kind in ("receivers", "processors", "exporters"):
            assert set(pipeline[kind]) <= set(config[kind])


def test_prometheus_accepts_its_configuration(tmp_path: Any) -> None:
    for path in (STACK / "prometheus.yml", FOLDER / "generated/sidestream.rules.yaml"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    subprocess.run([require("promtool"), "check", "config", tmp_path / "prometheus.yml"], check=True)
    assert "--enable-feature=exemplar-storage" in SERVICES["prometheus"]["command"]


def test_dots_on_the_panels_lead_to_the_trace_and_to_the_log() -> None:
    [prometheus] = [source for source in SOURCES.values() if source["type"] == "prometheus"]
    to = prometheus["jsonData"]["exemplarTraceIdDestinations"]
    [trace] = [each for each in to if each["name"] == "trace_id"]
    assert SOURCES[trace["datasourceUid"]]["type"] == "tempo"
    of_run = {each["url"] for each in to if each["name"] == "run_id"}
    [review] = [v["query"] for v in boards()["sidestream-fleet"]["templating"]["list"] if v["name"] == "review"]
    board = "/d/sidestream-run?var-run=$${__value.raw}&var-trace=$${__data.fields.trace_id}"
    assert of_run == {f"{review}/runs/$${{__value.raw}}", board}


def test_traces_and_logs_lead_to_data_sources_there_are() -> None:
    text = (FOLDER / "provisioning/datasources/sidestream.yaml").read_text("utf-8")
    assert set(re.findall(r"datasourceUid: (\S+)", text)) <= set(SOURCES)


def test_the_boards_are_where_grafana_looks() -> None:
    [provider] = read("provisioning/dashboards/sidestream.yaml")["providers"]
    assert f"./generated/:{provider['options']['path']}/:ro" in SERVICES["grafana"]["volumes"]


def test_the_kubernetes_example_is_whole() -> None:
    deployment, monitor = yaml.safe_load_all((FOLDER / "kubernetes/sidecar.yaml").read_text("utf-8"))
    pod = deployment["spec"]["template"]["spec"]
    containers = [*pod["initContainers"], *pod["containers"]]
    volumes = {volume["name"] for volume in pod["volumes"]}
    assert {mount["name"] for container in containers for mount in container["volumeMounts"]} <= volumes
    ports = {port["name"] for container in containers for port in container.get("ports", ())}
    assert {endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]} <= ports
    assert monitor["spec"]["selector"]["matchLabels"] == deployment["spec"]["template"]["metadata"]["labels"]


def test_the_page_names_files_there_are() -> None:
    named = re.findall(r"`(dashboards/[\w./-]+)`", (ROOT / "docs/dashboards.md").read_text("utf-8"))
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_pictures_are_small() -> None:
    sizes = {path.name: path.stat().st_size for path in (ROOT / "docs/pictures/boards").glob("*.png")}
    assert {name.removesuffix(".png") for name in sizes} == set(boards())
    assert max(sizes.values()) < 180_000
