"""Datasets to be exported: three animals on four occasions, by hand; and any datasets at all, for round trips."""

import datetime as dt

import numpy as np
from hypothesis import strategies as st

from pusa.deployments import Deployment
from pusa.exchange.dataset import Dataset, Encounter, Instance, Photo, effort
from pusa.segmentation import masks


def day(text, hour=12):
    return dt.datetime.fromisoformat(text) + dt.timedelta(hours=hour)


def deployment(name, place, start, end, latitude=0.0, longitude=33.0, **fields):
    return effort(Deployment(name, "", place, latitude, longitude, "Europe/Helsinki", start=day(start, 0),
                             end=day(end, 23.999), **fields), ())  # fmt: skip


# At 33 degrees east, the middle of its UTM zone, x is 500,000 m; on the equator y is 0 m. 0.001 degrees north are
# 110.574 m of meridian, times the scale of 0.9996.
DEPLOYMENTS = {
    "B1": deployment("B1", "Bay", "2021-01-01", "2021-01-31"),
    "B2": deployment("B2", "Bay", "2021-03-01", "2021-04-30"),  # dead in February
    "C": deployment("C", "Cape", "2021-01-01", "2021-04-30", latitude=0.001),
}
EFFORT = """\
place,2021-01,2021-02,2021-03,2021-04
Bay,31,0,31,30
Cape,31,28,31,30
"""


def encounter(name, individual, when, deployment_id, *sides):
    place = DEPLOYMENTS[deployment_id].deployment.place if deployment_id else None
    time = day(when) if when else None
    return Encounter(name, name.partition("#")[0], frozenset(sides or ("unknown",)), individual, time, time, place,
                     deployment_id)  # fmt: skip


# Histories 0110, 1001 and 0001; the third was met twice in April at one place.
ENCOUNTERS = [
    encounter("a#0", "S1", "2021-02-10", "C"),
    encounter("b#0", "S1", "2021-03-10", "B2"),
    encounter("c#0", "S2", "2021-01-10", "B1"),
    encounter("d#0", "S2", "2021-04-10", "C"),
    encounter("e#0", "S 3", "2021-04-11", "B2"),
    encounter("f#0", "S 3", "2021-04-12", "B2"),
    encounter("g#0", None, "2021-04-12", "B2"),  # nobody has decided
]


def dataset(encounters=ENCOUNTERS, instances=(), deployments=DEPLOYMENTS, **fields):
    return Dataset(list(instances), list(encounters), dict(deployments), **fields)


def instance(number=0, photo=None, individual="S1", box=(1.0, 2.0, 3.0, 4.0), **fields):
    photo = photo or Photo("p1", "a/IMG_1.JPG", 8, 6, "a", day("2021-02-10"), "C")
    mask = np.zeros((photo.height, photo.width), bool)
    mask[2:4, 1:3] = True
    return Instance(
        f"{photo.photo_id}#{number}", photo, "a#0", box, individual, **{"mask": masks.encode(mask)} | fields
    )


@st.composite
def datasets(draw):
    """Photos of up to 12 x 9 pixels with up to three animals each, no individual twice in a photo; some without side,
    score, name, or (photos) without a fraction of a second."""
    instances, encounters = [], []
    for p in range(draw(st.integers(1, 3))):
        width, height = draw(st.integers(3, 12)), draw(st.integers(3, 9))
        time = day("2021-03-01") + dt.timedelta(seconds=draw(st.integers(0, 10**6)))
        path = f"{draw(st.sampled_from(['a', 'ä b', 'x/y']))}/IMG {p}.JPG"
        where = draw(st.sampled_from(["B2", "C"]))
        photo = Photo(f"p{p}", path, width, height, f"s{p}", time, where)
        names = draw(st.lists(st.sampled_from(["Aino", "7", 'Ääpo "the, 1st"', "S;2", None]), min_size=1, max_size=3))
        for n, name in enumerate(names):
            name = None if name in names[:n] else name
            bits = draw(st.lists(st.booleans(), min_size=width * height, max_size=width * height).filter(any))
            mask = np.array(bits).reshape(height, width)
            ys, xs = np.nonzero(mask)
            box = (float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1))
            score = draw(st.none() | st.floats(0, 1, width=32))
            side = draw(st.sampled_from(["left", "right", "unknown"]))
            instances.append(Instance(f"p{p}#{n}", photo, f"s{p}#{n}", box, name, side, score, masks.encode(mask)))
            encounters.append(
                Encounter(f"s{p}#{n}", f"s{p}", frozenset({side}), name, time, time, None, photo.deployment_id)
            )
    instances.sort(key=lambda i: (i.photo.path, i.instance_id))
    return dataset(encounters, instances)


def shown(data):
    """What a round trip must keep of each instance, by photo."""
    result = {photo.path: [] for photo in data.photos}
    for i in data.instances:
        result[i.photo.path].append((i.individual, i.side, i.score, i.mask["counts"]))
    return {path: sorted(found, key=str) for path, found in result.items()}


def given_shown(instances):
    return {
        path: sorted(((g.identity, g.side, g.score, g.mask["counts"]) for g in found), key=str)
        for path, found in instances.items()
    }
