"""Tests with programs from Debian (scripts/operations); what needs one that is missing is not collected."""

from __future__ import annotations

import os
import shutil
import subprocess

# Debian has daemons here, and not on everybody's PATH.
os.environ["PATH"] += os.pathsep + "/usr/sbin" + os.pathsep + "/sbin"

NEEDS = {
    "test_balancer_*": ("haproxy",),
    "test_container_*": ("debootstrap", "buildah"),
    "test_prometheus_*": ("prometheus", "promtool"),
}


def has_kustomize() -> bool:
    """Whether there is a kustomize of today, by itself or in kubectl."""
    if shutil.which("kustomize"):
        return True
    if not shutil.which("kubectl"):
        return False
    version = subprocess.run(["kubectl", "version", "--client"], capture_output=True, text=True, check=False)
    return "Kustomize Version: v5" in version.stdout


collect_ignore_glob = [
    pattern for pattern, programs in NEEDS.items() if not all(shutil.which(program) for program in programs)
]
if os.geteuid() != 0:  # to mount and to change users
    collect_ignore_glob.append("test_container_*")
if not has_kustomize():
    collect_ignore_glob.append("test_k8s_*")
