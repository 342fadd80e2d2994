"""One peer in a process of its own. Prints `ready`; then, for every line `go` on standard input, does its work once and prints
the milliseconds that it took.

    peer.py network ENGINE NAME SIZE BATCH THREADS   ENGINE: onnxruntime, openvino, openvino-f32, torch
    peer.py detector default|paper PICTURE THREADS   JPEG file to verdict, as published pipelines do it
    peer.py exported MODEL.onnx PICTURE THREADS      the same with our exported model, onnxruntime and OpenCV
    peer.py step default|paper THREADS               one training step in torch
    peer.py epoch THREADS                            features of a batch of 8 pictures and one step, as every epoch recomputes them
"""
import os
import sys
import tempfile
import time
from pathlib import Path


def main():
    kind, *args = sys.argv[1:]
    threads = int(args[-1])
    # Before the libraries are loaded.
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)
    work = {"network": network, "detector": detector, "exported": exported, "step": step, "epoch": epoch}[kind](*args)
    for _ in range(2):
        work()
    print("ready", flush=True)
    for line in sys.stdin:
        if line.strip() != "go":
            sys.exit(f"expected `go`, found `{line.strip()}`")
        start = time.perf_counter()
        work()
        print((time.perf_counter() - start) * 1e3, flush=True)


def torch_with(threads):
    import torch

    torch.set_num_threads(int(threads))
    return torch


def network(engine, name, size, batch, threads):
    import numpy

    size, batch, threads = int(size), int(batch), int(threads)
    pictures = numpy.random.default_rng(0).uniform(-2, 2, (batch, 3, size, size)).astype(numpy.float32)
    torch = torch_with(threads)
    import peer_networks

    made = peer_networks.network(name)
    if engine == "torch":
        tensor = torch.from_numpy(pictures)

        def work():
            with torch.inference_mode():
                made(tensor)

        return work
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        with torch.inference_mode():
            peer_networks.export(made, batch, size, path)
        if engine == "onnxruntime":
            session = onnx_session(path, threads)
            return lambda: session.run(None, {"image": pictures})
        import openvino

        options = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
        if engine == "openvino-f32":
            options["INFERENCE_PRECISION_HINT"] = "f32"
        request = openvino.Core().compile_model(str(path), "CPU", options).create_infer_request()
        return lambda: request.infer([pictures])


