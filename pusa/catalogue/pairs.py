"""Pairs of encounters that may show one animal: each encounter's nearest ones by Fisher vector, and what points of
their crops say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import Field

from pusa.catalogue.evidence import Pair
from pusa.config import Config
from pusa.gallery.geometry import Features
from pusa.gallery.search import Watch
from pusa.gallery.verify import Verifier, VerifyConfig

BLOCK = 512  # encounters searched at once: 200 MB of similarities to 100,000
SPREAD = 0.01  # of similarities, at least: a few that are equal by chance are no measure
SIGNS = ("prominence", "inliers", "nearness")


class ProposeConfig(Config):
    """Settings of the search for pairs."""

    shortlist: int = Field(default=150, gt=0)  # encounters, the nearest by Fisher vector, that are verified
    nearest: int = Field(default=20, gt=0)  # encounters that are paired where nothing is verified
    dimensions: int = Field(default=256, gt=0)  # of the codes that are searched
    sample: int = Field(default=2000, gt=0)  # vectors that the codes are fitted to
    verification: VerifyConfig | None = VerifyConfig()


@dataclass(frozen=True)
class Pairs:
    """P pairs of encounters, `at` (P, 2) int32, the smaller number first, sorted; and their SIGNS (P, 3) float32.

    Of the two directions in which a pair is compared the larger sign counts. `prominence`: logarithm of (1 + score),
    less its mean over the encounters compared (the logarithm of their mean would be the best one's alone); `inliers`:
    log(1 + matching points), both 0 where nothing was verified; `nearness`: log(1 + z), where the similarity lies z
    standard deviations above the mean of all.
    """

    at: np.ndarray
    signs: np.ndarray

    @classmethod
    def of(cls, first: np.ndarray, second: np.ndarray, signs: np.ndarray) -> Pairs:
        """From pairs (n,) and (n,), in any order and direction, and their signs (n, 3)."""
        low, high = np.minimum(first, second).astype(np.int64), np.maximum(first, second)
        keys, place = np.unique(low << 32 | high, return_inverse=True)
        largest = np.full((len(keys), signs.shape[1]), -np.inf, np.float32)
        np.maximum.at(largest, place, signs)
        return cls(np.column_stack([keys >> 32, keys & 0xFFFFFFFF]).astype(np.int32), largest)

    def without(self, apart: Iterable[Pair]) -> Pairs:
        """Less those that need no comparison."""
        gone = {a << 32 | b for a, b in apart}
        keys = self.at[:, 0].astype(np.int64) << 32 | self.at[:, 1]
        kept = ~np.isin(keys, np.fromiter(gone, np.int64, len(gone)))
        return Pairs(self.at[kept], self.signs[kept])


def projection(sample: np.ndarray, dimensions: int) -> np.ndarray:
    """The first principal axes (L, d) float32, d <= `dimensions`, of Fisher vectors (S, L), from the products of these
    few long vectors with one another."""
    x = _unit(sample)
    values, vectors = torch.linalg.eigh(x @ x.T)
    chosen = values.argsort(descending=True)[:dimensions]
    chosen = chosen[values[chosen] > 1e-6 * values.max()]
    return (x.T @ (vectors[:, chosen] / values[chosen].sqrt())).numpy()


def codes(vectors: Iterable[np.ndarray], axes: np.ndarray) -> np.ndarray:
    """Codes (N, d) float32 of Fisher vectors that come in blocks (n, L): cosines along the axes (L, d)."""
    a = torch.from_numpy(axes)
    return np.concatenate([np.zeros((0, axes.shape[1]), np.float32), *((_unit(v) @ a).numpy() for v in vectors)])


@torch.inference_mode()
def nearest(vectors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each of N vectors (N, d), the k nearest other ones by cosine, nearest first: places (N, k) int32, and their
    `nearness` (N, k) float32. Exact, block by block. k is at most N - 1; a vector of zeros is nobody's neighbour: its
    place is -1."""
    k = max(0, min(k, len(vectors) - 1))
    x = _unit(vectors)
    empty = ~x.any(dim=1)
    places, signs = np.empty((len(x), k), np.int32), np.empty((len(x), k), np.float32)
    for begin in range(0, len(x), BLOCK):
        block = x[begin : begin + BLOCK]
        similarity = block @ x.T
        mean, deviation = similarity.mean(dim=1, keepdim=True), similarity.std(dim=1, correction=0, keepdim=True)
        similarity[:, empty] = similarity[empty[begin : begin + BLOCK]] = -torch.inf
        similarity[torch.arange(len(block)), torch.arange(begin, begin + len(block))] = -torch.inf
        best, at = similarity.topk(k, dim=1)
        z = (best - mean) / (deviation**2 + SPREAD**2).sqrt()
        places[begin : begin + BLOCK] = torch.where(best.isinf(), -1, at).numpy()
        signs[begin : begin + BLOCK] = z.clamp(min=0).log1p().numpy()
    return places, signs


def propose(
    vectors: np.ndarray, config: ProposeConfig, crops: Sequence[Sequence[Features]] = (), watch: Watch = iter
) -> Pairs:
    """The pairs of N encounters with `vectors` (N, d), Fisher vectors or their codes. With the `crops` of each the
    nearest are verified, as `pusa identify` does. `watch`: shows the progress."""
    verified = config.verification is not None and len(crops) > 0
    places, nearness = nearest(vectors, config.shortlist if verified else config.nearest)
    signs = np.zeros((*places.shape, len(SIGNS)), np.float32)
    signs[..., 2] = nearness
    if verified and config.verification is not None:
        verifier = Verifier(crops, config.verification)
        for i in watch(range(len(vectors))):
            compared = np.zeros(len(vectors), bool)
            mine = places[i][places[i] >= 0]
            compared[mine] = True
            found = verifier(crops[i], compared)
            score = np.log1p(found.score[mine])
            signs[i, : len(mine), 0] = score - (score.mean() if len(score) else 0)
            signs[i, : len(mine), 1] = np.log1p(found.inliers[mine])
    there = places >= 0
    first = np.repeat(np.arange(len(vectors)), places.shape[1])[there.ravel()]
    return Pairs.of(first, places[there], signs[there])


def _unit(vectors: np.ndarray) -> torch.Tensor:
    x = torch.from_numpy(np.asarray(vectors).astype(np.float32))
    return x / x.norm(dim=1, keepdim=True).clamp(min=1e-12)
