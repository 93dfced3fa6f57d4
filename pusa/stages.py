"""The stages between a photo and its patches' embeddings: their settings, weights and classes, in order.

What a run streams photos through and what an endpoint answers with is this, so the two cannot differ.
"""

from __future__ import annotations

from typing import Any

from pusa import weights
from pusa.config import Config
from pusa.embedding.embed import EmbeddingConfig, PatchEmbedder
from pusa.encounters import EncounterConfig
from pusa.grouping.descriptor import Describer, DescriptorConfig
from pusa.pattern.extract import PatternConfig, PatternExtractor
from pusa.pattern.grey import GreyPatches
from pusa.segmentation.detect import CropConfig, PhotoDetector
from pusa.segmentation.segmenter import SegmentationConfig

Stage = tuple[type, dict[str, Any]]  # a class, and the arguments that it is made with


class StagesConfig(Config):
    """Settings of the stages."""

    crops: CropConfig = CropConfig()
    segmentation: SegmentationConfig = SegmentationConfig()
    descriptor: DescriptorConfig = DescriptorConfig()
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
            (Describer, {"config": self.descriptor}),
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
        if self.descriptor.weights != "imagenet":
            names["descriptor"] = self.descriptor.weights
        if self.descriptor.whitening not in (None, "Lw"):
            names["whitening"] = str(self.descriptor.whitening)
        if self.encounters.codebook:
            names["codebook"] = self.encounters.codebook
        return {kind: weights.digest(weights.find(name)) for kind, name in names.items()}
