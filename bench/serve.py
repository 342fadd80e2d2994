#!/usr/bin/env python3
"""Measures `pbas serve` on this machine, with clients on 127.0.0.1 alone.

    cargo build --release
    python3 bench/serve.py MODEL PICTURE [throughput] [overload] [malformed] [soak] [--pbas target/release/pbas]

throughput  8 clients against the bare loop (`pbas predict` on copies of the picture), in turn in the same run     floor: ratio 0.85
overload    200 clients for 60 s: answers are 200 or 503, in time, none lost, memory                                floor: all under 3 s, memory
                                                                                                                    under twice idle + queue
malformed   1,000 malformed requests: 4xx each, the server lives, memory returns                                    floor: all
soak        10 minutes at half load: memory after the first minute                                                  floor: grows by less than 5 %

Without a name all four. Nothing but the Python standard library is needed. Exit status 1 where a floor is missed.
"""
import argparse
import http.client
import json
import multiprocessing
import random
import re
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MB = 1024 * 1024
TEXT = {"Content-Type": "image/jpeg"}


class Server:
    """A server of one model on a free port."""

    def __init__(self, pbas, model, *more):
        command = [pbas, "serve", model, "--listen", "127.0.0.1:0", *more]
        self.child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.name = Path(model).stem
        for line in self.child.stderr:
            if found := re.search(r"listening on http://([\d.]+):(\d+)", line):
                self.host, self.port = found[1], int(found[2])
                break
        else:
            sys.exit("the server did not start")
        # One line a request is written; somebody has to read it.
        threading.Thread(target=lambda: [None for _ in self.child.stderr], daemon=True).start()

    def rss(self):
        """Resident memory in bytes."""
        text = Path(f"/proc/{self.child.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) * 1024

    def figures(self):
        """The sum of each metric over its labels."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=30)
        connection.request("GET", "/metrics")
        sums = {}
        for line in connection.getresponse().read().decode().splitlines():
            if not line.startswith("#"):
                name, value = re.match(r"([a-z_]+)(?:{.*})? (\S+)", line).groups()
                sums[name] = sums.get(name, 0) + float(value)
        return sums

    def stop(self):
        """Tells it to stop; its exit status."""
        self.child.terminate()
        return self.child.wait(60)


def post(connection, server, body):
    """Status and seconds of one picture."""
    start = time.perf_counter()
    connection.request("POST", f"/v1/predict/{server.name}", body, TEXT)
    answer = connection.getresponse()
    answer.read()
    return answer.status, time.perf_counter() - start, answer.getheader("Retry-After")


def connect(server):
    return http.client.HTTPConnection(server.host, server.port, timeout=60)


def clients(server, body, count, until, pause=0.0, wait=0.0):
    """`count` threads that send the picture until a time; [(status, seconds, when)]. One that is refused waits a while."""
    results, lock = [], threading.Lock()

    def work():
        mine, connection = [], connect(server)
        while time.time() < until:
            try:
                status, seconds, _ = post(connection, server, body)
            except OSError as error:
                status, seconds = repr(error), 0.0
                connection = connect(server)
            except http.client.HTTPException as error:
                status, seconds = repr(error), 0.0
                connection = connect(server)
            mine.append((status, seconds, time.time()))
            time.sleep(wait if status == 503 else pause)
        with lock:
            results.extend(mine)

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def bare(pbas, model, picture, count):
    """Pictures a second of the bare loop: from the first verdict to the last."""
    with tempfile.TemporaryDirectory() as folder:
        for i in range(count):
            shutil.copy(picture, Path(folder) / f"{i:04}{picture.suffix}")
        child = subprocess.Popen([pbas, "--quiet", "predict", model, folder], stdout=subprocess.PIPE)
        times = [time.perf_counter() for _ in child.stdout]
        if child.wait() or len(times) != count:
            sys.exit("the bare loop failed")
        return (count - 1) / (times[-1] - times[0])


def throughput(args, server, body):
    ratios = []
    for _ in range(args.rounds):
        alone = bare(args.pbas, args.model, args.picture, args.pictures)
        seconds = args.pictures / alone
        results = clients(server, body, 8, time.time() + seconds)
        done = sorted(when for status, _, when in results if status == 200)
        served = (len(done) - 1) / (done[-1] - done[0])
        ratios.append(served / alone)
        others = [status for status, _, _ in results if status != 200]
        print(f"throughput: bare loop {alone:.2f}/s, served {served:.2f}/s, ratio {served / alone:.3f}, not 200: {len(others)}", flush=True)
    ratio = statistics.median(ratios)
    print(f"throughput: median ratio of {len(ratios)} rounds {ratio:.3f}")
    return ratio >= 0.85


def crowd(server, body, count, until, wait, pipe):
    pipe.send(clients(server, body, count, until, wait=wait))


class Plain:
    """Where a server is, without its process: for children."""

    def __init__(self, server):
        self.host, self.port, self.name = server.host, server.port, server.name


def overload(args, server, body):
    before, idle = server.figures(), server.rss()
    peak, until = idle, time.time() + args.overload_seconds
    pipes, crowds = [], []
    for _ in range(4):
        receive, send = multiprocessing.Pipe(False)
        crowds.append(multiprocessing.Process(target=crowd, args=(Plain(server), body, 50, until, args.wait, send)))
        crowds[-1].start()
        pipes.append(receive)
    while time.time() < until:
        peak = max(peak, server.rss())
        time.sleep(0.1)
    results = [result for pipe in pipes for result in pipe.recv()]
    for each in crowds:
        each.join()
    after = server.figures()
    by_status = {}
    for status, seconds, _ in results:
        by_status.setdefault(status, []).append(seconds)
    for status, seconds in sorted(by_status.items(), key=str):
        print(f"overload: {status}: {len(seconds)} answers, median {statistics.median(seconds):.3f} s, longest {max(seconds):.3f} s")
    verdicts = after.get("pbas_verdicts_total", 0) - before.get("pbas_verdicts_total", 0)
    judged = len(by_status.get(200, []))
    queue = after["pbas_queue_capacity"] * len(body)
    print(f"overload: {judged} answers with a verdict, {verdicts:.0f} verdicts; memory idle {idle / MB:.0f} MB, peak {peak / MB:.0f} MB, "
          f"queue {queue / MB:.0f} MB")
    return (
        set(by_status) <= {200, 503}
        and max(seconds for all_of in by_status.values() for seconds in all_of) < 3.0
        and verdicts == judged > 0
        and peak < 2 * (idle + queue)
    )


def png(width, height):
    """A PNG whose header promises a size and which holds nothing."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def request(path, body, *headers, length=None):
    head = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body) if length is None else length}", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def malformed_request(rng, name, picture):
    """A kind and the bytes of a request that is none."""
    predict, infer = f"/v1/predict/{name}", f"/v2/models/{name}/infer"
    form = "Content-Type: multipart/form-data; boundary=b"
    part = b'--b\r\nContent-Disposition: form-data; name="a"; filename="a.jpg"\r\n\r\n'
    cut = rng.randrange(1, len(picture) - 1)

    def oip(**changes):
        tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": ["AAAA"], **changes}
        return json.dumps({"inputs": [tensor]}).encode()

    kinds = {
        "truncated form": lambda: request(predict, part + picture[:cut], form),
        "form without boundary": lambda: request(predict, part + picture, "Content-Type: multipart/form-data"),
        "form without fields": lambda: request(predict, b"--b--\r\n", form),
        "two pictures": lambda: request(predict, (part + picture + b"\r\n") * 2 + b"--b--\r\n", form),
        "truncated picture": lambda: request(predict, picture[:cut]),
        "no picture": lambda: request(predict, rng.randbytes(rng.randrange(20000))),
        "empty": lambda: request(predict, b""),
        "bomb": lambda: request(predict, png(rng.randrange(40000, 60000), rng.randrange(40000, 60000))),
        "json as picture": lambda: request(predict, b'{"a":1}', "Content-Type: application/json"),
        "unknown model": lambda: request(f"/v1/predict/{rng.randrange(10 ** 9)}", picture),
        "unknown query": lambda: request(f"{predict}?x={rng.randrange(99)}", picture),
        "huge header": lambda: request(predict, b"", "X: " + "y" * rng.randrange(40_000, 90_000)),
        "many headers": lambda: request(predict, b"", *[f"X{i}: y" for i in range(rng.randrange(80, 200))]),
        "huge length": lambda: request(predict, b"", length=10 ** rng.randrange(9, 18)),
        "length that is none": lambda: request(predict, b"", length="many"),
        "random bytes": lambda: rng.randbytes(rng.randrange(1, 3000)) + b"\r\n\r\n",
        "no path": lambda: b"GET\r\n\r\n",
        "wrong method": lambda: f"DELETE {predict} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode(),
        "encoding": lambda: request(predict, picture, "Content-Encoding: gzip"),
        "deep json": lambda: request(infer, b"[" * rng.randrange(1000, 200_000)),
        "json of other kind": lambda: request(infer, rng.choice([b"null", b"7", b"[]", b"{}", b'{"inputs":7}', b'"a"', b""])),
        "other datatype": lambda: request(infer, oip(datatype=rng.choice(["INT64", "BOOL", "", "bytes"]))),
        "other shape": lambda: request(infer, oip(shape=rng.choice([[2], [0], [], [-1], [2 ** 63, 9], "x"]))),
        "pixels missing": lambda: request(infer, oip(datatype="UINT8", shape=[512, 512, 3], data=[1] * rng.randrange(99))),
        "huge shape": lambda: request(infer, oip(datatype="FP32", shape=[2 ** 31, 2 ** 31, 3], data=[1])),
        "no base64": lambda: request(infer, oip(data=["%%"])),
        "binary missing": lambda: request(infer, oip(data=None, parameters={"binary_data_size": rng.randrange(1, 2 ** 40)})),
        "head length": lambda: request(infer, oip(), f"Inference-Header-Content-Length: {rng.choice(['x', '-1', '99999', '3'])}"),
        "unknown output": lambda: request(infer, oip()[:-1] + b',"outputs":[{"name":"x"}]}'),
    }
    kind = rng.choice(sorted(kinds))
    return kind, kinds[kind]()


