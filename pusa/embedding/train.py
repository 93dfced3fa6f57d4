"""Training of the patch network on synthetic coats: training/embedding.py runs `loop` in Ray Train's workers.

A class is a place on a coat; its members are that place as it would come out of the extraction in different photos:
turned, shifted, seen at an angle, with thicker or thinner lines, gaps, blobs, and parts hidden. Every coat is drawn
from a seed, so there are no files of patches, and as many classes as wanted.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from pydantic import Field
from pytorch_metric_learning.losses import NTXentLoss, SphereFaceLoss
from torch import Tensor, nn
from torch.utils.data import Dataset

from pusa import weights
from pusa.embedding.embed import EmbeddingConfig, PatchEmbedder
from pusa.embedding.network import DIMENSIONS, PatchNetwork
from pusa.pattern import extract, patches
from pusa.steps import Report, StepConfig, Task, equalise, run
from pusa.synthetic.renderer_a.rings import RingModel, ring_map

OVERSAMPLING = 1.5  # patterns are kept with lines so many times the normal thickness: turning them does no harm then
SHIFT = 12  # px, of a place from the middle of its patch: half a stride of 16, and what the extraction adds
MIN_WHITE = 0.12  # of a place to be a class: extraction keeps patches of 0.10
COAT_SIZE = 480  # px of a body length on the coats drawn here: lines of about 5 px


class EmbeddingTraining(StepConfig):
    """Settings of a training run. The defaults work from scratch; `PAPER` is the schedule of the paper."""

    coats: int = Field(default=200, gt=0)  # of different animals, about 15 classes each
    ring_models: tuple[RingModel, ...] = ("placed", "reaction")  # in turn
    extraction: extract.PatternConfig = extract.PatternConfig()  # how patterns come out: their lines, and the patches
    versions: int = Field(default=6, gt=1)  # ways in which a coat's pattern comes out: line thickness, gaps, noise
    validation_places: int = 600  # on coats never trained on, two members each
    validation_difficulty: float = 0.5  # of these members; 1 is the worst that two photos do to a place
    out: Path = Path("embedding.safetensors")
    network: dict[str, Any] = Field(default={"width": 32})  # see PatchNetwork; 64 is the paper's ResNet-18
    steps: int = Field(default=4000, gt=0)
    batch: int = Field(default=64, gt=1)
    pretraining: float = Field(default=0.5, ge=0, le=1)  # fraction of the run with NT-Xent, until SphereFace can start
    temperature: float = 0.07  # of NT-Xent
    learning_rate: float = 1e-3  # peak, AdamW with AMSGrad
    schedule: Literal["cosine", "drop"] = "cosine"  # "drop": constant, x 0.15 after three fifths
    weight_decay: float = 1e-3
    margin: int = 4  # of SphereFace: the angle to the own class counts so many times
    # Of the margin at the end. SphereFace's own code stops there (lambda 5); 1 = the formula.
    margin_share: float = 0.17
    margin_warm_up: float = 0.5  # fraction of the run over which the margin sets in; 0 = at once
    scale: float = 16.0  # of the cosines in the softmax; vectors have length 1, not the free length of the paper


# 100 classes, 10,000 patches, 5 epochs in batches of 32. Made for a network that is trained already: not from scratch.
PAPER = EmbeddingTraining(
    coats=15, network={"width": 64}, steps=1563, epoch_steps=313, batch=32, learning_rate=1e-5, schedule="drop",
    margin_share=1, margin_warm_up=0, pretraining=0,
)  # fmt: skip


class SphereFace(SphereFaceLoss):
    """SphereFace (Liu 2017) whose margin can set in gradually: `share` 0 is softmax over cosines, 1 the full margin."""

    share = 1.0

    def modify_cosine_of_target_classes(self, cosine_of_target_classes: Tensor) -> Tensor:
        full = super().modify_cosine_of_target_classes(cosine_of_target_classes)
        return self.share * full + (1 - self.share) * cosine_of_target_classes


@dataclass(frozen=True)
class Coat:
    """One animal: its pattern in several versions (H, W) uint8 with lines OVERSAMPLING x as thick, the scale of each
    (its pixels per pixel of the drawing), and the centres (n, 2) of its places, x, y in pixels of the drawing."""

    versions: list[np.ndarray]
    scales: list[float]
    places: np.ndarray


def draw_coat(rng: np.random.Generator, model: RingModel, versions: int, extraction: extract.PatternConfig) -> Coat:
    """A coat, its versions with thickness normalised as in the extraction, and its places: apart by about a patch."""
    drawn = ring_map(rng, model=model)
    thinner = cv2.erode(drawn.astype(np.uint8), np.ones((3, 3), np.uint8))  # as thick as in photos of the same animals
    rings = patches.resize(thinner > 0, (COAT_SIZE, round(drawn.shape[0] * COAT_SIZE / drawn.shape[1])))
    around = np.pad(rings, ((COAT_SIZE // 4, COAT_SIZE // 4), (0, 0)), mode="wrap")  # theta is periodic
    config = extraction.model_copy(update={"line_thickness": extraction.line_thickness * OVERSAMPLING})
    normalised = [extract.normalise_thickness(_worn(around, rng), config) for _ in range(versions)]
    # Blurred, so that reading every second pixel means reading all.
    pictures = [cv2.GaussianBlur(p.astype(np.uint8) * 255, (0, 0), 0.7) for p, _ in normalised]
    return Coat(pictures, [scale for _, scale in normalised], _places(around, extraction.line_thickness, rng))


def _worn(rings: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A pattern as another photo shows it: lines thicker or thinner, and here and there missing or run together."""
    h, w = rings.shape
    soft = cv2.GaussianBlur(rings.astype(np.float32), (0, 0), rng.uniform(1.0, 2.2))
    coarse = rng.normal(0, rng.uniform(0.03, 0.12), (h // 12, w // 12)).astype(np.float32)
    uneven = cv2.resize(coarse, (w, h), interpolation=cv2.INTER_CUBIC)
    return soft + uneven > rng.uniform(0.32, 0.55)


def _places(rings: np.ndarray, line_thickness: float, rng: np.random.Generator) -> np.ndarray:
    """Centres (n, 2) of places on a jittered grid, a patch apart, where the pattern is dense enough to give patches."""
    side = round(patches.SIZE * extract.thickness(rings) / line_thickness)  # of a patch, in pixels of the drawing
    offset = rng.uniform(0, side, 2)
    xs = np.arange(offset[0], rings.shape[1], side)
    ys = np.arange(COAT_SIZE // 4 + offset[1] / 2, rings.shape[0] - COAT_SIZE // 4, side)
    density = cv2.blur(rings.astype(np.float32), (side, side), borderType=cv2.BORDER_CONSTANT)
    return np.array([(x, y) for y in ys for x in xs if density[int(y), int(x)] >= MIN_WHITE]).reshape(-1, 2)


def member(coat: Coat, place: np.ndarray, rng: np.random.Generator, difficulty: float = 1.0) -> np.ndarray:
    """One member of a class: patch (64, 64) bool around `place` (2,) of one version of the coat, chosen by chance.

    `difficulty` scales all distortions: 0 is the place as it is, 1 the worst that two photos do to it.
    """
    v = int(rng.integers(len(coat.versions)))
    half = patches.SIZE / 2
    angle = np.deg2rad(difficulty * rng.uniform(-25, 25))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    # Thickness is measured on the whole animal, so the scale of a place is right to some 15 % only.
    scale = np.exp(difficulty * rng.uniform(-0.15, 0.15)) / OVERSAMPLING
    # Seen at an angle, the coat is shortened in one direction, mostly across the body.
    foreshortening = np.diag(1 - difficulty * np.array([0.2, 0.4]) * rng.random(2) ** 2)
    linear = turn @ foreshortening * scale
    matrix = np.eye(3)
    matrix[:2, :2] = linear
    # A patch's grid does not know the place: the nearest patch is off by half a stride at most, SHIFT for any.
    matrix[:2, 2] = half + difficulty * rng.uniform(-SHIFT, SHIFT, 2) - linear @ (place * coat.scales[v])
    perspective = np.eye(3)
    perspective[2, :2] = difficulty * rng.normal(0, 0.0008, 2)
    perspective[2, 2] = 1 - perspective[2, :2].sum() * half  # the centre stays at scale 1
    view = cv2.warpPerspective(coat.versions[v], perspective @ matrix, (patches.SIZE, patches.SIZE))
    return _disturb(view >= 128, rng) if rng.random() < difficulty else view >= 128


def _disturb(patch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gaps, blobs, foreign lines, and now and then a side of the patch that is hidden."""
    picture = patch.astype(np.uint8)
    for value, mean in ((0, 2.0), (1, 0.7)):
        for _ in range(rng.poisson(mean)):
            x, y = (int(v) for v in rng.integers(0, patches.SIZE, 2))
            cv2.circle(picture, (x, y), int(rng.integers(1, 4 if value else 6)), value, -1)
    for _ in range(rng.poisson(0.5)):
        x, y = (int(v) for v in rng.integers(0, patches.SIZE, 2))
        cv2.line(picture, (x, y), (x + int(rng.normal(0, 10)), y + int(rng.normal(0, 10))), 1, 2)
    if rng.random() < 0.25:
        normal = rng.normal(0, 1, 2)
        grid = np.mgrid[: patches.SIZE, : patches.SIZE] - patches.SIZE / 2
        distance = np.tensordot(normal / np.linalg.norm(normal), grid, 1)
        picture[distance > rng.uniform(10, 30)] = 0
    return picture > 0


@dataclass(frozen=True)
class Places:
    """Coats and the classes on them: class c is the place `where[c]` = (coat, number of the place)."""

    coats: list[Coat]
    where: list[tuple[int, int]]

    def member(self, c: int, rng: np.random.Generator, difficulty: float = 1.0) -> np.ndarray:
        coat, place = self.where[c]
        return member(self.coats[coat], self.coats[coat].places[place], rng, difficulty)


def draw_places(seed: tuple[int, ...], coats: int, config: EmbeddingTraining) -> Places:
    """All places of `coats` new coats; the same seed gives the same."""
    models = config.ring_models
    drawn = [
        draw_coat(np.random.default_rng((*seed, i)), models[i % len(models)], config.versions, config.extraction)
        for i in range(coats)
    ]
    return Places(drawn, [(i, j) for i, coat in enumerate(drawn) for j in range(len(coat.places))])


class TrainingPatches(Dataset):
    """Members of random classes for ever: item p is fixed by (seed, p), so a run can be resumed exactly.

    Items 2 k and 2 k + 1 are of one class and equally difficult, from 0 to 1 by chance: with the worst distortions
    alone, training from scratch does not start.
    """

    def __init__(self, places: Places, seed: int) -> None:
        self.places, self.seed = places, seed

    def __getitem__(self, p: int) -> tuple[Tensor, int]:
        pair = np.random.default_rng((self.seed, p // 2, 0))
        c, difficulty = int(pair.integers(len(self.places.where))), pair.random()
        return torch.from_numpy(self.places.member(c, np.random.default_rng((self.seed, p, 1)), difficulty))[None], c


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
    enough = -(-config.validation_places // 8)  # a coat has 10 or more
    places = draw_places((config.seed, 1), enough, config)
    rng = np.random.default_rng((config.seed, 2))
    n = min(config.validation_places, len(places.where))
    first, second = (
        np.stack([places.member(c, rng, config.validation_difficulty) for c in range(n)]) for _ in range(2)
    )
    return first, second


class EmbeddingTask(Task[EmbeddingTraining]):
    """The patch network learns places of artificial coats: first by contrast (NT-Xent), then with SphereFace."""

    def __init__(self, config: EmbeddingTraining) -> None:
        super().__init__(config)
        self.places = draw_places((config.seed, 0), config.coats, config)
        self.pairs = held_out_pairs(config) if config.validation_places else None
        torch.manual_seed(config.seed)
        self.settings = config.network
        if config.start is not None:
            stored = weights.load(config.start, "embedding")
            self.settings = stored.settings["network"]
        self.network = PatchNetwork(**self.settings)
        if config.start is not None:
            weights.load_into(self.network, stored)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.sphereface = SphereFace(len(self.places.where), DIMENSIONS, margin=config.margin, scale=config.scale)
        self.contrastive = NTXentLoss(config.temperature)
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
        if progress < config.pretraining:
            return {"loss": self.contrastive(self.network(x), labels.to(self.device))}
        if not self.modules.get_buffer("centred"):
            self.centre()
        after = (progress - config.pretraining) / max(1 - config.pretraining, 1e-9)
        set_in = min(after / config.margin_warm_up, 1.0) if config.margin_warm_up else 1.0
        self.sphereface.share = config.margin_share * set_in
        return {"loss": self.sphereface(self.network(x), labels.to(self.device))}

    @torch.inference_mode()
    def centre(self) -> None:
        """Starts the class centres at the mean embedding of three members each, where pre-training has brought them."""
        rng = np.random.default_rng((self.config.seed, 3))
        embedder = PatchEmbedder(EmbeddingConfig(device=self.config.device), network=self.network)
        classes = range(len(self.places.where))
        members = [embedder.embed(np.stack([self.places.member(c, rng, 0.5) for c in classes])) for _ in range(3)]
        self.sphereface.W.copy_(torch.from_numpy(np.mean(members, axis=0)).T)
        self.modules.get_buffer("centred").fill_(True)
        equalise(self.sphereface)  # batch statistics differ between workers, and so the means
        self.modules.train()

    def validate(self) -> dict[str, float]:
        if self.pairs is None:
            return {}
        embedder = PatchEmbedder(EmbeddingConfig(device=self.config.device), network=self.network)
        return retrieval(*(embedder.embed(members) for members in self.pairs))

    def save(self) -> None:
        weights.save(self.config.out, "embedding", {"network": self.settings}, self.network.state_dict())


def loop(config: EmbeddingTraining, report: Report, resume: Path | None = None) -> Path:
    """Trains the patch network: see `steps.run`."""
    return run(EmbeddingTask(config), report, resume)
