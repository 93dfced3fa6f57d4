"""Index: lists an archive, reads the headers of its photos, and puts them into sequences and shards.

Threads do, without Ray: headers are 64 KiB each, the wait is for the disk or the network, and one table of the whole
archive (about 1 KB a photo) is needed in one place to cut sequences.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import pyarrow as pa

from pusa import exchange, storage
from pusa.config import Config
from pusa.deployments import Deployment, deployment_of, deployments_table, read_deployments
from pusa.errors import PhotoError, UserError
from pusa.exchange import Listed
from pusa.listing import Listing, PhotoFile, list_photos, normal_path
from pusa.photos import Header, read_header
from pusa.records import PHOTOS, Run, photo_id
from pusa.sequences import SequenceConfig, Taken, in_order, sequence_ids

FIRST_YEAR = 1990  # no camera wrote EXIF before; clocks that were never set stand at 1970 or 1980


class IndexConfig(Config):
    """What `pusa index` is told."""

    sequences: SequenceConfig = SequenceConfig()
    deployments: str | None = None  # CSV of pusa.deployments
    photos_per_shard: int = 256  # about; a sequence is never cut. Grouping and encoding work on a shard at a time
    threads: int = 16  # that wait for headers; more than cores, for network storage
    long_sequence: int = 1000  # photos; longer ones are named in a notice, since grouping compares all their animals


@dataclass(frozen=True)
class Summary:
    """What was found. Counts are of photos, by text or by date of the corrected time."""

    photos: int
    readable: int
    without_time: int
    shards: int
    errors: dict[str, int]  # by reason
    error_examples: dict[str, str]  # the first path of each reason
    cameras: dict[str, int]
    by_date: dict[dt.date, int]
    sequence_sizes: dict[str, int]
    deployments: dict[str, int]
    other_files: dict[str, int]  # by extension
    notices: list[str]
    new: int  # photos that were not known
    changed_sequences: int  # with photos that are new, or came from another sequence


@dataclass(frozen=True)
class _Photo:
    photo_id: str
    path: str
    header: Header | None
    error: str | None  # why there is no header
    deployment: Deployment | None
    listed: Listed  # by a file of the user, which says more than the photo

    @cached_property
    def taken(self) -> Taken:
        time = self.header.taken_at if self.header else None
        return Taken(
            path=self.path,
            taken_at=self.listed.taken_at or (self.deployment.local(time) if self.deployment and time else time),
            camera=self.header.camera if self.header else None,
            deployment_id=self.deployment.deployment_id if self.deployment else None,
        )


def index(
    archive: str,
    run_uri: str | None = None,
    config: IndexConfig = IndexConfig(),
    progress: Callable[[int, int], None] = lambda done, total: None,
    given: str | None = None,
    known: pa.Table | None = None,
) -> Summary:
    """Indexes `archive`; with `run_uri`, writes RUN/index/<shard>.parquet (schema PHOTOS) and RUN/deployments.

    `known`: rows of an earlier index of the archive. Only headers of photos that are not among them are read; their
    sequences keep their shards, and new ones get new shards. Photos that are gone from the archive stay; those whose
    file was replaced do not. Sequences are cut anew over all.

    What the user's files (`given` are instances) say of a photo's time counts before what the photo says.

    A photo whose header cannot be read is a row with status "error" and the reason. `progress` is called with the
    photos done and their total. The same archive and settings give the same rows. Raises UserError where there is no
    such folder or no photo in it, and for a CSV that does not fit.
    """
    deployments = read_deployments(config.deployments) if config.deployments else []
    listing = list_photos(archive)
    files = _outside_of_run(listing.files, archive, run_uri)
    if not files:
        others = f" ({sum(listing.other.values())} other files)" if listing.other else ""
        raise UserError(
            f"There are no photos in {archive}{others}. Expected jpg, png, tif, webp, heic or RAW files at any depth."
        )
    listed = {
        name: photo
        for file in (config.sequences.csv, config.deployments, given)
        if file
        for name, photo in exchange.read_photos(file).items()
    }
    earlier = {row["photo_id"]: row for row in known.to_pylist()} if known is not None else {}
    photos = _read(archive, files, deployments, listed, earlier, config.threads, progress)
    there = {photo.path for photo in photos}
    by_id = {d.deployment_id: d for d in deployments}
    gone = [_known(row, by_id) for row in earlier.values() if row["path"] not in there]
    photos += gone
    lost = []
    if gone:
        lost = [f"{len(gone)} photos are no longer in the archive ({gone[0].path}): what was found in them stays."]
    if deployments and not any(p.deployment for p in photos):
        theirs = next(iter(listed), None) if deployments[0].folder is None else deployments[0].folder or "."
        example = f"the file has {theirs}, the archive {files[0].path}"
        raise UserError(f"{config.deployments}: no photo lies in a folder of a deployment ({example}).")
    ids, notices = sequence_ids([p.taken for p in photos], config.sequences)
    sizes = Counter(ids)
    shards = assign_shards(sizes, config.photos_per_shard, {r["sequence_id"]: r["shard"] for r in earlier.values()})
    if run_uri is not None:
        _write(Run(run_uri), photos, ids, shards, deployments)
    moved = [s for p, s in zip(photos, ids, strict=True) if earlier.get(p.photo_id, {}).get("sequence_id") != s]

    readable = [p.taken for p in photos if p.header]
    errors = [(p.path, p.error) for p in photos if p.error]
    return Summary(
        photos=len(photos),
        readable=len(readable),
        without_time=sum(t.taken_at is None for t in readable),
        shards=len(set(shards.values())),
        errors=dict(Counter(reason for _, reason in errors).most_common()),
        error_examples={reason: path for path, reason in reversed(errors)},
        cameras=dict(Counter(t.camera or "unknown" for t in readable).most_common()),
        by_date=dict(sorted(Counter(t.taken_at.date() for t in readable if t.taken_at).items())),
        sequence_sizes=dict(sorted(sizes.items())),
        deployments=dict(sorted(Counter(t.deployment_id for t in readable if t.deployment_id).items())),
        other_files=dict(listing.other.most_common()),
        notices=[*notices, *_notices(listing, photos, deployments, sizes, config), *lost],
        new=sum(p.photo_id not in earlier for p in photos),
        changed_sequences=len(set(moved)),
    )


def assign_shards(sizes: dict[str, int], photos_per_shard: int, kept: Mapping[str, int] = {}) -> dict[str, int]:
    """The shard of each sequence: sequences in the order of their names, a new shard where the next would not fit.
    Those of `kept` stay in their shard, and the others begin behind the last one."""
    shards = {sequence: kept[sequence] for sequence in sizes if sequence in kept}
    shard, filled = max(kept.values(), default=-1) + 1, 0
    for sequence, size in sorted(sizes.items()):
        if sequence in kept:
            continue
        if filled and filled + size > photos_per_shard:
            shard, filled = shard + 1, 0
        shards[sequence] = shard
        filled += size
    return shards


def _outside_of_run(files: list[PhotoFile], archive: str, run_uri: str | None) -> list[PhotoFile]:
    """The files that do not lie in the run's folder, should that be inside the archive."""
    if run_uri is None:
        return files
    root, run = storage.locate(archive)[1].rstrip("/"), storage.locate(run_uri)[1].rstrip("/")
    if root == run:
        raise UserError(f"The run would be written among the photos of {archive}. Choose another folder for it.")
    return [f for f in files if not f"{root}/{f.path}".startswith(f"{run}/")]


