#!/usr/bin/env python3
"""Holds what onnxruntime and OpenVINO say of an exported model beside what pbas says, picture by picture.

    pbas export part.pbas part.onnx --check PICTURES... > ours.jsonl
    python3 bench/onnx_parity.py part.onnx ours.jsonl [--engines onnxruntime openvino] [--tolerance 1e-4]

Needs numpy, Pillow and the engines (bench/requirements.txt has the versions that docs/export.md reports). Exit status: 0 no score
differs by more than the tolerance; 1 one does; 2 something is missing.

`lay_out` is how pbas brings a picture to the size of a view, for inputs of the kind `view`; copy it where that matters.
"""
import argparse
import json
import sys
from pathlib import Path

try:
    import numpy
    from PIL import Image, ImageOps
except ImportError as error:
    print(f"{error}: see bench/requirements.txt", file=sys.stderr)
    sys.exit(2)

KEYS = ("image_score", "map_max", "map_mean")


def weights(original, resized, start, shown):
    """Triangle filter, widened where it shrinks, as whole numbers of `unit`: (`[shown, original]`, unit)."""
    centres = (numpy.arange(start, start + shown) + 0.5) * original / resized
    apart = numpy.abs(numpy.arange(original) + 0.5 - centres[:, None]) / max(original / resized, 1.0)
    triangle = numpy.maximum(1.0 - apart, 0.0)
    triangle /= triangle.sum(axis=1, keepdims=True)
    places = sum(triangle.max() * 2.0 ** (k + 1) < 32767.5 for k in range(21))
    return numpy.floor(triangle * 2.0**places + 0.5), 2.0**places


def resample(picture, x, y):
    """`[height, width, 3]` bytes -> whole grey levels; columns first, rounded after each axis. `x` and `y`: (resized, start, shown)."""
    across, unit = weights(picture.shape[1], *x)
    narrow = numpy.floor(numpy.einsum("xw,hwc->hxc", across, picture.astype(float), optimize=True) / unit + 0.5)
    down, unit = weights(picture.shape[0], *y)
    return numpy.floor(numpy.einsum("yh,hxc->yxc", down, narrow, optimize=True) / unit + 0.5)


def lay_out(picture, width, height, fit):
    """`[height, width, 3]` bytes at the size of a view, by the model's `fit` (stretch, crop or pad)."""
    h, w, _ = picture.shape
    if fit["kind"] == "stretch":
        return resample(picture, (width, 0, width), (height, 0, height))
    if fit["kind"] == "crop":
        resized = [fit["resize"] * side // min(w, h) for side in (w, h)]
        starts = [round((side - shown) / 2) for side, shown in zip(resized, (width, height))]
        return resample(picture, (resized[0], starts[0], width), (resized[1], starts[1], height))
    scale = min(width / w, height / h)
    rw, rh = (min(max(int(side * scale + 0.5), 1), most) for side, most in ((w, width), (h, height)))
    out = numpy.empty((height, width, 3))
    out[:] = numpy.floor(picture.reshape(-1, 3).mean(axis=0) + 0.5)
    left, top = (width - rw) // 2, (height - rh) // 2
    out[top : top + rh, left : left + rw] = resample(picture, (rw, 0, rw), (rh, 0, rh))
    return out


def inputs_of(path, metadata):
    """What the graph is given for a picture file, with a batch of one."""
    image = Image.open(path)
    if metadata["apply_orientation"] == "true":
        image = ImageOps.exif_transpose(image)
    picture = numpy.asarray(image.convert("RGB"))
    if metadata["input"] == "any-bytes":
        return {"image": picture[None]}
    if metadata["input"] == "any":
        return {"image": planes(picture)}
    fit = json.loads(metadata["fit"])
    return {v["input"]: planes(lay_out(picture, v["width"], v["height"], fit)) for v in json.loads(metadata["views"])}


def planes(picture):
    return numpy.ascontiguousarray(picture.transpose(2, 0, 1)[None], dtype=numpy.float32)


def onnxruntime_engine(model):
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return f"onnxruntime {onnxruntime.__version__}", lambda given: session.run(["image_score", "score_map"], given)


def openvino_engine(model):
    import openvino

    # Where the processor has bfloat16, OpenVINO computes in it unless told otherwise.
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(given):
        found = compiled(given)
        return found["image_score"], found["score_map"]

    return f"openvino {openvino.__version__.split('-')[0]}", run


ENGINES = {"onnxruntime": onnxruntime_engine, "openvino": openvino_engine}


def read_metadata(model):
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.get_modelmeta().custom_metadata_map


def summary(scores, score_map):
    return {"image_score": float(scores[0]), "map_max": float(score_map[0].max()), "map_mean": float(score_map[0].mean(dtype=float))}


def batch_difference(run, each):
    """The first two pictures of one shape as a batch, against each alone; None where there are no two."""
    for i, (_, a, alone_a) in enumerate(each):
        for _, b, alone_b in each[i + 1 :]:
            if all(a[k].shape == b[k].shape for k in a):
                scores, maps = run({k: numpy.concatenate([a[k], b[k]]) for k in a})
                pairs = [(summary(scores[n : n + 1], maps[n : n + 1]), alone) for n, alone in enumerate((alone_a, alone_b))]
                return max(abs(found[k] - alone[k]) for found, alone in pairs for k in KEYS)
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("ours", type=Path, help="what `pbas export --check` wrote")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--tolerance", type=float, default=1e-4)
    args = parser.parse_args()
    records = [json.loads(line) for line in args.ours.read_text().splitlines()]
    if not records or any("error" in r for r in records):
        sys.exit(f"{args.ours}: expected a score for every picture, found {records[:1] or 'none'}")
    model = str(args.model)
    try:
        metadata = read_metadata(model)
        engines = [ENGINES[name](model) for name in args.engines]
    except ImportError as error:
        print(f"{error}: see bench/requirements.txt", file=sys.stderr)
        sys.exit(2)
    print(f"{args.model}: input {metadata['input']}, threshold {float(metadata['threshold']):.4f}, pbas {metadata['pbas_version']}")
    worst = 0.0
    for name, run in engines:
        print(f"\n{name}\n{'picture':40} {'pbas':>10} {'found':>10} {'score':>9} {'map max':>9} {'map mean':>9}")
        each, of_engine = [], dict.fromkeys(KEYS, 0.0)
        for ours in records:
            given = inputs_of(ours["path"], metadata)
            found = summary(*run(given))
            apart = {k: abs(found[k] - ours[k]) for k in KEYS}
            of_engine = {k: max(of_engine[k], apart[k]) for k in KEYS}
            # NaN is not close to anything.
            worst = max(worst, *(d if d == d else float("inf") for d in apart.values()))
            print(
                f"{ours['path'][-40:]:40} {ours['image_score']:10.5f} {found['image_score']:10.5f} "
                + " ".join(f"{apart[k]:9.1e}" for k in KEYS)
            )
            each.append((ours["path"], given, found))
        print(f"largest: {', '.join(f'{k} {d:.1e}' for k, d in of_engine.items())}; {len(records)} pictures")
        batch = batch_difference(run, each)
        if batch is not None:
            print(f"two pictures in a batch against each alone: {batch:.1e}")
            worst = max(worst, batch if batch == batch else float("inf"))
    print(f"\nlargest difference of any score: {worst:.1e}, allowed {args.tolerance:.1e}")
    sys.exit(0 if worst <= args.tolerance else 1)


main()
