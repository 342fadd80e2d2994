"""Backbones as peers run them: torch modules of the published shapes, and the same as ONNX.

Weights are random: for speed their values do not matter.
"""
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

# Blocks of EfficientNet-Lite0's stages: kernel, stride, expansion, channels, repeats (Tan and Le 2019, "Lite" without
# squeeze-and-excitation and with ReLU6), up to the stage of 192 channels.
LITE0 = [(3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3), (5, 2, 6, 192, 4)]


class InvertedBottleneck(nn.Module):
    def __init__(self, inputs, outputs, kernel, stride, expansion):
        super().__init__()
        wide = inputs * expansion
        layers = []
        if expansion > 1:
            layers += [nn.Conv2d(inputs, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6()]
        layers += [nn.Conv2d(wide, wide, kernel, stride, kernel // 2, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.ReLU6()]
        layers += [nn.Conv2d(wide, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.layers(x) if self.residual else self.layers(x)


class Lite0(nn.Module):
    """The last maps of stride 8, 16 and (with `deep`) 32."""

    def __init__(self, deep):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6())
        stages, channels = [], 32
        for kernel, stride, expansion, outputs, repeats in LITE0 if deep else LITE0[:-1]:
            blocks = []
            for n in range(repeats):
                blocks.append(InvertedBottleneck(channels, outputs, kernel, stride if n == 0 else 1, expansion))
                channels = outputs
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)

    def forward(self, x):
        x = self.stem(x)
        kept = []
        for n, stage in enumerate(self.stages):
            x = stage(x)
            if n in (2, 4, 5):
                kept.append(x)
        return kept


class ResNet(nn.Module):
    """`layer2` and `layer3`."""

    def __init__(self, whole):
        super().__init__()
        self.front = nn.Sequential(whole.conv1, whole.bn1, whole.relu, whole.maxpool, whole.layer1, whole.layer2)
        self.layer3 = whole.layer3

    def forward(self, x):
        layer2 = self.front(x)
        return [layer2, self.layer3(layer2)]


def network(name):
    """A network with random weights, ready for inference."""
    torch.manual_seed(0)
    if name == "efficientnet_lite0":
        made = Lite0(deep=False)
    elif name == "efficientnet_lite0_deep":
        made = Lite0(deep=True)
    else:
        made = ResNet(getattr(torchvision.models, name)(weights=None))
    # BatchNorm as the identity makes values grow from block to block, and denormals or infinities would change the speed.
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.weight, 0.7)
    return made.eval()


def export(made, batch, size, path):
    """Writes a network as ONNX for one input shape."""
    example = torch.randn(batch, 3, size, size)
    outputs = [f"map{n}" for n in range(len(made(example[:1])))]
    torch.onnx.export(
        made, (example,), str(path), input_names=["image"], output_names=outputs, opset_version=18, dynamo=False
    )


class PatchFeatures(nn.Module):
    """Layer maps -> patch features: the published adaptive pools (`dim`), or the mean of each channel (`dim` None)."""

    def __init__(self, dim):
        super().__init__()
        self.dim = dim

    def forward(self, maps):
        height, width = maps[0].shape[2:]
        if self.dim is None:
            pooled = [F.avg_pool2d(m, 3, 1, 1) for m in maps]
            wide = [F.interpolate(m, (height, width), mode="bilinear", align_corners=False) for m in pooled]
            return torch.cat(wide, 1).permute(0, 2, 3, 1).flatten(0, 2)
        layers = []
        for m in maps:
            batch, channels, h, w = m.shape
            patches = F.unfold(m, 3, padding=1).reshape(batch, channels * 9, h, w)
            if (h, w) != (height, width):
                patches = F.interpolate(patches, (height, width), mode="bilinear", align_corners=False)
            patches = patches.permute(0, 2, 3, 1).reshape(-1, 1, channels * 9)
            layers.append(F.adaptive_avg_pool1d(patches, self.dim).squeeze(1))
        return F.adaptive_avg_pool1d(torch.stack(layers, 1).flatten(1).unsqueeze(1), self.dim).squeeze(1)


class Discriminator(nn.Module):
    def __init__(self, dim, hidden):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(dim, hidden), nn.BatchNorm1d(hidden), nn.LeakyReLU(0.2))
        self.tail = nn.Linear(hidden, 1, bias=False)

    def forward(self, x):
        return self.tail(self.body(x)).squeeze(1)
