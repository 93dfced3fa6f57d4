"""The stages between a photo and its patches' embeddings: their settings, weights and classes, in order.

What a run streams photos through and what an endpoint answers with is this, so the two cannot differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pusa import weights
from pusa.config import Config
from pusa.embedding.embed import EmbeddingConfig, PatchEmbedder
from pusa.encounters import EncounterConfig
from pusa.grouping.descriptor import Describer, DescriptorConfig
from pusa.keypoints import KeypointConfig
from pusa.marks.find import KeypointFinder
from pusa.pattern.extract import PatternConfig, PatternExtractor
from pusa.pattern.grey import GreyPatches
from pusa.segmentation.detect import CropConfig, PhotoDetector
from pusa.segmentation.segmenter import SegmentationConfig
from pusa.sides.find import SideConfig, SideFinder

Stage = tuple[type, dict[str, Any]]  # a class, and the arguments that it is made with

# What each stage rests on besides the stages before it: parts of the settings, kinds of weights. In their order.
RESTS_ON: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "detector": (("crops", "segmentation"), ("segmentation",)),
    "sides": (("sides",), ("sides",)),
    "descriptor": (("descriptor",), ("descriptor", "whitening")),
    "keypoints": (("keypoints",), ("marks",)),
    "pattern": (("pattern",), ("pattern",)),
    "embedding": (("embedding",), ("embedding",)),
}
BEHIND = {"detector": tuple(RESTS_ON), "sides": ("sides",), "descriptor": ("descriptor",),
          "keypoints": ("keypoints",), "pattern": ("pattern", "embedding"), "embedding": ("embedding",)}  # fmt: skip
# The fields of an instance that a stage fills; of `side` only what the input does not say, so SideFinder clears it.
FILLS = {
    "sides": (),
    "descriptor": ("descriptor",),
    "keypoints": ("keypoints", "marks", "picture"),
    "pattern": ("pattern", "pattern_fraction", "usable", "unusable_reason", "patch_boxes"),
    "embedding": ("embeddings",),
}


def outdated(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The stages, in order, that one run must do again on the photos of another: those that rest on other settings or
    weights, and those behind them. `old`, `new`: manifests, of which config, weights and instances count."""

    def basis(manifest: Mapping[str, Any], stage: str) -> Any:
        parts, kinds = RESTS_ON[stage]
        digests = {kind: manifest["weights"].get(kind) for kind in kinds}
        settings = {part: dict(manifest["config"].get(part) or {}) for part in parts}
        for values in settings.values():
            values.pop("device", None)
            for name, kind in (("weights", kinds[0]), ("whitening", "whitening"), ("marks", "marks")):
                if digests.get(kind):  # a file is what is in it, wherever it lies
                    values.pop(name, None)
        if stage != "detector":
            return settings, digests
        # Instances of the user take the detector's place, whatever its settings are.
        given = manifest.get("instances")
        return (settings["crops"], given) if given else (settings, digests)

    changed = {stage for stage in RESTS_ON if basis(old, stage) != basis(new, stage)}
    return [stage for stage in RESTS_ON if any(stage in BEHIND[c] for c in changed)]


class StagesConfig(Config):
    """Settings of the stages."""

    crops: CropConfig = CropConfig()
    segmentation: SegmentationConfig = SegmentationConfig()
    sides: SideConfig = SideConfig()
    descriptor: DescriptorConfig = DescriptorConfig()
    keypoints: KeypointConfig = KeypointConfig()
    pattern: PatternConfig = PatternConfig()
    embedding: EmbeddingConfig = EmbeddingConfig()
    encounters: EncounterConfig = EncounterConfig()

    def detector(self, archive: str | None = None, given: str | None = None) -> Stage:
        """The stage that makes instances of photos; it alone sees them whole. See `PhotoDetector`."""
        more = {"config": self.segmentation, "crops": self.crops, "given": given}
        return PhotoDetector, {"archive": archive, **more}

    def describers(self) -> list[Stage]:
        """The stages that work on the crops of instances, in order."""
        return [
            (SideFinder, {"config": self.sides}),
            (Describer, {"config": self.descriptor}),
            (KeypointFinder, {"config": self.keypoints}),
            (GreyPatches if self.pattern.grey_side else PatternExtractor, {"config": self.pattern}),
            (PatchEmbedder, {"config": self.embedding}),
        ]

    def stages(self, archive: str, given: str | None = None) -> list[Stage]:
        """All of them, in order."""
        return [self.detector(archive, given), *self.describers()]

    def digests(self, given: bool = False) -> dict[str, str]:
        """SHA-256 of the weights by kind; without the detector's where instances are `given`. Raises UserError where
        some are missing."""
        names = {"embedding": self.embedding.weights}
        if self.pattern.grey_side is None:
            names["pattern"] = self.pattern.weights
        if not given:
            names["segmentation"] = self.segmentation.weights
        if self.sides.weights:
            names["sides"] = self.sides.weights
        if self.descriptor.weights != "imagenet":
            names["descriptor"] = self.descriptor.weights
        if self.descriptor.whitening not in (None, "Lw"):
            names["whitening"] = str(self.descriptor.whitening)
        if self.keypoints.marks:
            names["marks"] = self.keypoints.marks
        if self.encounters.codebook:
            names["codebook"] = self.encounters.codebook
        return {kind: weights.digest(weights.find(name)) for kind, name in names.items()}
