"""Run what needs a GPU, and tell what it showed: scripts/gpu-check.

Needs nothing but Python itself: what is installed is found out, and what lacks is said.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.gpu_check_report import Case, Found, read_cases, report, rows

ROOT = Path(__file__).parents[1]
PACKAGES = (
    *("cuda-core", "cuda-bindings", "nvidia-cuda-nvrtc", "nvidia-ml-py"),
    *("tensorrt", "tensorrt_rtx_cu13_bindings", "torch", "onnxruntime", "onnxruntime-gpu", "onnx"),
    *("numpy", "grpcio", "protobuf", "starlette", "pytest"),
)
EXAMPLES = ("examples/20_gpu/kernel.py", "examples/20_gpu/pytorch.py")
NO_YAIS, NO_GPU = 2, 3  # exit codes

_PROBE = """
import json, sys
from importlib.metadata import PackageNotFoundError, version
found = {"packages": {}, "missing": "", "cuda": "", "device": ""}
for name in sys.argv[1:]:
    try:
        found["packages"][name] = version(name)
    except PackageNotFoundError:
        pass
try:
    import yais
    from yais.memory.cuda.toolkit import cuda_toolkit, why_no_cuda
    found["cuda"] = why_no_cuda()
    if not found["cuda"]:
        from yais.memory.cuda.device import cuda_device
        device, number = cuda_device(0), cuda_toolkit().call("cuDriverGetVersion")
        size = f"{device.statistics().total_bytes / 2**30:.0f} GiB"
        found["device"] = f"{device.name}, {size}, driver for CUDA {number // 1000}.{number % 1000 // 10}"
except ImportError as error:
    found["missing"] = str(error)
print(json.dumps(found))
"""


def say(text: str) -> None:
    """Report progress."""
    print(text, file=sys.stderr, flush=True)


def run(command: Sequence[str], seconds: float, environment: dict[str, str]) -> tuple[int, str]:
    """Run a program; return its exit code, 124 if it took too long, and what it printed."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        return 124, f"{output}\n(ended after {seconds:.0f} s)"
    except BaseException:  # Ctrl-C does not reach it, in a session of its own
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return process.returncode, output


def probe(environment: dict[str, str]) -> dict[str, Any]:
    """Return the packages by version, why yais cannot be imported, why there is no CUDA, and the GPU."""
    code, output = run([sys.executable, "-c", _PROBE, *PACKAGES], 120, environment)
    if code:
        return {"packages": {}, "missing": output.strip(), "cuda": "", "device": ""}
    found: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
    return found


def tests(environment: dict[str, str], folder: Path, *, simulated: bool) -> tuple[list[Case], str]:
    """Run tests/gpu; return the outcome of each, and why there are none if so."""
    wanted = {**environment, "YAIS_GPU": "simulated" if simulated else "1"}
    code, _ = run([sys.executable, "-c", "import pytest"], 60, environment)
    if code:
        return [], "pytest is not installed"
    file = folder / "tests.xml"
    # Without the project's own settings, which want plugins that may not be there.
    command = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", str(ROOT), "tests/gpu"]
    command += [
        "-p",
        "no:cacheprovider",
        "-W",
        "ignore::pytest.PytestUnknownMarkWarning",
        f"--junitxml={file}",
    ]
    if not run([sys.executable, "-c", "import pytest_timeout"], 60, environment)[0]:
        command += ["--timeout", "300"]
    code, output = run(command, 1500, wanted)
    say(output.strip().splitlines()[-1] if output.strip() else "")
    if not file.exists():
        return [Case("pytest", "failed")], f"pytest ended with {code}: {output.strip()[-500:]}"
    cases = read_cases(file)
    for case in cases:
        if case.outcome == "failed":
            say(f"FAILED {case.name}\n{case.reason}")
    return cases, ""


