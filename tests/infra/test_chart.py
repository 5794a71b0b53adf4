"""The chart renders, is valid for Kubernetes, and fits what Airflow's values name."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import kubernetes_validate
import pyspark
import pytest
from helm import KUBERNETES, helm
from manifests import AIRFLOW_VALUES, CHART, PRODUCTION, containers, read_yaml, rendered

from jobs.settings import Settings, load_settings

VALUES = (None, PRODUCTION)
FOREIGN = {"ServiceMonitor"}  # of Prometheus' operator: Kubernetes has no schema of it


def of_kind(kind: str, values: Path | None = None) -> dict[str, dict[str, Any]]:
    """The rendered objects of a kind by their names."""
    found = {}
    for document in rendered(values):
        if document["kind"] == kind:
            found[document["metadata"].get("name", "")] = document
    return found


@pytest.mark.parametrize("values", VALUES)
def test_helm_finds_nothing(values):
    answer = helm(CHART, read_yaml(values) if values else {})
    assert answer["error"] == ""
    assert answer["errors"] == []
    assert [finding for finding in answer["messages"] if finding["severity"] > 1] == []


def test_every_object_is_one_of_kubernetes():
    for document in rendered(PRODUCTION):
        if document["kind"] not in FOREIGN:
            kubernetes_validate.validate(document, KUBERNETES, strict=True)
    kinds = {document["kind"] for document in rendered(PRODUCTION)}
    assert {document["kind"] for document in rendered()} <= kinds


def test_a_field_that_kubernetes_does_not_have_is_found():
    deployment = of_kind("Deployment")["evergreen-registry"]
    wrong = {**deployment, "spec": {**deployment["spec"], "replica": 3}}
    with pytest.raises(kubernetes_validate.ValidationError, match="replica"):
        kubernetes_validate.validate(wrong, KUBERNETES, strict=True)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"registry": {"minReplica": 3}}, "minReplica"),
        ({"image": {"tag": "latest"}}, "/image/tag"),
        ({"storage": {"url": "evergreen/home"}}, "/storage/url"),
        ({"existingSecret": ""}, "/existingSecret"),
    ],
)
def test_wrong_values_are_refused_by_name(values, message):
    assert message in helm(CHART, values)["error"]


@pytest.mark.parametrize("values", VALUES)
def test_every_container_is_locked(values):
    """Not root, a read-only root file system, no capability, no token, a limit of memory."""
    for document in rendered(values):
        spec = pod_of(document)
        if spec is None:
            continue
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            if document["kind"] != "Pod":  # Spark sets the memory of an executor
                assert "memory" in container["resources"]["limits"]


def pod_of(document: dict[str, Any]) -> dict[str, Any] | None:
    """The pod that an object describes."""
    spec = document.get("spec", {})
    if document["kind"] == "Pod":
        return spec
    if document["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    return spec["template"]["spec"] if "template" in spec else None


def test_people_reach_pages_and_mlflow_from_where_the_values_say():
    """And from nowhere else: a rule without a source would allow all."""
    assert "evergreen-people" not in of_kind("NetworkPolicy")
    policy = of_kind("NetworkPolicy", PRODUCTION)["evergreen-people"]["spec"]
    (rule,) = policy["ingress"]
    assert rule["from"] == read_yaml(PRODUCTION)["network"]["people"]
    ports = set()
    for name in policy["podSelector"]["matchExpressions"][0]["values"]:
        service = of_kind("Service", PRODUCTION)[f"evergreen-{name}"]
        ports |= {port["port"] for port in service["spec"]["ports"]}
    assert {port["port"] for port in rule["ports"]} == ports


def test_the_region_of_the_bucket_reaches_every_container():
    assert "AWS_REGION" not in of_kind("ConfigMap")["evergreen-environment"]["data"]
    given = of_kind("ConfigMap", PRODUCTION)["evergreen-environment"]["data"]["AWS_REGION"]
    (registry,) = containers(of_kind("Deployment", PRODUCTION)["evergreen-registry"])
    assert {"name": "AWS_REGION", "value": given} in registry["env"]


def test_no_secret_is_in_the_chart():
    """They are named, and mounted as files."""
    assert of_kind("Secret") == {}
    for document in rendered():
        for container in containers(document):
            for variable in container.get("env", []):
                assert "secretKeyRef" not in variable.get("valueFrom", {})


def test_each_service_selects_its_pods():
    deployments = of_kind("Deployment")
    for name, service in of_kind("Service").items():
        labels = deployments[name]["spec"]["template"]["metadata"]["labels"]
        assert service["spec"]["selector"].items() <= labels.items()


def test_what_airflows_values_name_is_in_the_chart():
    values = read_yaml(AIRFLOW_VALUES)
    assert "name: evergreen-environment" in values["extraEnvFrom"]
    names = {"configMap": "ConfigMap", "persistentVolumeClaim": "PersistentVolumeClaim"}
    volumes = {volume["name"]: volume for volume in values["volumes"]}
    theirs = pod_of(of_kind("Deployment")["evergreen-mlflow"])
    assert theirs is not None
    assert volumes == {volume["name"]: volume for volume in theirs["volumes"]}
    assert values["volumeMounts"] == theirs["containers"][0]["volumeMounts"]
    named = volumes["settings"]["configMap"]["name"], volumes["home"]["persistentVolumeClaim"]
    assert named[0] in of_kind(names["configMap"])
    assert named[1]["claimName"] in of_kind(names["persistentVolumeClaim"])
    tag = read_yaml(CHART / "Chart.yaml")["appVersion"]
    assert values["images"]["airflow"] == {"repository": "evergreen", "tag": tag}
    assert values["scheduler"]["extraContainers"][0]["image"] == f"evergreen:{tag}"


def settings_of(values: Path | None, folder: Path) -> Settings:
    """The settings that a release has."""
    file = folder / "evergreen.toml"
    file.write_text(of_kind("ConfigMap", values)["evergreen-settings"]["data"]["evergreen.toml"])
    return load_settings(file)


def test_the_settings_are_valid(tmp_path, monkeypatch):
    """Also with what the driver's container adds to Spark's options."""
    assert settings_of(None, tmp_path).spark.master == "local[*]"
    spark = read_yaml(AIRFLOW_VALUES)["scheduler"]["extraContainers"][0]
    (added,) = [entry["value"] for entry in spark["env"] if "CONF" in entry["name"]]
    monkeypatch.setenv("EVERGREEN_SPARK__CONF", added.replace("$(POD_IP)", "10.0.0.7"))
    conf = settings_of(PRODUCTION, tmp_path).spark.conf
    assert conf["spark.driver.host"] == conf["spark.driver.bindAddress"] == "10.0.0.7"
    template = "spark.kubernetes.executor.podTemplateFile"
    assert conf[template] == "/etc/evergreen/settings/executor.yaml"
    slots = int(conf["spark.executor.instances"]) * int(conf["spark.executor.cores"])
    assert settings_of(PRODUCTION, tmp_path).spark.members <= slots


def test_spark_has_the_options_of_kubernetes(tmp_path):
    """Their names are among the constants of its class of options."""
    jars = Path(pyspark.__file__).parent / "jars"
    (jar,) = jars.glob("spark-kubernetes_*.jar")
    constants = zipfile.ZipFile(jar).read("org/apache/spark/deploy/k8s/Config$.class")
    conf = settings_of(PRODUCTION, tmp_path).spark.conf
    named = [name for name in conf if name.startswith("spark.kubernetes.")]
    assert len(named) >= 4
    assert [name for name in named if name.encode() not in constants] == []
    assert b"spark.kubernetes.container.images" not in constants
