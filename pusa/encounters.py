"""From instances to encounters: group the instances of each sequence, then encode each group as one Fisher vector.

Paper: sections "Individual grouping" and "Fisher vector": all patches of all images of the group together.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pusa import records
from pusa.config import Config, set_threads
from pusa.fisher.codebook import Codebook
from pusa.fisher.encode import fisher_vectors
from pusa.grouping.assign import GroupingConfig, group


class EncounterConfig(Config):
    """Settings of grouping and encoding."""

    grouping: GroupingConfig = GroupingConfig()
    codebook: str | None = "starter/codebook"  # null groups only: what `pusa codebook fit` needs of a new embedding


class EncounterBuilder:
    """The encounters of whole sequences: a table of `records.PHOTOS` rows in, one of `records.ENCOUNTERS` out.

    Photos with an error and copies of other photos (`duplicate_of`) take no part: a copy in another sequence would be a
    perfect, and false, resighting. Needs the columns photo_id, path, sequence_id, taken_at, status, duplicate_of and
    of the instances instance_id, box, descriptor and embeddings.
    """

    def __init__(self, config: EncounterConfig, threads: int | None = None) -> None:
        set_threads(threads)
        self.config = config
        self.codebook = Codebook.load(config.codebook) if config.codebook else None

    def __call__(self, photos: pa.Table) -> pa.Table:
        # Embeddings are nearly all of a table, so only keys are sorted, and patches put together a sequence at a time.
        usable = pc.and_(pc.equal(photos["status"], "ok"), pc.is_null(photos["duplicate_of"]))
        keys = photos.select(["sequence_id", "taken_at", "path"]).append_column("row", pa.array(np.arange(len(photos))))
        keys = keys.filter(usable).sort_by([(c, "ascending") for c in ("sequence_id", "taken_at", "path")])
        found = records.instances(photos)
        sequences: dict[str, list[list[dict[str, Any]]]] = {}
        for sequence_id, row in zip(keys["sequence_id"].to_pylist(), keys["row"].to_pylist(), strict=True):
            sequences.setdefault(sequence_id, []).append(found[row])
        rows = [row for sequence_id, nested in sequences.items() for row in self.encounters(sequence_id, nested)]
        columns = {f.name: pa.array([row.get(f.name) for row in rows], f.type) for f in records.ENCOUNTERS}
        return pa.table(columns, schema=records.ENCOUNTERS)

    def encounters(self, sequence_id: str, nested: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
        """The encounters of one sequence: its instances by photo, in chronological order, in; rows out."""
        groups = self.groups(nested)
        patches = [self.embeddings(members) for members in groups]
        vectors = fisher_vectors(self.codebook, patches) if self.codebook else [None] * len(patches)
        return [
            {
                "encounter_id": f"{sequence_id}#{number}",
                "sequence_id": sequence_id,
                "instance_ids": [i["instance_id"] for i in members],
                "n_patches": len(x),
                "fisher": vector.astype(np.float16) if vector is not None and len(x) else None,
            }
            for number, (members, x, vector) in enumerate(zip(groups, patches, vectors, strict=True))
        ]

    def groups(self, nested: list[list[dict[str, Any]]]) -> list[list[dict[str, Any]]]:
        """The groups of one sequence: its instances by photo, in chronological order, in; lists of instances out."""
        width = next((len(i["descriptor"]) for found in nested for i in found), 0)
        descriptors = [
            np.array([i["descriptor"] for i in found], np.float32).reshape(len(found), width) for found in nested
        ]
        boxes = None
        if self.config.grouping.position:
            boxes = [np.array([i["box"] for i in found], np.float64).reshape(len(found), 4) for found in nested]
        members: dict[int, list[dict[str, Any]]] = {}
        for found, labels in zip(nested, group(descriptors, self.config.grouping, boxes), strict=True):
            for instance, label in zip(found, labels, strict=True):
                members.setdefault(int(label), []).append(instance)
        return [members[label] for label in sorted(members)]

    @staticmethod
    def embeddings(members: list[dict[str, Any]]) -> np.ndarray:
        """All patch embeddings of an encounter, T x 512 float16, T >= 0."""
        flat = [i["embeddings"] for i in members if i["embeddings"] is not None]
        return np.concatenate([np.zeros(0, np.float16), *flat]).reshape(-1, 512)
