"""Run the client tools against a real Triton in every way they can ask, and compare what they print.

Prints a table; the exit status says whether every command did what it should. See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.compare import say, terminate
from benchmarks.processes import BenchmarkError
from benchmarks.report import table
from benchmarks.servers import existing
from benchmarks.serving_models import PEERS
from benchmarks.serving_servers import TRITON, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.servers import Running

LIMIT_SECONDS = 60.0
OK = "ok"

_CONFIGS = {
    "colours": """
backend: "python"
max_batch_size: 8
input { name: "IMAGE" data_type: TYPE_FP32 format: FORMAT_NCHW dims: [ 3, 8, 8 ] }
output { name: "SCORES" data_type: TYPE_FP32 dims: [ 3 ] label_filename: "labels.txt" }
""",
    "texts": """
backend: "python"
max_batch_size: 8
input { name: "TEXT" data_type: TYPE_STRING dims: [ -1 ] }
output { name: "LOUD" data_type: TYPE_STRING dims: [ -1 ] }
""",
    "repeat": """
backend: "python"
model_transaction_policy { decoupled: true }
input { name: "TIMES" data_type: TYPE_INT32 dims: [ 1 ] }
output { name: "NUMBER" data_type: TYPE_INT32 dims: [ 1 ] }
""",
}
_COLOURS = {"red": (250, 3, 2), "green": (3, 250, 2), "blue": (2, 3, 250)}


@dataclass(frozen=True)
class Row:
    """A command and what it must do.

    Attributes
    ----------
    words
        Of the command line; ADDRESS, GRPC, HTTP and FOLDER stand for what they say.
    says
        What must be in what it prints, to either of its streams.
    status
        With which it must end.
    """

    words: str
    says: str = ""
    status: int = 0


_NUMBERS = ",".join(map(str, range(16)))
_INPUTS = f"--input INPUT0={_NUMBERS} --input INPUT1={','.join('1' * 16)}"
_SHORT = "-p 300 -s 60"
_SHARED = "--shared-memory system --output-shared-memory-size 1024"

_BOTH = (
    Row("models load ADDRESS colours", "loaded colours"),
    Row("models load ADDRESS texts", "loaded texts"),
    Row("models load ADDRESS repeat", "loaded repeat"),
    Row("models load ADDRESS first_fp32", "loaded first_fp32"),
    Row("models load ADDRESS none", "Error: ADDRESS: failed to load 'none'", 1),
    Row("models ADDRESS", "READY"),
    Row("models list ADDRESS --ready --json", '"name": "texts", "version": "1", "state": "READY"'),
    Row("models metadata ADDRESS", "server triton"),
    Row("models metadata ADDRESS colours", "IMAGE: FP32[-1, 3, 8, 8]"),
    Row("models metadata ADDRESS none", "Error: ADDRESS: Request for unknown model: 'none' is not found", 1),
    Row("models config ADDRESS repeat", "decoupled: true"),
    Row("models statistics ADDRESS simple", "simple"),
    Row("models ready ADDRESS", "ready"),
    Row("models ready ADDRESS none", "not ready", 1),
    Row(f"infer ADDRESS simple {_INPUTS}", "[[ 1  2  3  4  5  6  7"),
    Row(f"infer ADDRESS simple {_INPUTS} --output OUTPUT1 --json", '"data": [-1, 0, 1, 2'),
    Row("infer ADDRESS texts --input TEXT=one,two", '[["ONE" "TWO"]]'),
    Row("infer ADDRESS colours FOLDER/green.png --classes 3", "250.000000 (1) = green"),
    Row("infer ADDRESS colours FOLDER/green.png --save SCORES=FOLDER.npy", "[[  3. 250.   2.]]"),
    Row("image-client ADDRESS colours FOLDER", "Request 3, batch size 1"),
    Row("image-client ADDRESS colours FOLDER -b 2 -c 3", "3.000000 (1) = green"),
    Row("image-client ADDRESS colours FOLDER -a -s INCEPTION", "0.960784 (2) = blue"),
    Row("image-client ADDRESS colours FOLDER/red.png -s VGG", "127.000000 (0) = red"),
    Row(f"perf ADDRESS simple {_SHORT} --concurrency-range 1:4:3", "Concurrency: 4, throughput"),
    Row(f"perf ADDRESS simple {_SHORT} -b 8 {_SHARED}", "Concurrency: 1, throughput"),
    Row(f"perf ADDRESS simple {_SHORT} --request-rate-range 100", "Request Rate: 100, throughput"),
    Row(f"perf ADDRESS texts {_SHORT} --shape TEXT:3 --string-length 20", "Concurrency: 1, throughput"),
    Row(f"perf ADDRESS repeat {_SHORT}", "Decoupled models must be run with", 99),
)
_GRPC = (
    Row("infer GRPC repeat --input TIMES=3", "[2]"),
    Row("infer GRPC repeat --input TIMES=0", "no answer"),
    Row("image-client GRPC colours FOLDER -b 3 --streaming", "250.000000 (0) = red"),
    Row(f"perf GRPC simple {_SHORT} --streaming {_SHARED}", "Concurrency: 1, throughput"),
    Row(f"perf GRPC repeat {_SHORT} --streaming", "Response Throughput"),
    Row("client-sync GRPC simple --count 50 --batch 8", "50 requests"),
    Row("client-sync GRPC texts --count 50 --bytes 1000", "0 failed"),
    Row("client-sync GRPC repeat --count 5", "UNIMPLEMENTED: 5, ModelInfer RPC doesn't support", 1),
    Row("client-async GRPC simple --count 1000", "0 failed"),
    Row("client-async GRPC first_fp32 --count 50 --max-in-flight 8", "0 failed"),
    Row("siege GRPC simple --rate 300 --duration 2", "requests              600        600        600"),
    Row("siege GRPC texts --rate 100 --count 100 --bytes 64 --func poisson", "100          0"),
    Row("models unload GRPC texts", "unloaded texts"),
    Row("models ready GRPC texts", "not ready", 1),
    Row("infer GRPC texts --input TEXT=one", "Error: GRPC: Request for unknown model: 'texts'", 1),
)
_HTTP = (
    Row("infer HTTP repeat --input TIMES=3", "only gRPC", 1),
    Row("models unload HTTP colours --unload-dependents", "unloaded colours"),
    Row("models ready HTTP colours", "not ready", 1),
)


def rows() -> list[Row]:
    """Return what is run, in that order."""
    return [*_for("GRPC"), *_GRPC, *_for("HTTP"), *_HTTP]


def _for(address: str) -> Iterator[Row]:
    for row in _BOTH:
        yield Row(row.words.replace("ADDRESS", address), row.says.replace("ADDRESS", address), row.status)


def check(row: Row, program: str, names: dict[str, str]) -> str:
    """Run a command; return OK, or what is wrong."""
    command = [program, *(_named(word, names) for word in row.words.split())]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"did not end within {LIMIT_SECONDS:.0f} s"
    printed = done.stdout + done.stderr
    if done.returncode != row.status:
        last = printed.strip().rpartition("\n")[2]
        return f"ended with {done.returncode}, expected {row.status}: {last}"
    expected = _named(row.says, names)
    return OK if expected in printed else f"did not say {expected!r}: {printed.strip()[:200]!r}"


def _named(text: str, names: dict[str, str]) -> str:
    for name, value in names.items():
        text = text.replace(name, value)
    return text


def write_models(repository: Path) -> None:
    """Write the models that are asked here only."""
    for name, config in _CONFIGS.items():
        (repository / name / "1").mkdir(parents=True)
        (repository / name / "config.pbtxt").write_text(config, encoding="utf-8")
        shutil.copy(PEERS / "triton" / f"{name}.py", repository / name / "1" / "model.py")
    (repository / "colours" / "labels.txt").write_text("".join(f"{name}\n" for name in _COLOURS))


def write_images(folder: Path) -> None:
    """Write an image of each colour."""
    folder.mkdir()
    for name, colour in _COLOURS.items():
        Image.new("RGB", (20, 30), colour).save(folder / f"{name}.png")


def run(wanted: list[Row]) -> list[tuple[Row, str]]:
    """Run the commands against one server; return how each ended."""
    program = existing(Path(sys.executable).with_name("yais"), "install yais into this environment")
    options = ["--model-control-mode=explicit", "--load-model=simple"]
    done: list[tuple[Row, str]] = []
    with tempfile.TemporaryDirectory(prefix="yais-check-") as folder:
        models, images = Path(folder) / "more", Path(folder) / "images"
        write_models(models)
        write_images(images)
        options += [f"--model-repository={models}"]
        with serving(TRITON, {}, None, options) as server:
            for row in wanted:
                result = check(row, program, _names(server, images))
                say(f"  {row.words[:80]}: {result}")
                done.append((row, result))
    return done


def _names(server: Running, images: Path) -> dict[str, str]:
    return {"GRPC": server.target, "HTTP": f"http://{server.http}", "FOLDER": str(images)}


def main() -> int:
    """Run and print."""
    signal.signal(signal.SIGTERM, terminate)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("words", nargs="*", help="run only commands with one of these in them")
    words = parser.parse_args().words
    # What is not loaded cannot be asked.
    always = "models load" if words else ""
    wanted = [row for row in rows() if any(word in row.words for word in (always, *words))]
    try:
        done = run(wanted)
    except BenchmarkError as error:
        say(f"Triton does not come up: {error}")
        return 1
    print(table(("command", "result"), ((f"`{row.words}`", result) for row, result in done), words=2))
    return int(any(result != OK for _, result in done))


if __name__ == "__main__":
    sys.exit(main())
