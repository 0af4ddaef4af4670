"""Serve the example models and send them handwritten digits.

`scripts/demo` runs this in an environment of its own. It serves on until Ctrl-C, or with --once ends
by itself; the exit status says whether the answers were right.
"""

import argparse
import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from yais.client.remote import InferRemoteRunner, RemoteInferenceManager
from yais.errors import YaisError

ROOT = Path(__file__).resolve().parent.parent
MODELS = Path("examples/models")
HELD_OUT = MODELS / "digits" / "held_out.npz"
YAIS = Path(sys.executable).with_name("yais")

HOST = "localhost"
START_SECONDS = 30.0
STOP_SECONDS = 10.0
LEAST_ACCURACY = 0.97
ENDING = signal.SIGINT, signal.SIGTERM, signal.SIGHUP

ROW = 5  # images side by side
WIDTH = 14  # columns of an image, which has half as many lines
GAP = "  "
SHADES = " .:-=+*#%@"

Images = NDArray[np.uint8]  # [n, 1, 8, 8], from 0 for paper to 16 for ink
Labels = NDArray[np.uint8]  # [n]
Floats = NDArray[np.floating[Any]]


class Ports(NamedTuple):
    """Where the server listens."""

    grpc: int
    http: int
    metrics: int


USUAL = Ports(grpc=8001, http=8000, metrics=8002)


class ServerFailed(Exception):
    """The server did not start, or ended by itself."""


def main() -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--once", action="store_true", help="end after the answers, do not serve on")
    once = parser.parse_args().once
    os.chdir(ROOT)
    os.environ.setdefault("no_grpc_proxy", HOST)  # a proxy set for the outside is not for this
    for number in ENDING:
        signal.signal(number, signal.default_int_handler)
    right = None
    try:
        ports = Ports(free_port(USUAL.grpc), free_port(USUAL.http), free_port(USUAL.metrics))
        with serving(ports) as server:
            right = show_answers(f"{HOST}:{ports.grpc}")
            if not once:
                print(more_to_try(ports), flush=True)
                server.wait()
                raise ServerFailed("the server ended by itself")
    except KeyboardInterrupt:
        print("\nStopped.")
        if right is None:
            return 128 + signal.SIGINT
    return 0 if right else 1


def free_port(preferred: int) -> int:
    """Return a port that nobody listens on: the preferred one, or any."""
    for port in (preferred, 0):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("", port))
            taken: int = probe.getsockname()[1]
            return taken
    raise OSError("no port is free")


@contextlib.contextmanager
def serving(ports: Ports) -> Iterator[subprocess.Popen[str]]:
    """Run `yais serve` for the `with` block, once it is ready; if that fails, show its log and exit."""
    command = ["yais", "serve", "--model-repository", str(MODELS)]
    for name, port, usual in zip(Ports._fields, ports, USUAL, strict=True):
        command += [f"--{name}-port", str(port)] if port != usual else []
    print("$", shlex.join(command), flush=True)
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(
            [YAIS, *command[1:]],
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            process_group=0,  # Ctrl-C is for the demo, which stops the server
        ) as server,
    ):
        try:
            seconds = wait_until_ready(server, f"{HOST}:{ports.grpc}")
            print(f"ready after {seconds:.1f} s: gRPC on port {ports.grpc}, ", end="")
            print(f"HTTP on port {ports.http}, metrics on port {ports.metrics}\n")
            yield server
        except (ServerFailed, YaisError) as error:
            log.seek(0)
            sys.exit(f"\n{error}; its log:\n{log.read()}")
        finally:
            stop(server)


def wait_until_ready(server: subprocess.Popen[str], address: str) -> float:
    """Return the seconds it took."""
    start = time.monotonic()
    while (seconds := time.monotonic() - start) < START_SECONDS:
        if server.poll() is not None:
            raise ServerFailed(f"the server exited with status {server.returncode}")
        with RemoteInferenceManager(address) as manager:
            if manager.server_ready():
                return seconds
        time.sleep(0.05)
    raise ServerFailed(f"the server was not ready after {START_SECONDS:.0f} s")


