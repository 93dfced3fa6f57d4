"""Key points of every animal, described: what the verification compares (`pusa.gallery.geometry`)."""

from __future__ import annotations

import pyarrow as pa

from pusa import records
from pusa.config import set_threads
from pusa.gallery import geometry
from pusa.keypoints import KeypointConfig
from pusa.marks import describe


class KeypointFinder:
    """Fills `keypoints`, `marks` and `picture` of every instance with a crop."""

    def __init__(self, config: KeypointConfig, threads: int | None = None) -> None:
        set_threads(threads)
        self.config = config
        if config.marks is not None:
            describe.describer(config.marks)  # weights that are missing are found out here, not in mid-run

    def __call__(self, photos: pa.Table) -> pa.Table:
        nested = records.instances(photos)
        for instance in (i for row in nested for i in row if i["crop"] is not None):
            found = geometry.features(instance, self.config)
            instance["keypoints"] = found.marks.at.ravel()
            instance["marks"], instance["picture"] = found.marks.descriptors.tobytes(), found.picture
        return records.with_instances(photos, nested)