def onnx_session(path, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def detector(preset, picture, threads):
    """Pillow, torchvision's transforms, torch, scipy's Gaussian: a picture at a time."""
    torch = torch_with(threads)
    import numpy
    from PIL import Image
    from scipy.ndimage import gaussian_filter
    from torch import nn
    from torchvision import transforms

    import peer_networks as nets

    paper = preset == "paper"
    if paper:
        backbone, pool, dim, hidden, heads = nets.network("wide_resnet50_2"), nets.PatchFeatures(1536), 1536, 1024, 1
        mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        resizes = [(288, [transforms.Resize(288), transforms.CenterCrop(288)])]
    else:
        backbone, pool, dim, hidden, heads = nets.network("efficientnet_lite0_deep"), nets.PatchFeatures(None), 344, 256, 5
        mean, deviation = (0.498,) * 3, (0.502,) * 3
        resizes = [(side, [transforms.Resize((side, side))]) for side in default_sizes(picture)]
    # The default preset's remembered patches: a bank a head, of which each head looks into the others' (docs/recipe.md).
    banks = [] if paper else [torch.randn(2000 // heads, dim) for _ in range(heads)]
    # For each row of a bank and each head the distance that is usual there, and its deviation.
    usual = [torch.rand(2, heads, len(bank)) + 0.5 for bank in banks]
    finish = [transforms.ToTensor(), transforms.Normalize(mean, deviation)]
    views = []
    for side, resize in resizes:
        made = [(nn.Linear(dim, dim).eval(), nets.Discriminator(dim, hidden).eval()) for _ in range(heads)]
        views.append((side, transforms.Compose(resize + finish), made))
    largest = views[0][0]

    def distances(features):
        """What each head counts of how far the nearest patch is that it remembers, and how far above what is usual there, then what it counts
        of the former in the map; on a grid half as fine, brought back to the features' grid: [2, heads, positions]."""
        rows = nn.functional.avg_pool2d(features.permute(2, 0, 1), 2)
        height, width = rows.shape[1:]
        rows = rows.reshape(dim, -1).T
        found = [torch.cdist((rows - 0.1) / 1.1, bank).min(1) for bank in banks]
        nearest = torch.stack([d for d, _ in found])
        above = torch.stack([(d - mean[:, at]) / deviation[:, at] for (d, at), (mean, deviation) in zip(found, usual)])
        others = [[b for b in range(heads) if b != h] for h in range(heads)]
        least = torch.stack([nearest[o].amin(0) for o in others])
        counted = 0.5 * least + torch.stack([above[o, h].amin(0) for h, o in enumerate(others)])
        both = torch.stack([counted, 3 * least]).reshape(2, heads, height, width)
        return nn.functional.interpolate(both, features.shape[:2], mode="bilinear", align_corners=False).flatten(2)

    def work():
        with torch.inference_mode():
            image = Image.open(picture).convert("RGB")
            total, score_map = 0.0, numpy.zeros((largest, largest), numpy.float32)
            for side, prepare, made in views:
                maps = backbone(prepare(image).unsqueeze(0))
                features = pool(maps)
                scores = torch.stack([d(p(features)).flatten() for p, d in made])
                in_map = scores
                if banks:
                    counted, counted_in_map = distances(features.reshape(*maps[0].shape[2:], dim))
                    scores, in_map = scores + counted, scores.clamp(max=8) + counted_in_map
                scores, in_map = scores.mean(0), in_map.mean(0)
                if paper:
                    scores, in_map = torch.sigmoid(scores), torch.sigmoid(in_map)
                total += float(scores.max())
                grid = in_map.reshape(1, 1, *maps[0].shape[2:])
                wide = nn.functional.interpolate(grid, (largest, largest), mode="bilinear", align_corners=False)
                score_map += (side / largest) ** 2 * gaussian_filter(wide[0, 0].numpy(), sigma=4.0 * largest / side)
            return total > 0.5, score_map

    return work


def default_sizes(picture):
    """The two sides that the default preset chooses for pictures like this one (docs/recipe.md)."""
    from PIL import Image

    def rung(side):
        return int(side / 32 + 0.5) * 32

    side = min(max(min(Image.open(picture).size), 160), 640)
    return [288, 160] if rung(side) == 160 else [rung(side), rung(0.625 * side)]


def exported(model, picture, threads):
    import re

    import cv2
    import numpy

    cv2.setNumThreads(int(threads))
    session = onnx_session(model, int(threads))
    metadata = session.get_modelmeta().custom_metadata_map
    threshold = float(metadata.get("threshold", metadata.get("pbas.threshold", "nan")))
    sizes = {}
    for entry in session.get_inputs():
        *_, height, width = entry.shape
        found = re.search(r"(\d+)$", entry.name)
        side = int(found.group(1)) if found else 288
        sizes[entry.name] = (width if isinstance(width, int) else side, height if isinstance(height, int) else side)

    def work():
        image = cv2.cvtColor(cv2.imread(str(picture), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        inputs = {}
        for name, size in sizes.items():
            small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            inputs[name] = numpy.ascontiguousarray(small.transpose(2, 0, 1)[None], dtype=numpy.float32)
        score, score_map = session.run(["image_score", "score_map"], inputs)
        return float(score.ravel()[0]) > threshold, score_map

    return work


# Rows, entries of a feature, hidden units, whether centres are neighbours in the batch.
STEPS = {"paper": (10368, 1536, 1024, False), "default": (1296, 344, 256, True)}


def training(preset, threads):
    """The published step (algorithm.md, section 3) or the default preset's, as plain torch."""
    torch = torch_with(threads)
    from torch import nn
    from torch.nn import functional as F

    import peer_networks as nets

    rows, dim, hidden, neighbours = STEPS[preset]
    torch.manual_seed(0)
    projection, discriminator = nn.Linear(dim, dim), nets.Discriminator(dim, hidden)
    rates = (1e-3, 2e-3) if neighbours else (1e-4, 2e-4)
    optimisers = [
        torch.optim.Adam(projection.parameters(), lr=rates[0], weight_decay=1e-5),
        torch.optim.AdamW(discriminator.parameters(), lr=rates[1], weight_decay=1e-2),
    ]
    centres = torch.randn(1296, dim)
    unit = F.normalize(centres, dim=1)
    scale = torch.rand(rows, 1) * 0.55 + 0.05 if neighbours else 0.25
    weight = 0.1 if neighbours else 1.0

    def one(z):
        x = projection(z)
        with torch.no_grad():
            if neighbours:
                distance = torch.cdist(x, x[:324])
                distance.fill_diagonal_(float("inf"))
                c = x[distance.argmin(1)].clone()
            else:
                c = centres[(F.normalize(x, dim=1) @ unit.T).argmax(1)]
        ray = x - c
        d = ray.norm(dim=1, keepdim=True)
        radius = d.mean()
        synthetic = x + (scale * radius * ray / d.clamp_min(1e-12)).detach()
        logits = discriminator(torch.cat([x, synthetic]))
        normal, abnormal = logits.chunk(2)
        loss = weight * radius
        loss = loss + F.binary_cross_entropy_with_logits(normal, torch.zeros_like(normal))
        loss = loss + F.binary_cross_entropy_with_logits(abnormal, torch.ones_like(abnormal))
        for optimiser in optimisers:
            optimiser.zero_grad(set_to_none=True)
        loss.backward()
        for optimiser in optimisers:
            optimiser.step()
        return float(loss)

    return torch, one, torch.randn(rows, dim)


def step(preset, threads):
    _, one, z = training(preset, threads)
    return lambda: one(z)


def epoch(threads):
    torch, one, _ = training("paper", threads)
    import peer_networks as nets

    backbone, pool = nets.network("wide_resnet50_2"), nets.PatchFeatures(1536)
    pictures = torch.randn(8, 3, 288, 288)

    def work():
        with torch.inference_mode():
            features = pool(backbone(pictures))
        return one(features.clone())

    return work


main()
