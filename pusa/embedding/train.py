"""Training of the patch network: a class is a place on an animal, its members are that place in different photos.

Places come from coats drawn for the purpose (`coats`), from photos of a processed synthetic archive (`seen`), or both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from pydantic import Field
from pytorch_metric_learning.losses import SphereFaceLoss, TripletMarginLoss
from pytorch_metric_learning.miners import TripletMarginMiner
from torch import Tensor, nn
from torch.utils.data import Dataset

from pusa import truth, weights
from pusa.embedding import artificial, coats, evaluate, matched, seen
from pusa.embedding.embed import EmbeddingConfig, PatchEmbedder
from pusa.embedding.network import DIMENSIONS, PatchNetwork
from pusa.errors import UserError
from pusa.pattern.extract import PatternConfig
from pusa.records import Run
from pusa.steps import Report, StepConfig, Task, equalise, run
from pusa.synthetic.renderer_a.rings import RingModel


class EmbeddingTraining(StepConfig):
    """Settings of a training run. The defaults work from scratch; `PAPER` is the schedule of the paper."""

    coats: int = Field(default=200, ge=0)  # drawn, of different animals, about 15 classes each; 0: only what was seen
    seen: tuple[tuple[Path, Path], ...] = ()  # processed synthetic archives: folder of the run, folder of the archive
    named: tuple[tuple[Path, Path], ...] = ()  # one's own animals: folder of the run, file of names
    artificial: tuple[Path, ...] = ()  # sets made by AGE, as in the paper
    seen_share: float = Field(default=0.7, ge=0, le=1)  # of the examples that are not from drawn coats, if there are
    validation: tuple[tuple[Path, Path], ...] = ()  # likewise, held out: are places found again in other sequences?
    validation_patches: int = 10_000  # of these at most so many are compared
    ring_models: tuple[RingModel, ...] = ("placed", "reaction")  # in turn
    extraction: PatternConfig = PatternConfig()  # of drawn coats: how patterns come out: their lines, and the patches
    versions: int = Field(default=6, gt=1)  # ways in which a coat's pattern comes out: line thickness, gaps, noise
    validation_places: int = 600  # on drawn coats never trained on, two members each
    validation_difficulty: float = 0.5  # of these members; 1 is the worst that two photos do to a place
    out: Path = Path("embedding.safetensors")
    network: dict[str, Any] = Field(default={"width": 32})  # see PatchNetwork; 64 is the paper's ResNet-18
    steps: int = Field(default=4000, gt=0)
    batch: int = Field(default=64, gt=1)
    pretraining: float = Field(default=0.5, ge=0, le=1)  # fraction of the run with NT-Xent, until SphereFace can start
    temperature: float = 0.07  # of NT-Xent
    loss: Literal["sphereface", "triplet"] = "sphereface"  # after that; triplet: what the paper argues against
    triplet_margin: float = 0.2
    learning_rate: float = 1e-3  # peak, AdamW with AMSGrad
    schedule: Literal["cosine", "drop"] = "cosine"  # "drop": constant, x 0.15 after three fifths
    weight_decay: float = 1e-3
    margin: int = 4  # of SphereFace: the angle to the own class counts so many times
    # Of the margin at the end. SphereFace's own code stops there (lambda 5); 1 = the formula.
    margin_share: float = 0.17
    margin_warm_up: float = 0.5  # fraction of the run over which the margin sets in; 0 = at once
    scale: float = 16.0  # of the cosines in the softmax; vectors have length 1, not the free length of the paper


# Five epochs of AGE's 10,000 patches in batches of 32. Made for a network that is trained already: not from scratch.
PAPER = EmbeddingTraining(
    coats=0, network={"width": 64}, steps=1563, epoch_steps=313, batch=32, learning_rate=1e-5, schedule="drop",
    margin_share=1, margin_warm_up=0, pretraining=0,
)  # fmt: skip


# The starter, taught one's own animals: by contrast alone, since a place has few pictures.
OWN = EmbeddingTraining(
    start="starter/embedding", coats=0, pretraining=1, steps=800, epoch_steps=200, batch=128, learning_rate=4e-4
)


class SphereFace(SphereFaceLoss):
    """SphereFace (Liu 2017) whose margin can set in gradually: `share` 0 is softmax over cosines, 1 the full margin."""

    share = 1.0

    def modify_cosine_of_target_classes(self, cosine_of_target_classes: Tensor) -> Tensor:
        full = super().modify_cosine_of_target_classes(cosine_of_target_classes)
        return self.share * full + (1 - self.share) * cosine_of_target_classes


def nt_xent(vectors: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """NT-Xent (Chen 2020) of vectors (B, d) of length 1: the mean over all pairs of one class, of labels (B,), each
    against what is not of it. The library's holds B^3 numbers, 500 MB at a batch of 512, which a GPU wants."""
    similarity = vectors @ vectors.T / temperature
    same = labels[:, None] == labels
    others = similarity.masked_fill(same, -1e4).logsumexp(dim=1)
    pairs = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    losses = torch.logaddexp(similarity, others[:, None]) - similarity
    return losses[pairs].sum() / pairs.sum().clamp(min=1)


