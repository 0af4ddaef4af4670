"""The Dockerfile as it is written, and what it installs; tests/operations builds it."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from dockerfile_parse import DockerfileParser
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

EXTRAS = {"cpu": {"image", "otel", "uvloop"}, "cuda": {"image", "otel", "uvloop", "cuda", "tensorrt"}}
"""What each target installs besides what yais needs."""


def instructions() -> list[tuple[str, str]]:
    parser = DockerfileParser(path=str(ROOT / "Dockerfile"))
    return [
        (each["instruction"], each["value"]) for each in parser.structure if each["instruction"] != "COMMENT"
    ]


def stages() -> dict[str, list[tuple[str, str]]]:
    """The instructions of each stage by its name, its FROM first."""
    found: dict[str, list[tuple[str, str]]] = {}
    for instruction, value in instructions():
        if instruction == "FROM":
            current = found[value.split(" AS ")[1]] = []
        elif not found:
            continue  # ARG, before the first
        current.append((instruction, value))
    return found


def of_target(name: str) -> list[tuple[str, str]]:
    """All that makes up an image: its stage, after those it is FROM."""
    own = stages()[name]
    base = own[0][1].split(" AS ")[0]
    return (of_target(base) if base in stages() else []) + own


def values(target: str, instruction: str) -> list[str]:
    return [value for each, value in of_target(target) if each == instruction]


def test_what_is_built_by_default_is_for_cpus() -> None:
    assert {"cpu", "cuda"} <= stages().keys()
    assert list(stages())[-1] == "cpu"


def test_the_base_is_chosen_in_one_place() -> None:
    instruction, value = instructions()[0]
    assert instruction == "ARG" and re.fullmatch(r"PYTHON=3\.\d+-slim-\w+", value)
    bases = {value.split(" AS ")[0] for instruction, value in instructions() if instruction == "FROM"}
    assert bases - stages().keys() == {"docker.io/library/python:${PYTHON}"}


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_the_last_stage_only_takes_what_was_built(target: str) -> None:
    assert values(target, "RUN") == values(target, "ADD") == values(target, "HEALTHCHECK") == []
    assert values(target, "COPY") == [f"--from=build-{target} /opt/yais /opt/yais"]


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_it_runs_the_server_itself_as_nobody_in_particular(target: str) -> None:
    (entrypoint,), (user,) = values(target, "ENTRYPOINT"), values(target, "USER")
    assert json.loads(entrypoint) == ["yais", "serve"]
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user)
    assert values(target, "STOPSIGNAL") == ["SIGTERM"]


def test_stages_are_copied_from_that_are_there() -> None:
    copied = {name for _, value in instructions() for name in re.findall(r"^--from=(\S+)", value)}
    assert copied == {"wheel", "build-cpu", "build-cuda"} and copied <= stages().keys()


def test_what_is_copied_is_there_and_not_ignored() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    kept = {line[1:] for line in lines if line.startswith("!")}
    copies = [
        value.split()[:-1] for each, value in instructions() if each == "COPY" and "--from" not in value
    ]
    sources = {source for copy in copies for source in copy}
    assert sources and all((ROOT / source).exists() for source in sources)
    assert {source.split("/")[0] for source in sources} == kept


def test_everything_that_is_fetched_has_a_hash() -> None:
    installs = [line for each, value in instructions() if each == "RUN" for line in value.split("&&")]
    fetching = [line for line in installs if "install " in line and "--no-deps" not in line]
    assert len(fetching) == 3 and all("--require-hashes" in line for line in fetching)


def locked(name: str) -> dict[str, str]:
    text = (ROOT / f"container/{name}.txt").read_text(encoding="utf-8")
    entries = re.findall(r"^([\w.-]+)==(\S+) \\\n    --hash=sha256:", text, re.MULTILINE)
    assert len(entries) == text.count("==")
    return dict(entries)


def wanted(requirements: list[str]) -> list[Requirement]:
    """What the project asks for, its extras in the place of its own name."""
    optional: dict[str, list[str]] = PYPROJECT["project"]["optional-dependencies"]
    found = []
    for requirement in map(Requirement, requirements):
        if requirement.name == "yais":
            found += wanted([each for extra in requirement.extras for each in optional[extra]])
        else:
            found.append(requirement)
    return found


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_what_is_locked_is_what_the_project_asks_for(target: str) -> None:
    project: dict[str, Any] = PYPROJECT["project"]
    optional = [each for extra in EXTRAS[target] for each in project["optional-dependencies"][extra]]
    have = locked(target)
    for requirement in wanted(project["dependencies"] + optional):
        version = have.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement} is not locked: run scripts/container-lock"
        assert requirement.specifier.contains(version), (
            f"{requirement}: {version}; run scripts/container-lock"
        )


def test_the_builder_is_locked() -> None:
    (requirement,) = map(Requirement, PYPROJECT["build-system"]["requires"])
    assert requirement.specifier.contains(locked("build")[requirement.name])


def test_the_image_has_the_projects_version() -> None:
    version = PYPROJECT["project"]["version"]
    assert f"VERSION={version}" in values("cpu", "ARG")
    text = (ROOT / "k8s/base/kustomization.yaml").read_text(encoding="utf-8")
    assert f"newTag: {version}-cpu" in text
