"""The tables of a run: Arrow schemas, ids, and reading and writing them as Parquet.

A run is a folder (local, s3:// or gs://) of Parquet files, RUN/<table>/*.parquet, and RUN/manifest.json. `photos` has
one row a photo from the index to the end, with its instances nested: a row is the unit of work, so a resumed run
neither loses nor doubles anything. Boxes, masks and points are in pixels of the original, upright photo; x to the
right, y down.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs as pafs

from pusa import storage
from pusa.errors import UserError

SIDES = ("left", "right", "front", "back", "up", "down", "unknown")
FLANKS = SIDES[:2]

INSTANCE = pa.struct(
    {
        "instance_id": pa.string(),  # <photo_id>#<number>
        "side": pa.string(),  # one of SIDES, from the input or as the network tells it
        "side_probability": pa.float32(),  # of a side that the network told, 0 to 1; null where the input says it
        "box": pa.list_(pa.float32()),  # x0, y0, x1, y1; x1 and y1 are exclusive edges
        "score": pa.float32(),  # of the detector, 0 to 1; null where boxes came from the user
        "mask": pa.struct({"size": pa.list_(pa.int32()), "counts": pa.string()}),  # COCO RLE of the whole photo, [h, w]
        "crop_box": pa.list_(pa.int32()),  # x0, y0, x1, y1: the box rounded outwards, inside the photo
        "crop": pa.binary(),  # JPEG of crop_box, longer side at most 1024 px, quality 92
        "descriptor": pa.list_(pa.float16()),  # GeM vector, L2-normalised
        "keypoints": pa.list_(pa.float32()),  # n x (x, y), flat
        "marks": pa.binary(),  # n x 128 numbers that describe them: int8 of a network, uint8 of SIFT
        "picture": pa.binary(),  # JPEG: the crop as key points were sought in it, longer side 320 px
        "pattern": pa.binary(),  # 1-bit PNG on the pixels of crop_box, white = ring; null if none
        "pattern_fraction": pa.float32(),  # white pixels / pixels of the mask, 0 to 1
        "usable": pa.bool_(),  # at least one patch
        "unusable_reason": pa.string(),
        "patch_boxes": pa.list_(pa.list_(pa.float32())),  # n x (x0, y0, x1, y1)
        "embeddings": pa.list_(pa.float16()),  # n x 512, flat in C order, rows L2-normalised
    }
)

PHOTOS = pa.schema(
    {
        "photo_id": pa.string(),
        "path": pa.string(),  # relative to the archive, forward slashes
        "digest": pa.string(),  # of the content; filled where the photo is decoded
        "duplicate_of": pa.string(),  # photo_id of the first photo of the same content
        "shard": pa.int32(),  # whole sequences share a shard
        "sequence_id": pa.string(),
        "deployment_id": pa.string(),
        "taken_at": pa.timestamp("ms"),  # the camera's local time, corrected by the deployment's clock shift
        "camera": pa.string(),
        "latitude": pa.float64(),  # WGS84 degrees
        "longitude": pa.float64(),
        "width": pa.int32(),  # of the upright photo
        "height": pa.int32(),
        "status": pa.string(),  # "new" (only indexed), "ok" or "error"
        "error": pa.string(),
        "instances": pa.list_(INSTANCE),
    }
)

DEPLOYMENTS = pa.schema(
    {
        "deployment_id": pa.string(),
        "place": pa.string(),
        "latitude": pa.float64(),
        "longitude": pa.float64(),
        "time_zone": pa.string(),  # IANA name, such as Europe/Helsinki
        "clock_shift": pa.float64(),  # seconds to add to the camera's time
        "start": pa.timestamp("ms"),  # effort: local times
        "end": pa.timestamp("ms"),
    }
)

ENCOUNTERS = pa.schema(
    {
        "encounter_id": pa.string(),  # <sequence_id>#<number>
        "sequence_id": pa.string(),
        "instance_ids": pa.list_(pa.string()),
        "n_patches": pa.int32(),
        "fisher": pa.list_(pa.float16()),  # 2 x K x D, L2-normalised; null if there is no patch
        "code": pa.binary(),  # compact, for the shortlist of large galleries
    }
)

CANDIDATES = pa.schema(
    {
        "encounter_id": pa.string(),
        "rank": pa.int32(),  # 1 is the nearest
        "individual": pa.string(),
        "distance": pa.float32(),  # cosine distance, 0 to 2
        "probability": pa.float32(),  # that the encounter is this individual; null where nothing is calibrated
        "new_probability": pa.float32(),
        "inliers": pa.int32(),  # of the geometric verification; null where it did not run
    }
)

TABLES = {
    "index": PHOTOS,
    "photos": PHOTOS,
    "deployments": DEPLOYMENTS,
    "encounters": ENCOUNTERS,
    "candidates": CANDIDATES,
}
READERS = 16
_VECTORS = {"box", "crop_box", "descriptor", "keypoints", "embeddings"}  # read as numpy arrays, not as lists


def match_name(encounter_id: str, individual: str) -> str:
    """Name of the picture, in RUN/matches, that shows the matching points of an encounter and an individual."""
    return hashlib.sha256(f"{encounter_id}\0{individual}".encode()).hexdigest()[:24] + ".jpg"


def photo_id(path: str, size: int, version: str | int) -> str:
    """Id of a photo: 16 hex digits of a hash of relative path, size in bytes, and mtime (ns) or ETag."""
    return hashlib.blake2b(f"{path}\0{size}\0{version}".encode(), digest_size=8).hexdigest()


def new_instance(instance_id: str, **fields: Any) -> dict[str, Any]:
    """An instance with every field of INSTANCE: null, except `side` ("unknown") and what is given."""
    unknown = set(fields) - {f.name for f in INSTANCE}
    if unknown:
        raise ValueError(f"an instance has no fields {sorted(unknown)}")
    return {f.name: None for f in INSTANCE} | {"instance_id": instance_id, "side": "unknown"} | fields


def _column(values: pa.Array, name: str) -> list[Any]:
    """Python values of one instance column; vectors become numpy views without a detour over Python numbers."""
    if name not in _VECTORS:
        return values.to_pylist()
    flat, starts = values.values.to_numpy(zero_copy_only=False), values.offsets.to_numpy()
    valid = values.is_valid().to_numpy(zero_copy_only=False)
    return [flat[a:b] if ok else None for a, b, ok in zip(starts[:-1], starts[1:], valid, strict=True)]


def instances(photos: pa.Table) -> list[list[dict[str, Any]]]:
    """The instances of each row of a photos table, as dicts; vectors are read-only numpy arrays."""
    nested = photos.column("instances").combine_chunks()
    if isinstance(nested, pa.ChunkedArray):  # a table without rows
        nested = pa.array([], nested.type)
    # to_pylist of a slice respects offsets; .values does not, so flatten and count instead.
    counts = [n or 0 for n in pc.list_value_length(nested).to_pylist()]
    flat = pc.list_flatten(nested)
    columns = {f.name: _column(flat.field(i), f.name) for i, f in enumerate(flat.type)}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    ends = np.cumsum([0, *counts])
    return [rows[a:b] for a, b in pairwise(ends)]


def with_instances(photos: pa.Table, nested: Sequence[list[dict[str, Any]]]) -> pa.Table:
    """The table with its `instances` replaced: one list of instance dicts a row."""
    flat = [i for row in nested for i in row]
    arrays = [pa.array([i[f.name] for i in flat], f.type) for f in INSTANCE]
    structs = pa.StructArray.from_arrays(arrays, fields=list(INSTANCE))
    offsets = pa.array(np.cumsum([0, *map(len, nested)]), pa.int32())
    column = pa.ListArray.from_arrays(offsets, structs)
    return photos.set_column(
        photos.schema.get_field_index("instances"),
        PHOTOS.field("instances"),
        column.cast(PHOTOS.field("instances").type),
    )


def with_columns(photos: pa.Table, **columns: Sequence[Any]) -> pa.Table:
    """The table with some top-level columns replaced, types from PHOTOS."""
    for name, values in columns.items():
        field = PHOTOS.field(name)
        photos = photos.set_column(photos.schema.get_field_index(name), field, pa.array(values, field.type))
    return photos


def flatten_instances(photos: pa.Table) -> pa.Table:
    """One row an instance: its fields, preceded by the photo's own columns."""
    nested = photos.column("instances").combine_chunks()
    if isinstance(nested, pa.ChunkedArray):
        nested = pa.array([], nested.type)
    parents = photos.drop_columns(["instances"]).take(pc.list_parent_indices(nested))
    flat = pc.list_flatten(nested)
    for i, field in enumerate(flat.type):
        parents = parents.append_column(field, flat.field(i))
    return parents