class Places(Protocol):
    """A source of classes, numbered from 0. Members of two turns in a row are as different as the source has them."""

    def __len__(self) -> int: ...

    def member(self, c: int, turn: int, rng: np.random.Generator, difficulty: float = 1.0) -> np.ndarray: ...


@dataclass(frozen=True)
class Together:
    """The classes of several sources, one behind the other; each gives its share of the examples."""

    sources: Sequence[Places]
    shares: Sequence[float]

    def __len__(self) -> int:
        return sum(len(source) for source in self.sources)

    def pick(self, rng: np.random.Generator) -> int:
        """A class by chance."""
        k = int(rng.choice(len(self.sources), p=self.shares))
        return sum(len(source) for source in self.sources[:k]) + int(rng.integers(len(self.sources[k])))

    def member(self, c: int, turn: int, rng: np.random.Generator, difficulty: float = 1.0) -> np.ndarray:
        for source in self.sources:
            if c < len(source):
                return source.member(c, turn, rng, difficulty)
            c -= len(source)
        raise IndexError(c)


def draw_places(config: EmbeddingTraining, number: int, how_many: int) -> coats.DrawnPlaces:
    """The places of drawn coats; another `number` gives other coats."""
    return coats.draw_places((config.seed, number), how_many, config.ring_models, config.versions, config.extraction)


def places_of(config: EmbeddingTraining) -> Together:
    """All classes of a training. Raises UserError where there is none."""
    sources: list[Places] = [draw_places(config, 0, config.coats)] if config.coats else []
    others: list[Places] = [seen.read(Run(str(run)), archive) for run, archive in config.seen]
    others += [
        matched.read(Run(str(run)), truth.instance_names(Run(str(run)), str(file))) for run, file in config.named
    ]
    others += [artificial.read(path) for path in config.artificial]
    if not sources and not others:
        raise UserError(
            "There is nothing to learn from: give `coats`, a run and its archive as `seen`, a run and the names of its "
            "animals as `named`, or `artificial`."
        )
    kinds = {bool(getattr(source, "grey", False)) for source in (*sources, *others)}
    if len(kinds) > 1:
        raise UserError(
            "Runs of grey patches cannot be learnt from together with patterns: set `coats: 0`, and give no artificial "
            "patches and no other runs."
        )
    share = 0.0 if not others else config.seen_share if sources else 1.0
    sizes = np.array([len(source) for source in others], float)
    return Together([*sources, *others], [1 - share] * len(sources) + list(share * sizes / max(sizes.sum(), 1)))