def _read(
    archive: str,
    files: Sequence[PhotoFile],
    deployments: Sequence[Deployment],
    listed: Mapping[str, Listed],
    earlier: Mapping[str, dict[str, Any]],
    threads: int,
    progress: Callable[[int, int], None],
) -> list[_Photo]:
    filesystem, root = storage.locate(archive)
    by_folder = {d.folder: d for d in deployments if d.folder is not None}
    by_id = {d.deployment_id: d for d in deployments}

    def read(file: PhotoFile) -> _Photo:
        name = photo_id(file.path, file.size, file.mtime_ns)
        if name in earlier:
            return _known(earlier[name], by_id)
        told = listed.get(normal_path(file.path), Listed())
        deployment = by_id.get(told.deployment_id or "") or deployment_of(file.path, by_folder)
        try:
            return _Photo(name, file.path, read_header(filesystem, f"{root}/{file.path}"), None, deployment, told)
        except PhotoError as e:
            return _Photo(name, file.path, None, str(e), deployment, told)

    photos = []
    with ThreadPoolExecutor(threads) as pool:
        for photo in pool.map(read, files):
            photos.append(photo)
            progress(len(photos), len(files))
    return photos


def _known(row: dict[str, Any], deployments: Mapping[str, Deployment]) -> _Photo:
    """A photo as an earlier index knew it: its time is corrected already."""
    header = None
    if row["status"] != "error":
        names = ("width", "height", "taken_at", "camera", "latitude", "longitude")
        header = Header(**{n: row[n] for n in names})
    deployment = deployments.get(row["deployment_id"])
    listed = Listed(taken_at=row["taken_at"], deployment_id=row["deployment_id"])
    return _Photo(row["photo_id"], row["path"], header, row["error"], deployment, listed)


