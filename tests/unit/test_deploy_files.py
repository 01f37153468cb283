"""The files of `deploy/` and `docker/` against their schemas, and against what they promise."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import promql_parser
import pytest
import yaml

from documents import REPOSITORY
from perfuse.config import ServeConfig
from promql import expressions, selected

DEPLOY = REPOSITORY / "deploy"
EDGE = yaml.safe_load((DEPLOY / "compose/edge.yaml").read_text())
MANIFESTS = [
    (f"{file.relative_to(DEPLOY)}: {document['kind']} {document['metadata']['name']}", document)
    for file in sorted((DEPLOY / "kubernetes").rglob("*.yaml"))
    if file.name != "kustomization.yaml"
    for document in yaml.safe_load_all(file.read_text())
]
KNOWN = [pair for pair in MANIFESTS if pair[1]["kind"] != "ScaledObject"]
PODS = [(name, each["spec"]["template"]["spec"]) for name, each in KNOWN if "template" in each["spec"]]


def test_the_compose_file_obeys_the_compose_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    child = subprocess.run([*command, str(DEPLOY / "compose/edge.yaml")], capture_output=True, text=True)
    assert child.returncode == 0, child.stdout


@pytest.mark.parametrize("service", EDGE["services"].values(), ids=list(EDGE["services"]))
def test_every_container_is_confined(service: dict[str, object]) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"cpus", "mem_limit", "pids_limit", "healthcheck", "logging", "secrets"} <= service.keys()
    assert "privileged" not in service
    assert not str(service["image"]).endswith(":latest")


def test_only_the_server_is_published_and_redis_has_no_way_out() -> None:
    assert [name for name, service in EDGE["services"].items() if "ports" in service] == ["perfuse"]
    assert EDGE["services"]["redis"]["networks"] == ["inside"]
    assert EDGE["networks"]["inside"] == {"internal": True}
    assert EDGE["services"]["perfuse"]["depends_on"] == {"redis": {"condition": "service_healthy"}}


def test_redis_forgets_nothing_it_acknowledged() -> None:
    command = EDGE["services"]["redis"]["command"]
    options = dict(zip(command[2::2], command[3::2], strict=True))
    assert (options["--appendonly"], options["--maxmemory-policy"]) == ("yes", "noeviction")


def test_the_secrets_that_are_drawn_are_those_that_are_mounted(tmp_path: Path) -> None:
    shutil.copy(DEPLOY / "compose/secrets.sh", tmp_path)
    for _ in range(2):
        subprocess.run(["sh", tmp_path / "secrets.sh"], check=True, capture_output=True)
    drawn = {file.name: file.read_bytes() for file in (tmp_path / "secrets").iterdir()}
    assert {Path(secret["file"]).name for secret in EDGE["secrets"].values()} <= drawn.keys()
    assert len({entry["key"] for entry in yaml.safe_load(drawn["keys.yaml"])}) == 2
    password = drawn["redis.conf"].split()[1].decode()
    assert yaml.safe_load(drawn["perfuse.yaml"]) == {"queue": f"redis://:{password}@redis:6379/0"}
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("manifest", [each for _, each in KNOWN], ids=[name for name, _ in KNOWN])
def test_manifests_obey_the_schemas_of_kubernetes(manifest: dict[str, object]) -> None:
    kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("pod", [each for _, each in PODS], ids=[name for name, _ in PODS])
def test_every_pod_is_confined(pod: dict[str, object]) -> None:
    security = pod["securityContext"]
    assert (security["runAsNonRoot"], security["seccompProfile"]) == (True, {"type": "RuntimeDefault"})
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"requests", "limits"} <= container["resources"].keys()


def test_what_learns_is_one_process() -> None:
    learning = [
        (each["kind"], each["spec"].get("replicas"))
        for name, each in KNOWN
        if "template" in each["spec"]
        for container in each["spec"]["template"]["spec"]["containers"]
        if container["image"] == "perfuse" and "off" not in container.get("args", [])
    ]
    assert learning == [("StatefulSet", 1)]


def test_servers_drain_before_kubernetes_kills_them() -> None:
    drain = ServeConfig.model_fields["drain_seconds"].default
    for name, pod in PODS:
        for container in pod["containers"]:
            if container["image"] == "perfuse":
                pause = int(re.search(r"sleep\((\d+)\)", str(container["lifecycle"]["preStop"]))[1])
                assert pod["terminationGracePeriodSeconds"] > pause + drain, name


def test_kustomizations_name_files_that_exist() -> None:
    for file in (DEPLOY / "kubernetes").rglob("kustomization.yaml"):
        for resource in yaml.safe_load(file.read_text())["resources"]:
            assert (file.parent / resource).exists(), f"{file}: {resource}"


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")
@pytest.mark.parametrize("folder", ["base", "overlays/gpu", "overlays/keda"])
def test_kustomizations_build(folder: str) -> None:
    command = ["kubectl", "kustomize", str(DEPLOY / "kubernetes" / folder)]
    child = subprocess.run(command, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    for manifest in yaml.safe_load_all(child.stdout):
        if manifest["kind"] != "ScaledObject":
            kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("expression", expressions().values(), ids=list(expressions()))
def test_every_expression_parses_and_takes_rates_of_what_only_grows(expression: str) -> None:
    found = list(selected(promql_parser.parse(expression)))
    assert found
    assert [each for each in found if each.rated and not each.metric.endswith(("_total", "_bucket"))] == []


def test_every_alert_says_what_is_wrong_and_what_to_do() -> None:
    rules = yaml.safe_load((DEPLOY / "monitoring/alerts.yaml").read_text())["groups"][0]["rules"]
    assert all({"summary", "action"} == rule["annotations"].keys() for rule in rules)
    assert {rule["labels"]["severity"] for rule in rules} <= {"critical", "warning", "info"}


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads((DEPLOY / "monitoring/dashboard.json").read_text())["panels"]:
        grid = panel["gridPos"]
        places = {
            (x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not places & taken, panel["title"]
        assert grid["x"] + grid["w"] <= 24
        taken |= places


def test_images_come_from_arguments_and_run_as_nobody() -> None:
    lines = (REPOSITORY / "docker/Dockerfile").read_text().splitlines()
    outside = [line.split()[1] for line in lines if line.startswith("FROM ") and line.split()[1].startswith("$")]
    assert set(outside) == {"${BASE_IMAGE}", "${BUILD_IMAGE}", "${RUST_IMAGE}"}
    assert {line.split()[-1] for line in lines if line.startswith("FROM ")} >= {"cpu", "cuda", "worker"}
    users = [line for line in lines if line.startswith("USER ")]
    assert users
    assert set(users) == {"USER 10001:10001"}


@pytest.fixture
def torch_like(tmp_path: Path) -> Path:
    """A site-packages with a torch that is linked against two CUDA libraries, of which only one is installed."""
    lib, runtime = tmp_path / "torch/lib", tmp_path / "nvidia/cu13/lib"
    lib.mkdir(parents=True)
    runtime.mkdir(parents=True)

    def compile_(target: Path, code: str, *flags: str | Path, soname: str = "") -> None:
        source = tmp_path / "library.c"
        source.write_text(code)
        named = [f"-Wl,-soname,{soname}"] if soname else []
        subprocess.run(["cc", "-shared", "-fPIC", "-o", target, source, *named, *flags], check=True)

    versions = tmp_path / "versions.map"
    versions.write_text("libcublas.so.13 { global: cublasCreate; };")
    cublas = lib / "libcublas.so.13"
    compile_(cublas, "int cublasCreate(void) { return 0; }", f"-Wl,--version-script,{versions}", soname=cublas.name)
    nccl = lib / "libnccl.so.2"
    compile_(nccl, "int ncclInit(void) { return 0; }", soname=nccl.name)
    cudart = runtime / "libcudart.so.13"
    compile_(cudart, "int cudaGetDeviceCount(void) { return 0; }", soname=cudart.name)
    code = """
    int cudaGetDeviceCount(void); int cublasCreate(void); int ncclInit(void);
    int (*address_that_is_resolved_at_load)(void) = ncclInit;
    int devices(void) { return cudaGetDeviceCount(); }
    int multiply(void) { return cublasCreate(); }
    """
    rpath = "-Wl,-rpath,$ORIGIN/../../nvidia/cu13/lib:$ORIGIN"
    compile_(lib / "libtorch_cuda.so", code, cublas, nccl, cudart, rpath, "-Wl,--disable-new-dtags")
    for name in ("libtorch_cuda_linalg.so", "libcaffe2_nvrtc.so"):
        shutil.copy(lib / "libtorch_cuda.so", lib / name)
    cublas.unlink()
    nccl.unlink()
    return tmp_path


def test_torch_loads_without_cuda_and_says_so_where_it_is_called(torch_like: Path) -> None:
    library = torch_like / "torch/lib/libtorch_cuda.so"
    # In children: a process that has imported torch holds libraries of these names already.
    alone = [sys.executable, "-c", f"import ctypes; ctypes.CDLL({str(library)!r})"]
    before = subprocess.run(alone, capture_output=True, text=True)
    assert "cannot open shared object file" in before.stderr
    script = REPOSITORY / "docker/without_cuda.py"
    done = subprocess.run([sys.executable, script, torch_like], capture_output=True, text=True, check=True)
    assert done.stdout == "libcublas.so.13 replaced\nlibnccl.so.2 replaced\n"
    load = f"import ctypes; torch = ctypes.CDLL({str(library)!r}); assert torch.devices() == 0; torch.multiply()"
    child = subprocess.run([sys.executable, "-c", load], capture_output=True, text=True)
    assert child.returncode == -6
    assert child.stderr == "cublasCreate: this image has no CUDA; use the target cuda on a machine with a GPU\n"
