"""Images built by buildah, without an engine or a registry, and processes in them as Kubernetes has them."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

LIMIT = 300
"""Seconds that a command may take."""


def run(*command: object) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=LIMIT)
    assert done.returncode == 0, f"{command[0]}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stdout.strip()


class Images:
    """A store of images of its own.

    Parameters
    ----------
    folder
        Empty; for the store, and what images are made of.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        store = ("--root", folder / "store", "--runroot", folder / "run", "--storage-driver", "overlay")
        self._buildah = ("buildah", *store)

    def debian(self, name: str, *packages: str) -> None:
        """Make an image of Debian 12, in the place of one that would be pulled."""
        tree = self._folder / "debian"
        run("debootstrap", "--variant=minbase", f"--include={','.join(packages)}", "bookworm", tree)
        run("sh", "-c", f"rm -rf {tree}/var/cache/apt/archives/*.deb {tree}/var/lib/apt/lists/*")
        (self._folder / "Base").write_text("FROM scratch\nCOPY debian /\n", encoding="utf-8")
        self._build("-f", self._folder / "Base", "-t", name, self._folder)

    def build(self, target: str, name: str) -> None:
        """Build a target of the Dockerfile."""
        # The certificates of this machine, for pip: there may be a proxy with its own.
        certificates = "/etc/ssl/certs:/etc/ssl/certs:ro"
        self._build("--pull-never", "-v", certificates, "--target", target, "-t", name, ROOT)

    def _build(self, *arguments: object) -> None:
        run(*self._buildah, "build", "--isolation", "chroot", *arguments)

    def close(self) -> None:
        """Remove what it made; images are large."""
        run(*self._buildah, "rm", "--all")
        run(*self._buildah, "rmi", "--all", "--force")
        shutil.rmtree(self._folder)

    def config(self, name: str) -> dict[str, Any]:
        """Return what an image says of how it is run."""
        config: dict[str, Any] = json.loads(run(*self._buildah, "inspect", "--type", "image", name))["OCIv1"][
            "config"
        ]
        return config

    @contextmanager
    def tree(self, name: str) -> Iterator[Path]:
        """Lend the files of an image, a copy."""
        container = run(*self._buildah, "from", "--pull-never", name)
        try:
            yield Path(run(*self._buildah, "mount", container))
        finally:
            run(*self._buildah, "rm", container)


@contextmanager
def contained(
    tree: Path, config: dict[str, Any], *arguments: str, mounts: dict[str, Path]
) -> Iterator[subprocess.Popen[str]]:
    """Start what an image says, as a pod of k8s/base does, on this machine's network.

    The root is read-only, /tmp empty; the user is the image's, without capabilities or a way to get any.

    Parameters
    ----------
    mounts
        Directories that it sees, read-only, by where.
    """
    for place in mounts:
        (tree / place.lstrip("/")).mkdir(exist_ok=True)
    binds = {"/dev": Path("/dev"), **mounts}
    lines = [
        f"mount --rbind {tree} {tree}",
        f"mount -t tmpfs -o size=64m tmpfs {tree}/tmp",
        f"mount -t proc proc {tree}/proc",
        *(f"mount --rbind {source} {tree}{place}" for place, source in binds.items()),
        *(f"mount -o remount,bind,ro {tree}{place}" for place in ("", *mounts)),
    ]
    user, group = config["User"].split(":")
    command = [
        "chroot",
        str(tree),
        "/usr/bin/setpriv",
        f"--reuid={user}",
        f"--regid={group}",
        "--clear-groups",
    ]
    command += [
        "--no-new-privs",
        "--bounding-set=-all",
        "--inh-caps=-all",
        "/usr/bin/env",
        "-i",
        *config["Env"],
    ]
    lines.append("exec " + shlex.join([*command, *config["Entrypoint"], *arguments]))
    namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
    process = subprocess.Popen(
        [*namespaces, "sh", "-ec", "\n".join(lines)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=LIMIT)


def first_of(process: subprocess.Popen[str]) -> int:
    """Return the id, here, of the process that is the first in its container."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii")
    return int(children.split()[0])


def stop(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> None:
    """Send a signal to the first process in the container, as Kubernetes does."""
    os.kill(first_of(process), number)
