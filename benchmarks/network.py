"""Speed of the patch network, as ratios in one run: against a plain ResNet-18, and bfloat16 against float32.

    python benchmarks/network.py

The same 512 random patches of 64 px in batches of 128, on all cores, networks with random weights. torchvision's
ResNet-18 differs in what is measured: max pooling for SoftPool, mean for GeM, no attention. Best of 5 rounds in turns,
with the CPU time beside it; also with the other strides that the network can have.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from timing import best_of
from torch import nn
from torchvision.models import resnet18

from pusa.embedding.network import DIMENSIONS, PatchNetwork

PATCHES, BATCH = 512, 128


def main() -> None:
    torch.manual_seed(0)
    patches = (torch.rand(PATCHES, 1, 64, 64) < 0.3).float().contiguous(memory_format=torch.channels_last)
    networks = {
        "torchvision ResNet-18": plain(),
        "Pusa, width 64": PatchNetwork(64),
        "Pusa, width 32": PatchNetwork(32),
        "Pusa, width 32, last stride 1": PatchNetwork(32, last_stride=1),
        "Pusa, width 32, stem stride 1": PatchNetwork(32, stem_stride=1),
    }
    jobs: dict[str, Callable[[], object]] = {}
    for name, network in networks.items():
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for dtype in (torch.float32, torch.bfloat16):
            jobs[f"{name}, {str(dtype)[6:]}"] = lambda n=network, d=dtype: embed(n, patches, d)
            jobs[f"{name}, {str(dtype)[6:]}, training"] = lambda n=network, d=dtype: train(n, patches, d)
    wall, cpu = best_of(jobs)
    for name in jobs:
        print(f"{name:55} {PATCHES / wall[name]:7.0f} patches/s, {1000 * cpu[name] / PATCHES:6.2f} ms of CPU a patch")
    for kind in ("float32", "bfloat16", "float32, training", "bfloat16, training"):
        ratio = wall[f"Pusa, width 64, {kind}"] / wall[f"torchvision ResNet-18, {kind}"]
        print(f"SoftPool, attention and GeM cost {100 * (ratio - 1):.0f} % over the plain ResNet-18 in {kind}")
    for kind in ("", ", training"):
        for width in (64, 32):
            ratio = wall[f"Pusa, width {width}, float32{kind}"] / wall[f"Pusa, width {width}, bfloat16{kind}"]
            print(f"width {width}{kind}: bfloat16 is {ratio:.2f} times as fast as float32")


def plain() -> nn.Module:
    """ResNet-18 for patches of one channel, with as many numbers at the end."""
    network = resnet18(num_classes=DIMENSIONS)
    network.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    return network


@torch.inference_mode()
def embed(network: nn.Module, patches: torch.Tensor, dtype: torch.dtype) -> None:
    network.eval().to(dtype)
    for batch in patches.to(dtype).split(BATCH):
        network(batch)


def train(network: nn.Module, patches: torch.Tensor, dtype: torch.dtype) -> None:
    """Forward and backward as `pusa train` does it: weights in float32, the network in `dtype`."""
    network.train().to(torch.float32)
    for batch in patches.split(BATCH):
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            vectors = network(batch)
        vectors.float().square().sum().backward()


if __name__ == "__main__":
    main()
