#!/usr/bin/env python3
"""Trains a demo model, exports it with every kind of input, and holds what onnxruntime and OpenVINO say of it beside what pbas says.

    onnx_parity.py FOLDER PBAS     FOLDER is for the Python environment and the files, PBAS the program to test

Exit status: 0 all scores agree; 3 pip or the network failed; 1 something else did.
"""

import subprocess
import sys
from pathlib import Path

from environment import ROOT, environment

PACKAGES = ["numpy", "onnx", "onnxruntime", "openvino", "pillow"]
OPSETS = range(18, 29)
CHECK = "import onnx, sys; [onnx.checker.check_model(path, full_check=True) for path in sys.argv[1:]]"


def main():
    folder, pbas = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    python = environment(folder / "environment", PACKAGES)

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
