#!/usr/bin/env python3
"""Trains a demo model, serves it, and asks it by clients that are not ours: tritonclient (Open Inference Protocol v2), schemathesis (the
OpenAPI document), promtool or prometheus_client (the metrics).

    serve_check.py FOLDER PBAS     FOLDER is for the Python environment and the files, PBAS the program to test

Exit status: 0 all is as it should be; 3 pip or the network failed; 1 something else did.
"""

import re
import shutil
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

from environment import ROOT, environment

PACKAGES = ["numpy", "pillow", "prometheus_client", "schemathesis", "tritonclient[http]"]
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
]
EXAMPLES = 40


def run(*command, **more):
    return subprocess.run([str(part) for part in command], check=True, stdin=subprocess.DEVNULL, **more)


def serve(pbas, model):
    """A server on a free port, and its URL."""
    child = subprocess.Popen([pbas, "serve", model, "--listen", "127.0.0.1:0"], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    said = []
    for line in child.stderr:
        said.append(line)
        if found := re.search(r"listening on (http://\S+)", line):
            # One line a request is written; somebody has to read it.
            threading.Thread(target=lambda: [said.append(line) for line in child.stderr], daemon=True).start()
            return child, found[1]
    sys.exit("the server did not start:\n" + "".join(said))


def metrics(python, url):
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
        text = answer.read()
    parser = "import sys; from prometheus_client.parser import text_string_to_metric_families as parse; print(len(list(parse(sys.stdin.read()))), 'families')"
    subprocess.run([python, "-c", parser], input=text, check=True)
    promtool = shutil.which("promtool")
    if promtool is None:
        print("promtool is not installed (Debian's package `prometheus` has it): the metrics were read by prometheus_client alone")
        return
    subprocess.run([promtool, "check", "metrics"], input=text, check=True)
    print("promtool finds nothing to complain of")


def main():
    folder, pbas = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    python = environment(folder / "environment", PACKAGES)
    demo = folder / "demo"
    run(pbas, "--quiet", "demo", "-o", demo, "--size", "160,96", "--steps", "60", stdout=subprocess.DEVNULL)
    (model,) = demo.glob("*.pbas")
    pictures = [path for kind in ("good", "scratch", "dent") for path in sorted(demo.glob(f"test/{kind}/*.png"))[:2]]
    assert len(pictures) >= 4, f"{demo}: expected test pictures, found {pictures}"
    ours = folder / "ours.jsonl"
    with ours.open("w") as out:
        run(pbas, "--quiet", "predict", model, *pictures, stdout=out)
    child, url = serve(pbas, model)
    try:
        run(python, ROOT / ".ci" / "serve_triton.py", url, model.stem, ours)
        run(
            folder / "environment" / "bin" / "schemathesis", "run", f"{url}/openapi.json", "--checks", ",".join(CHECKS),
            "--max-examples", EXAMPLES, "--phases", "examples,coverage,fuzzing", "--seed", 8, "--workers", 1, "--no-color",
            "--generation-database", "none", cwd=folder,
        )
        metrics(python, url)
    finally:
        child.terminate()
        code = child.wait(60)
    assert code == 0, f"the server ended with exit status {code}"
    print("the server was told to stop and ended with exit status 0")


main()