def status_of(server, data):
    """What raw bytes are answered with."""
    with socket.create_connection((server.host, server.port), timeout=30) as connection:
        try:
            connection.sendall(data)
        except OSError:
            pass
        answer = b""
        while b"\r\n" not in answer:
            piece = connection.recv(4096)
            if not piece:
                return None
            answer += piece
        found = re.match(rb"HTTP/1.1 (\d+)", answer)
        return int(found[1]) if found else None


def malformed(args, server, body):
    rng, bad, kinds = random.Random(8), {}, set()
    for number in range(-100, args.malformed):
        if number == 0:
            # Memory that the first ones took is there for the next.
            idle = server.rss()
        kind, data = malformed_request(rng, server.name, body)
        kinds.add(kind)
        status = status_of(server, data)
        if status is None or not 400 <= status < 500:
            bad.setdefault((kind, status), []).append(number)
    status, _, _ = post(connect(server), server, body)
    time.sleep(3)
    rss = server.rss()
    print(f"malformed: {args.malformed} requests of {len(kinds)} kinds, without 4xx: {bad or 'none'}; a good one afterwards: {status}; "
          f"memory {idle / MB:.1f} MB before, {rss / MB:.1f} MB after")
    return not bad and status == 200 and rss < 1.1 * idle


def soak(args, server, body):
    probe = clients(server, body, 8, time.time() + 10)
    rate = sum(status == 200 for status, _, _ in probe) / 10
    # Four clients that each begin a picture every so often are half of what was served at full load.
    every, end, samples, counts, lock = 8 / rate, time.time() + args.soak_seconds, [], {}, threading.Lock()

    def work(shift):
        connection, due = connect(server), time.time() + shift * every / 4
        while due < end:
            time.sleep(max(0.0, due - time.time()))
            status, _, _ = post(connection, server, body)
            with lock:
                counts[status] = counts.get(status, 0) + 1
            due = max(due + every, time.time())

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    start = time.time()
    while time.time() < end:
        time.sleep(5)
        samples.append((time.time() - start, server.rss()))
    for thread in threads:
        thread.join()
    minute = next(rss for at, rss in samples if at >= min(60, args.soak_seconds / 4))
    last = statistics.median(rss for _, rss in samples[-3:])
    growth = last / minute - 1
    print(f"soak: {args.soak_seconds} s at {rate / 2:.1f} pictures a second, answers {counts}; memory after a minute {minute / MB:.1f} MB, at the end "
          f"{last / MB:.1f} MB ({100 * growth:+.1f} %)")
    return growth < 0.05 and set(counts) <= {200, 503} and counts.get(503, 0) < 0.01 * counts[200]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("what", nargs="*", default=[], metavar="WHAT")
    parser.add_argument("--pbas", type=Path, default=ROOT / "target" / "release" / "pbas")
    parser.add_argument("--pictures", type=int, default=150, help="of one round of the throughput")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--malformed", type=int, default=1000)
    parser.add_argument("--overload-seconds", type=int, default=60)
    parser.add_argument("--wait", type=float, default=0.1, help="seconds that a refused client waits (Retry-After would be 1 or more)")
    parser.add_argument("--soak-seconds", type=int, default=600)
    args = parser.parse_args()
    known = {"throughput": throughput, "overload": overload, "malformed": malformed, "soak": soak}
    unknown = set(args.what) - set(known)
    if unknown:
        parser.error(f"expected {', '.join(known)}; found {', '.join(sorted(unknown))}")
    args.pbas = args.pbas.resolve()
    body, missed = args.picture.read_bytes(), []
    for name in args.what or known:
        server = Server(args.pbas, args.model)
        # Every thread that judges has its memory before anything is measured.
        clients(server, body, 8, time.time() + 5)
        if not known[name](args, server, body):
            missed.append(name)
        code = server.stop()
        if code != 0:
            missed.append(f"{name}: exit status {code}")
    if missed:
        sys.exit(f"floors missed: {', '.join(missed)}")
    print("all floors kept")


if __name__ == "__main__":
    main()