def _write(
    run: Run, photos: Sequence[_Photo], ids: Sequence[str], shards: dict[str, int], deployments: Sequence[Deployment]
) -> None:
    """Writes the rows shard by shard; in a shard by sequence, time and path. Files that would stay the same are let be,
    and at no time is a photo in none."""
    order = sorted(range(len(photos)), key=lambda i: (shards[ids[i]], ids[i], in_order(photos[i].taken)))
    old, new = set(run.files("index")), set()
    for shard, members in groupby(order, key=lambda i: shards[ids[i]]):
        rows = pa.Table.from_pylist([_row(photos[i], ids[i], shard) for i in members], schema=PHOTOS)
        file = run.file("index", f"{shard:05d}.parquet")
        if file not in old or not run.read_file(file).equals(rows):
            run.write("index", rows, f"{shard:05d}")
        new.add(file)
    for file in old - new:
        run.fs.delete_file(file)
    if deployments:
        run.write("deployments", deployments_table(deployments), "deployments")
    else:
        run.clear("deployments")


def _row(photo: _Photo, sequence_id: str, shard: int) -> dict[str, object]:
    """A row of PHOTOS; fields that are not known yet are null."""
    taken = photo.taken
    row = {
        "photo_id": photo.photo_id,
        "path": photo.path,
        "shard": shard,
        "sequence_id": sequence_id,
        "deployment_id": taken.deployment_id,
        "taken_at": taken.taken_at,
        "camera": taken.camera,
    }
    if photo.header is None:
        return row | {"status": "error", "error": photo.error, "instances": []}
    return row | {n: getattr(photo.header, n) for n in ("latitude", "longitude", "width", "height")} | {"status": "new"}


def _notices(
    listing: Listing,
    photos: Sequence[_Photo],
    deployments: Sequence[Deployment],
    sizes: dict[str, int],
    config: IndexConfig,
) -> list[str]:
    """What is no error, but what a biologist would want to know before trusting the rest."""
    notices = []
    timeless = sum(p.taken.taken_at is None for p in photos if p.header)
    if timeless and config.sequences.by == "gap":
        notices.append(f"{timeless} photos without a time are in the sequence of their folder.")

    timed = [(p.path, p.taken.taken_at, p.deployment) for p in photos if p.taken.taken_at]
    tomorrow = dt.datetime.now() + dt.timedelta(days=1)  # the camera's time zone may be ahead of ours
    wrong = [f"{path}: {time:%Y-%m-%d}" for path, time, _ in timed if time.year < FIRST_YEAR or time > tomorrow]
    if wrong:
        remedy = "`clock_shift` in the deployments CSV corrects them."
        notices.append(f"{len(wrong)} photos are from before {FIRST_YEAR} or the future ({wrong[0]}). {remedy}")
    outside = [
        f"{path}: {time:%Y-%m-%d %H:%M}" for path, time, d in timed
        if d and ((d.start and time < d.start) or (d.end and time > d.end))
    ]  # fmt: skip
    if outside:
        notices.append(f"{len(outside)} photos are from outside the start and end of their deployment ({outside[0]}).")

    homeless = sum(p.deployment is None for p in photos)
    if deployments and homeless:
        notices.append(f"{homeless} photos lie in no folder of a deployment.")
    unused = sorted({d.deployment_id for d in deployments} - {p.taken.deployment_id for p in photos})
    if unused:
        notices.append(f"{len(unused)} deployments have no photos ({', '.join(unused[:3])}).")

    long = [f"{sequence} with {size} photos" for sequence, size in sizes.items() if size > config.long_sequence]
    if long:
        why = "grouping compares all animals of a sequence: shorter ones (--gap) are faster"
        notices.append(f"{len(long)} long sequences ({long[0]}); {why}.")
    notices += [f"The folder {folder} cannot be read; its photos are missing." for folder in listing.unreadable]
    return notices