def stop(server: subprocess.Popen[str]) -> None:
    """Let the server drain and end; a further Ctrl-C does not disturb that."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
    server.terminate()
    try:
        server.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()


def show_answers(address: str) -> bool:
    """Have the held-out images recognised; return whether that went as well as it should."""
    with np.load(HELD_OUT) as file:
        images, labels = file["images"][:, None], file["labels"]
    with RemoteInferenceManager(address) as manager:
        digits = manager.infer_runner("digits")
        batch = digits.max_batch_size()
        answers, latencies = one_by_one(digits, images)
        batched, seconds = in_batches(digits, images, batch)

    first = [int(np.argmax(labels == digit)) for digit in range(10)]
    print("The first held-out image of each digit; below it the answer and the label:\n")
    print(gallery(images[first], answers[first], labels[first]))
    right = batched.argmax(1) == labels
    if wrong := np.flatnonzero(~right)[:ROW].tolist():
        print("Held-out images that the model gets wrong:\n")
        print(gallery(images[wrong], batched[wrong], labels[wrong]))

    median, p99 = np.percentile(latencies, [50, 99]) * 1e3
    print(f"accuracy    {right.mean():.1%}: {right.sum()} of {len(labels)} held-out images")
    print(f"throughput  {len(images) / seconds:,.0f} images/s in batches of {batch}, from one Python client")
    print(f"latency     {median:.2f} ms median, {p99:.2f} ms p99, one image at a time", flush=True)

    good = bool(right.mean() >= LEAST_ACCURACY and np.all(answers[first].argmax(1) == labels[first]))
    if not good:
        print(f"\nWrong: the first of each digit and {LEAST_ACCURACY:.0%} of all should be recognised.")
    return good


def one_by_one(digits: InferRemoteRunner, images: Images) -> tuple[Floats, Floats]:
    """Return the probabilities [n, 10] and the seconds of each request [n]."""
    answers, times = [], [time.perf_counter()]
    for image in images:
        answers.append(digits.infer(image=image[None]).get()["probabilities"])
        times.append(time.perf_counter())
    return np.concatenate(answers), np.diff(times)


def in_batches(digits: InferRemoteRunner, images: Images, size: int) -> tuple[Floats, float]:
    """Return the probabilities [n, 10] and the seconds that all took, every request in flight at once."""
    start = time.perf_counter()
    futures = [digits.infer(image=images[i : i + size]) for i in range(0, len(images), size)]
    answers = np.concatenate([future.get()["probabilities"] for future in futures])
    return answers, time.perf_counter() - start


def gallery(images: Images, answers: Floats, labels: Labels) -> str:
    """Return the images in rows, each above its answer."""
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    draw = half_blocks if colour else shades
    cells = [
        [*draw(image[0] / 16), *caption(answer, int(label), colour=colour)]
        for image, answer, label in zip(images, answers, labels, strict=True)
    ]
    rows = [cells[i : i + ROW] for i in range(0, len(cells), ROW)]
    return "\n".join(GAP.join(line).rstrip() for row in rows for line in [*zip(*row, strict=True), ()])


def caption(answer: Floats, label: int, *, colour: bool) -> list[str]:
    """Return the lines below an image."""
    digit = int(answer.argmax())
    right = digit == label
    verdict = f"{digit} {answer[digit]:7.1%}  {'✓' if right else '✗'}".center(WIDTH)
    truth = f"label {label}".center(WIDTH)
    if colour:
        return [f"\033[1;{32 if right else 31}m{verdict}\033[0m", f"\033[2m{truth}\033[0m"]
    return [verdict, truth]


def half_blocks(image: Floats) -> list[str]:
    """Draw with two pixels a character, in greys of the 256-colour palette."""
    greys = 232 + np.rint(scaled(image, WIDTH, WIDTH) * 23).astype(int)
    pairs = zip(greys[::2], greys[1::2], strict=True)
    return [
        "".join(f"\033[38;5;{upper};48;5;{lower}m▀" for upper, lower in zip(*pair, strict=True)) + "\033[0m"
        for pair in pairs
    ]


def shades(image: Floats) -> list[str]:
    """Draw with characters that have more ink the darker they are."""
    levels = np.rint(scaled(image, WIDTH // 2, WIDTH) * (len(SHADES) - 1)).astype(int)
    return ["".join(SHADES[level] for level in line) for line in levels]


def scaled(image: Floats, height: int, width: int) -> Floats:
    """Interpolate to another size."""
    for axis, size in enumerate((height, width)):
        pixels = np.arange(image.shape[axis])
        places = np.linspace(0, pixels[-1], size)
        image = np.apply_along_axis(lambda line: np.interp(places, pixels, line), axis, image)  # noqa: B023
    return image


def more_to_try(ports: Ports) -> str:
    """Return what can be done with the server."""
    yais = shlex.quote(os.path.relpath(YAIS) if YAIS.is_relative_to(ROOT) else str(YAIS))
    address = f"{HOST}:{ports.grpc}"
    asked = '{"probabilities": [0, 0, 0, 0, 0, 0, 0, 1, 0, 0]}'
    return f"""
Serving on {address} until Ctrl-C. In a browser: http://{HOST}:{ports.http}/
From another terminal, here:

  load     {yais} client-sync {address} digits
  HTTP     curl {HOST}:{ports.http}/v2/models/label/generate -d '{asked}'
  metrics  curl {HOST}:{ports.metrics}/metrics
  health   grpcurl -plaintext {address} grpc.health.v1.Health/Check

Triton's client works unchanged (pip install 'tritonclient[grpc]'):

  import numpy as np
  from tritonclient import grpc as triton

  images = np.load("{HELD_OUT}")["images"]
  image = triton.InferInput("image", [1, 1, 8, 8], "FP32")
  image.set_data_from_numpy(images[:1, None].astype(np.float32))
  client = triton.InferenceServerClient("{address}")
  print(client.infer("digits", [image]).as_numpy("probabilities").argmax())
"""


if __name__ == "__main__":
    sys.exit(main())
