"""A run and a gallery of it, without photos and without Ray: two places, three animals."""

import datetime as dt

import numpy as np
import pyarrow as pa
import torch

from pusa import photos, records
from pusa.fisher.codebook import Codebook, Mixture
from pusa.gallery import sources
from pusa.gallery.store import Gallery
from pusa.records import Run
from pusa.segmentation import masks

NOON = dt.datetime(2021, 6, 3, 12)
MANIFEST = {
    "state": "finished",
    "archive": "/archive",
    "begun": "2021-10-01T08:00:00Z",
    "version": "0.1.0",
    "seconds": 1.5,
    "weights": {},
    "config": {"encounters": {"codebook": "starter/codebook"}},
    "instances": None,
}
DEPLOYMENTS = [
    {"deployment_id": "N", "place": "North", "latitude": 61.0, "longitude": 31.0, "time_zone": "Europe/Helsinki",
     "clock_shift": 0.0, "start": dt.datetime(2021, 6, 1), "end": dt.datetime(2021, 6, 30, 23, 59, 59)},
    {"deployment_id": "S", "place": "South", "latitude": 60.0, "longitude": 31.0, "time_zone": None,
     "clock_shift": 0.0},
]  # fmt: skip
# sequence, deployment, day of June, and by encounter the photos that show it and its side
SEQUENCES = [
    ("north/1", "N", 3, {"Aino": ([0, 1], "left"), "Bo": ([1], "right")}),
    ("north/2", "N", 9, {"Aino": ([0], "right"), None: ([0], "unknown")}),
    ("south/1", "S", 20, {"Bo": ([0], "right")}),
]
NAMES = {f"{s}#{n}": name for s, _, _, animals in SEQUENCES for n, name in enumerate(animals)}


def run(folder, archive="/archive", clock_shift=0.0):
    """A finished run; its last photo, at South on June 25, shows nobody."""
    made, rows, encounters = Run(str(folder)), [], []
    crop = photos.encode_jpeg(np.full((20, 40, 3), 90, np.uint8))
    for sequence, deployment, day, animals in SEQUENCES:
        members = {n: [] for n in range(len(animals))}
        for p in range(2):
            photo_id, instances = f"{sequence.replace('/', '')}-{p}", []
            for n, (shown, side) in enumerate(animals.values()):
                if p in shown:
                    mask = np.zeros((40, 60), bool)
                    mask[10:30, 10 + n : 50] = True
                    box = [10 + n, 10, 50, 30]
                    fields = {"side": side, "box": box, "crop_box": box, "score": 0.5, "mask": masks.encode(mask)}
                    instance = records.new_instance(f"{photo_id}#{n}", **fields, crop=crop, patch_boxes=[])
                    instances.append(instance)
                    members[n].append(f"{photo_id}#{n}")
            rows.append(_photo(photo_id, f"{sequence}/{p}.JPG", sequence, deployment, day, instances))
        encounters += [{"encounter_id": f"{sequence}#{n}", "sequence_id": sequence, "instance_ids": ids, "n_patches": 0}
                       for n, ids in members.items()]  # fmt: skip
    rows.append(_photo("empty", "south/2/0.JPG", "south/2", "S", 25, []))
    made.write("photos", pa.Table.from_pylist(rows, records.PHOTOS), "a")
    made.write("encounters", pa.Table.from_pylist(encounters, records.ENCOUNTERS), "a")
    deployments = [DEPLOYMENTS[0] | {"clock_shift": clock_shift}, DEPLOYMENTS[1]]
    made.write("deployments", pa.Table.from_pylist(deployments, records.DEPLOYMENTS), "a")
    made.write_manifest(MANIFEST | {"archive": archive})
    return made


def _photo(photo_id, path, sequence, deployment, day, instances):
    return {"photo_id": photo_id, "path": path, "sequence_id": sequence, "deployment_id": deployment, "status": "ok",
            "taken_at": NOON.replace(day=day), "width": 60, "height": 40, "camera": "ACME", "shard": 0,
            "instances": instances}  # fmt: skip


def gallery(folder, *runs, kept=True, names=NAMES):
    """A gallery of the runs' encounters with their names; `kept`: as a version enrols that keeps what exports need."""
    mixture = Mixture(torch.ones(1), torch.zeros(1, 2), torch.ones(1, 2))
    made = Gallery.create(str(folder), Codebook(torch.zeros(2), torch.eye(2), mixture, digest="c"))
    places = {"N": "North", "S": "South"}
    for each in runs:
        rows = [{"run": each.key, "encounter_id": f"{s}#{n}", "individual": names[f"{s}#{n}"], "sequence_id": s,
                 "place": places[d], "taken_from": NOON.replace(day=day), "taken_to": NOON.replace(day=day),
                 "side": side, "n_patches": 0}
                for s, d, day, animals in SEQUENCES for n, (_, side) in enumerate(animals.values())]  # fmt: skip
        table = pa.Table.from_pylist(rows)
        times = {f: table[f].cast(pa.timestamp("ms")) for f in ("taken_from", "taken_to")}
        for name, column in times.items():
            table = table.set_column(table.column_names.index(name), name, column)
        if kept:
            sources.keep(made, each, [row["encounter_id"] for row in rows])
        made.enroll(table)
    return made