class TrainingPatches(Dataset):
    """Members of random classes for ever: item p is fixed by (seed, p), so a run can be resumed exactly.

    Items 2 k and 2 k + 1 are of one class and equally difficult, from 0 to 1 by chance: with the worst distortions
    alone, training from scratch does not start.
    """

    def __init__(self, places: Together, seed: int) -> None:
        self.places, self.seed = places, seed

    def __getitem__(self, p: int) -> tuple[Tensor, int]:
        pair = np.random.default_rng((self.seed, p // 2, 0))
        c, difficulty, turn = self.places.pick(pair), pair.random(), int(pair.integers(1 << 30)) + p % 2
        member = self.places.member(c, turn, np.random.default_rng((self.seed, p, 1)), difficulty)
        return torch.from_numpy(member)[None], c


def retrieval(queries: np.ndarray, gallery: np.ndarray) -> dict[str, float]:
    """How often gallery row i is the nearest to query row i, or among the five nearest; mean average precision.

    Rows (n, d) of length 1. Ties count against: a network that says the same of all patches scores nothing.
    """
    similarity = queries @ gallery.T
    rank = (similarity >= np.diag(similarity)[:, None]).sum(axis=1)
    mean_precision = float((1 / rank).mean())  # one right answer each: the reciprocal of its rank
    return {"recall@1": float((rank == 1).mean()), "recall@5": float((rank <= 5).mean()), "mAP": mean_precision}


def held_out_pairs(config: EmbeddingTraining) -> tuple[np.ndarray, np.ndarray]:
    """Two members (n, 64, 64) bool each of n = `validation_places` places on coats that training never sees."""
    places = draw_places(config, 1, -(-config.validation_places // 8))  # a coat has 10 or more
    rng = np.random.default_rng((config.seed, 2))
    n = min(config.validation_places, len(places))
    first, second = (
        np.stack([places.member(c, turn, rng, config.validation_difficulty) for c in range(n)]) for turn in range(2)
    )
    return first, second


class EmbeddingTask(Task[EmbeddingTraining]):
    """The patch network learns places: first by contrast (NT-Xent), then with SphereFace."""

    def __init__(self, config: EmbeddingTraining) -> None:
        super().__init__(config)
        self.places = places_of(config)
        self.pairs = held_out_pairs(config) if config.coats and config.validation_places else None
        rng = np.random.default_rng((config.seed, 4))
        self.best = "photos_map" if config.validation else None
        share = config.validation_patches // max(len(config.validation), 1)
        self.held_out = [seen.sample(Run(str(run)), archive, share, rng) for run, archive in config.validation]
        torch.manual_seed(config.seed)
        self.settings = config.network
        if config.start is not None:
            stored = weights.load(config.start, "embedding")
            self.settings = stored.settings["network"]
        self.network = PatchNetwork(**self.settings)
        if config.start is not None:
            weights.load_into(self.network, stored)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.sphereface = SphereFace(len(self.places), DIMENSIONS, margin=config.margin, scale=config.scale)
        self.triplet = TripletMarginLoss(config.triplet_margin)
        self.miner = TripletMarginMiner(config.triplet_margin, type_of_triplets="semihard")
        self.modules = nn.ModuleDict({"network": self.network, "sphereface": self.sphereface})
        self.modules.register_buffer("centred", torch.tensor(False))
        self.optimizer = torch.optim.AdamW(self.modules.parameters(), weight_decay=config.weight_decay, amsgrad=True)

    def data(self) -> Dataset:
        return TrainingPatches(self.places, self.config.seed)

    def rate(self, progress: float) -> float:
        if self.config.schedule == "drop":
            return 1.0 if progress < 0.6 else 0.15
        return super().rate(progress)

    def loss(self, batch: Any, progress: float) -> dict[str, Tensor]:
        config = self.config
        found, labels = batch
        x = found.to(self.device).float().contiguous(memory_format=torch.channels_last)
        with self.autocast():
            vectors = self.network(x)
        labels = labels.to(self.device)
        if progress < config.pretraining:
            return {"loss": nt_xent(vectors, labels, config.temperature)}
        if config.loss == "triplet":
            return {"loss": self.triplet(vectors, labels, self.miner(vectors, labels))}
        if not self.modules.get_buffer("centred"):
            self.centre()
        after = (progress - config.pretraining) / max(1 - config.pretraining, 1e-9)
        set_in = min(after / config.margin_warm_up, 1.0) if config.margin_warm_up else 1.0
        self.sphereface.share = config.margin_share * set_in
        return {"loss": self.sphereface(vectors, labels)}

    @torch.inference_mode()
    def centre(self) -> None:
        """Starts the class centres at the mean embedding of three members each, where pre-training has brought them."""
        rng = np.random.default_rng((self.config.seed, 3))
        embedder = PatchEmbedder(EmbeddingConfig(device=self.config.device), network=self.network)
        classes = range(len(self.places))
        members = [
            embedder.embed(np.stack([self.places.member(c, turn, rng, 0.5) for c in classes])) for turn in range(3)
        ]
        self.sphereface.W.copy_(torch.from_numpy(np.mean(members, axis=0)).T)
        self.modules.get_buffer("centred").fill_(True)
        equalise(self.sphereface)  # batch statistics differ between workers, and so the means
        self.modules.train()

    def validate(self) -> dict[str, float]:
        embedder = PatchEmbedder(EmbeddingConfig(device=self.config.device), network=self.network)
        figures = retrieval(*(embedder.embed(members) for members in self.pairs)) if self.pairs else {}
        for k, found in enumerate(self.held_out):
            vectors, rng = embedder.embed(found.patches), np.random.default_rng(0)
            again = evaluate.retrieval(vectors, found.where, found.animal, found.sequence, rng, queries=500).means()
            figures |= {f"photos{k or ''}_{name}": again[name] for name in ("recall@1", "map") if name in again}
        return figures

    def save(self) -> None:
        weights.save(self.config.out, "embedding", {"network": self.settings}, self.network.state_dict())


def loop(config: EmbeddingTraining, report: Report, resume: Path | None = None) -> Path:
    """Trains the patch network: see `steps.run`."""
    return run(EmbeddingTask(config), report, resume)
