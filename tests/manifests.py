"""The manifests of k8s/: read, rendered by kustomize, validated against the schemas of their kinds."""

from __future__ import annotations

import json
import shutil
import subprocess
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from referencing import Registry, Resource

ROOT = Path(__file__).parents[1]
K8S = ROOT / "k8s"
VERSIONS = ("1.30.0", "1.37.0")
"""Of Kubernetes: the first and the last that the manifests are for."""

Manifest = dict[str, Any]


def documents(text: str) -> list[Manifest]:
    return [document for document in yaml.safe_load_all(text) if document]


def kustomizations(*, components: bool = False) -> list[Path]:
    """Every directory of k8s/ that kustomize renders; and the components, which are parts of others."""
    found = sorted(path.parent for path in K8S.rglob("kustomization.yaml"))
    return [path for path in found if components or "kind: Component" not in _kustomization(path)]


def _kustomization(directory: Path) -> str:
    return (directory / "kustomization.yaml").read_text(encoding="utf-8")


def resources(directory: Path) -> list[Path]:
    """The manifests that a kustomization names, its own."""
    paths = [directory / name for name in yaml.safe_load(_kustomization(directory)).get("resources", ())]
    return [path for path in paths if path.is_file()]


@cache
def render(directory: Path) -> list[Manifest]:
    """What `kubectl apply -k` would apply."""
    command = ["kustomize", "build"] if shutil.which("kustomize") else ["kubectl", "kustomize"]
    done = subprocess.run([*command, directory], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return documents(done.stdout)


def one(manifests: list[Manifest], kind: str, name: str = "") -> Manifest:
    """The only manifest of a kind, or of a kind and name."""
    (found,) = (
        manifest
        for manifest in manifests
        if manifest["kind"] == kind and (not name or manifest["metadata"]["name"] == name)
    )
    return found


def problems(manifest: Manifest, version: str = VERSIONS[-1]) -> list[str]:
    """What is wrong with a manifest, each with the path to it; a kind without a schema is wrong, too."""
    name = f"{manifest.get('apiVersion')} {manifest.get('kind')} {manifest.get('metadata', {}).get('name')}"
    schema = _schema(manifest.get("apiVersion", ""), manifest.get("kind", ""), version)
    if schema is None:
        return [f"{name}: no schema"]
    errors = jsonschema.Draft202012Validator(schema, registry=_registry(version)).iter_errors(manifest)
    return [f"{name}: {'.'.join(map(str, error.absolute_path))}: {error.message}" for error in errors]


def _core(version: str) -> Any:
    return files("kubernetes_validate") / "kubernetes-json-schema" / f"v{version}-local-strict"


@cache
def _schema(api_version: str, kind: str, version: str) -> Any:
    ours = K8S / "schemas" / f"{api_version.replace('/', '_')}_{kind}.json"
    if ours.is_file():
        return json.loads(ours.read_text(encoding="utf-8"))
    group, _, of_group = api_version.rpartition("/")
    suffix = f"{group.partition('.')[0]}-{of_group}" if group else of_group
    core = _core(version) / f"{kind.lower()}-{suffix}.json"
    return json.loads(core.read_text(encoding="utf-8")) if core.is_file() else None


@cache
def _registry(version: str) -> Registry[Any]:
    definitions = json.loads((_core(version) / "_definitions.json").read_text(encoding="utf-8"))
    return Resource.from_contents(definitions) @ Registry()