class Run:
    """A run's folder: RUN/<table>/*.parquet and RUN/manifest.json, local or on object storage."""

    def __init__(self, uri: str) -> None:
        self.uri = str(uri)
        self.fs, self.path = storage.locate(uri)

    @property
    def key(self) -> str:
        """What names the run in a gallery: its URI, or its absolute path."""
        return self.uri if "://" in self.uri else self.path

    def file(self, *parts: str) -> str:
        return "/".join((self.path, *parts))

    def exists(self) -> bool:
        return storage.exists(self.fs, self.file("manifest.json"))

    def files(self, table: str) -> list[str]:
        """The Parquet files of a table, sorted; none if the table is not there."""
        selector = pafs.FileSelector(self.file(table), allow_not_found=True)
        with storage.answering():
            found = [i.path for i in self.fs.get_file_info(selector) if i.type == pafs.FileType.File]
        return sorted(p for p in found if p.endswith(".parquet") and ".pending" not in p)

    def pictures(self, folder: str) -> set[str]:
        """Names of the JPEGs in RUN/<folder>."""
        selector = pafs.FileSelector(self.file(folder), allow_not_found=True)
        return {i.base_name for i in self.fs.get_file_info(selector) if i.base_name.endswith(".jpg")}

    def read_file(self, file: str, columns: Iterable[str] | None = None) -> pa.Table:
        """One file named by `files`, or some columns of it."""
        with storage.answering(), storage.open_file(self.fs, file) as f:
            return pq.ParquetFile(f).read(columns=None if columns is None else list(columns))

    def parts(self, table: str, columns: Iterable[str] | None = None) -> Iterator[tuple[str, pa.Table]]:
        """Each file of a table with its content, or some columns of it. Files are read ahead, READERS at once, since a
        bucket takes long for each and does not mind how many."""
        chosen = None if columns is None else list(columns)
        files = self.files(table)
        with ThreadPoolExecutor(READERS) as pool:
            ahead = deque(pool.submit(self.read_file, file, chosen) for file in files[:READERS])
            for number, file in enumerate(files, READERS):
                rows = ahead.popleft().result()
                if number < len(files):
                    ahead.append(pool.submit(self.read_file, files[number], chosen))
                yield file, rows

    def rewrite(self, table: str, file: str, rows: pa.Table) -> None:
        """Replaces a file named by `files`."""
        self.write(table, rows, file.rsplit("/", 1)[1].removesuffix(".parquet"))

    def batches(self, table: str, columns: Iterable[str] | None = None, rows: int = 64) -> Iterator[pa.Table]:
        """The table in pieces of at most `rows` rows, file by file. `columns` may name children of the nested
        instances,
        such as "instances.list.element.descriptor": only these are read from disk."""
        chosen = None if columns is None else list(columns)
        for file in self.files(table):
            with storage.answering(), storage.open_file(self.fs, file) as f:
                for batch in pq.ParquetFile(f).iter_batches(rows, columns=chosen):
                    yield pa.Table.from_batches([batch])

    def read(self, table: str, columns: Iterable[str] | None = None) -> pa.Table:
        """The whole table, or some columns of it; an empty table of the schema where it was never written."""
        chosen = None if columns is None else list(columns)
        parts = [rows for _, rows in self.parts(table, chosen)]
        if parts:
            return pa.concat_tables(parts)
        schema = TABLES[table]
        if chosen is not None:
            schema = pa.schema([schema.field(c) for c in dict.fromkeys(c.split(".")[0] for c in chosen)])
        return schema.empty_table()

    def embeddings(self, files: Sequence[str]) -> np.ndarray:
        """The embeddings of all patches in some `files` of photos, (n, 512) float16, in the order of photo_id."""
        parts: dict[str, np.ndarray] = {}
        for file in files:
            batch = self.read_file(file, ["photo_id", "instances.list.element.embeddings"])
            for photo, found in zip(batch["photo_id"].to_pylist(), instances(batch), strict=True):
                parts[photo] = np.concatenate(
                    [np.zeros(0, np.float16)] + [i["embeddings"] for i in found if i["embeddings"] is not None]
                )
        return np.concatenate([np.zeros(0, np.float16)] + [parts[photo] for photo in sorted(parts)]).reshape(-1, 512)

    def write(self, table: str, rows: pa.Table, name: str) -> None:
        """Writes RUN/<table>/<name>.parquet whole or not at all; an older file of that name is replaced."""
        buffer = io.BytesIO()
        # Dictionaries of numbers and pictures that hardly repeat: a third of the speed, and larger.
        pq.write_table(rows.cast(TABLES[table]), buffer, compression="zstd", use_dictionary=False)
        storage.write_bytes(self.fs, self.file(table, f"{name}.parquet"), buffer.getvalue())

    def clear(self, table: str) -> None:
        """Removes a table's files."""
        if storage.exists(self.fs, self.file(table)):
            self.fs.delete_dir(self.file(table))

    def manifest(self) -> dict[str, Any]:
        """The content of manifest.json. Raises UserError where there is none, or none that can be read."""
        if not self.exists():
            raise UserError(
                f"{self.uri} is not a run: it has no manifest.json. `pusa process ARCHIVE --out {self.uri}` makes one."
            )
        try:
            return json.loads(storage.read_bytes(self.fs, self.file("manifest.json")))
        except ValueError as e:
            raise UserError(
                f"{self.file('manifest.json')} is not valid JSON ({e}). Process the archive into a new folder."
            ) from e

    def finished_manifest(self) -> dict[str, Any]:
        """The manifest of a run that has finished. Raises UserError with the command that resumes one that has not."""
        manifest = self.manifest()
        if manifest.get("state") != "finished":
            raise UserError(
                f"The run {self.uri} did not finish. Resume it with: {manifest.get('command', 'pusa process ...')}"
            )
        return manifest

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        content = json.dumps(manifest, indent=2, sort_keys=True, default=str).encode()
        storage.write_bytes(self.fs, self.file("manifest.json"), content)
