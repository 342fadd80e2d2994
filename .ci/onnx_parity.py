#!/usr/bin/env python3
"""Trains a demo model, exports it with every kind of input, and holds what onnxruntime and OpenVINO say of it beside what pbas says.

    onnx_parity.py FOLDER PBAS     FOLDER is for the Python environment and the files, PBAS the program to test

Exit status: 0 all scores agree; 3 pip or the network failed; 1 something else did.
"""

import re
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ["numpy", "onnx", "onnxruntime", "openvino", "pillow"]
OPSETS = range(18, 29)
CHECK = "import onnx, sys; [onnx.checker.check_model(path, full_check=True) for path in sys.argv[1:]]"


def environment(folder):
    """A Python that has the packages in the versions of bench/requirements.txt; exit status 3 where they cannot be had."""
    lines = (ROOT / "bench" / "requirements.txt").read_text().splitlines()
    wanted = [line for line in lines if re.split("[=<>]", line)[0] in PACKAGES]
    assert len(wanted) == len(PACKAGES), f"bench/requirements.txt: expected {PACKAGES}, found {wanted}"
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    command = [python, "-m", "pip", "install", "--no-input", "--quiet", "--disable-pip-version-check"]
    command += ["--timeout", "20", "--retries", "2", *wanted]
    try:
        failed = subprocess.run(command, stdin=subprocess.DEVNULL, timeout=600).returncode
    except (OSError, subprocess.TimeoutExpired) as error:
        print(error, file=sys.stderr)
        failed = True
    if failed:
        print(f"cannot install {', '.join(wanted)}", file=sys.stderr)
        sys.exit(3)
    return python


def main():
    folder, pbas = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    python = environment(folder / "environment")

    def run(*command, **more):
        return subprocess.run([str(part) for part in command], check=True, stdin=subprocess.DEVNULL, **more)

    demo = folder / "demo"
    run(pbas, "--quiet", "demo", "-o", demo, "--size", "160,96", "--steps", "60", stdout=subprocess.DEVNULL)
    (model,) = demo.glob("*.pbas")
    pictures = [path for kind in ("good", "scratch", "dent") for path in sorted(demo.glob(f"test/{kind}/*.png"))[:3]]
    assert len(pictures) >= 6, f"{demo}: expected test pictures, found {pictures}"
    ours, exported = folder / "ours.jsonl", []
    for opset in OPSETS:
        exported.append(folder / f"opset{opset}.onnx")
        run(pbas, "--quiet", "export", model, exported[-1], "--force", "--input", "any", "--opset", opset)
    for kind in ("view", "any", "any-bytes"):
        onnx = folder / f"{kind}.onnx"
        with ours.open("w") as out:
            run(pbas, "--quiet", "export", model, onnx, "--force", "--input", kind, "--check", *pictures, stdout=out)
        run(python, ROOT / "bench" / "onnx_parity.py", onnx, ours)
        exported.append(onnx)
    run(python, "-c", CHECK, *exported)
    # Of the other opsets onnxruntime alone is asked.
    for onnx in exported[: len(OPSETS)]:
        run(python, ROOT / "bench" / "onnx_parity.py", onnx, ours, "--engines", "onnxruntime", stdout=subprocess.DEVNULL)
    print(f"{len(exported)} files are sound ONNX, opsets {OPSETS.start} to {OPSETS.stop - 1} give the same scores")


main()