def benchmark(
    environment: dict[str, str], folder: Path, *, simulated: bool, quick: bool
) -> tuple[dict[str, Any], str]:
    """Run benchmarks/gpu.py; return its figures, and its tables or why there are none."""
    file = folder / "figures.json"
    command = [sys.executable, "benchmarks/gpu.py", "--json", str(file)]
    if simulated:
        command.append("--simulate")
    if quick or simulated:
        command += ["--seconds", "0.2", "--rounds", "1", "--sizes", "65536", "1048576", "--tokens", "1", "8"]
    code, output = run(command, 900, environment)
    if code or not file.exists():
        say(output)
        return {}, output.strip()[-1000:] or f"ended with {code}"
    lines = [line for line in output.splitlines() if not line.endswith(" ...")]
    return json.loads(file.read_text(encoding="utf-8")), "\n".join(lines).strip()


def examples(environment: dict[str, str]) -> list[Case]:
    """Run the examples that need a GPU."""
    cases = []
    for path in EXAMPLES:
        code, output = run([sys.executable, path], 180, environment)
        last = (output.strip().splitlines() or [""])[-1]
        outcome = "passed" if not code else "skipped" if last.startswith("this example needs") else "failed"
        cases.append(Case(path, outcome, "" if not code else output.strip()[-500:]))
    return cases


def carried(wheels: Path, folder: Path) -> str:
    """Install wheels into a folder of their own, without a network; return it."""
    site = folder / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile"]
    command += ["--target", str(site), *map(str, sorted(wheels.resolve().glob("*.whl")))]
    code, output = run(command, 300, dict(os.environ))
    if code:
        sys.exit(f"scripts/gpu-check: the wheels in {wheels} cannot be installed:\n{output}")
    return str(site)


def check(given: argparse.Namespace, folder: Path) -> int:
    """Run everything, print the report, and return the exit code."""
    path = [
        str(ROOT),
        *([carried(given.wheels, folder)] if given.wheels else []),
        os.environ.get("PYTHONPATH", ""),
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path)), "PYTHONUNBUFFERED": "1"}
    found = probe(environment)
    say("\n".join(f"{name} {version}" for name, version in found["packages"].items()))
    if found["missing"]:
        say(f"scripts/gpu-check: yais cannot be imported here: {found['missing']}; see docs/gpu.md, --wheels")
        return NO_YAIS
    if found["cuda"] and not given.simulate:
        say(f"scripts/gpu-check: nothing is run: {found['cuda']}")
        return NO_GPU
    say("SIMULATED: there is no GPU in this" if given.simulate else found["device"])
    say("tests/gpu ...")
    cases, why_no_tests = tests(environment, folder, simulated=given.simulate)
    say("examples ...")
    shown = (
        [Case(name, "skipped", "simulated") for name in EXAMPLES] if given.simulate else examples(environment)
    )
    say("benchmarks/gpu.py ...")
    figures, tables = benchmark(environment, folder, simulated=given.simulate, quick=given.quick)
    all_rows = rows(Found(cases, why_no_tests, shown, figures, tables, simulated=given.simulate))
    about = "SIMULATED, no GPU" if given.simulate else found["device"]
    command = shlex.join(["scripts/gpu-check", *sys.argv[1:]])
    text = report(about, time.strftime("%Y-%m-%d"), command, found["packages"], all_rows, tables)
    print(text)
    if given.output:
        given.output.write_text(text + "\n", encoding="utf-8")
    return 1 if any(row.result == "FAILED" for row in all_rows) else 0


def main() -> None:
    """Read the options, and check."""
    parser = argparse.ArgumentParser(prog="scripts/gpu-check", description=__doc__)
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the report, as for docs/gpu.md")
    parser.add_argument(
        "--wheels", type=Path, metavar="DIR", help="use these packages, too; nothing is installed"
    )
    parser.add_argument("--quick", action="store_true", help="short measurements")
    parser.add_argument("--simulate", action="store_true", help="without a GPU, as far as that goes")
    given = parser.parse_args()
    if given.wheels and not any(given.wheels.glob("*.whl")):
        parser.error(f"--wheels: got {given.wheels}, expected a directory with wheels")
    if given.output and not given.output.resolve().parent.is_dir():
        parser.error(f"--output: got {given.output}, expected a file in a directory that is there")
    with tempfile.TemporaryDirectory(prefix="yais-gpu-check-") as folder:
        sys.exit(check(given, Path(folder)))


if __name__ == "__main__":
    main()
