"""A gallery measured on itself: who may be compared with whom, and figures of galleries whose answers are known."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pyarrow as pa
import pytest
import torch

from pipelines.calibrate import Known, cases_of, evaluate
from pusa.errors import UserError
from pusa.fisher.codebook import Codebook
from pusa.fisher.mixture import Mixture
from pusa.gallery.calibration import fit
from pusa.gallery.geometry import Features, Points
from pusa.gallery.store import Gallery
from pusa.gallery.verify import VerifyConfig

LENGTH = 32


def made(path, rows: list[tuple[str, str, int, np.ndarray]], crops=None) -> Gallery:
    """A gallery of encounters (individual, sequence, year, vector)."""
    mixture = Mixture(torch.ones(1), torch.zeros(1, LENGTH // 2), torch.ones(1, LENGTH // 2))
    gallery = Gallery.create(
        str(path / "g"), Codebook(torch.zeros(2), torch.zeros(2, LENGTH // 2), mixture, digest="c")
    )
    table = {
        "run": ["r"] * len(rows),
        "encounter_id": [f"{s}#{i}" for i, (_, s, _, _) in enumerate(rows)],
        "individual": [name for name, *_ in rows],
        "sequence_id": [s for _, s, _, _ in rows],
        "taken_from": pa.array([datetime(year, 5, 1) for *_, year, _ in rows], pa.timestamp("ms")),
        "n_patches": pa.array([50] * len(rows), pa.int32()),
        "fisher": pa.array([(v / np.linalg.norm(v)).astype(np.float16) for *_, v in rows], pa.list_(pa.float16())),
    }
    gallery.enroll(pa.table(table), crops)
    return gallery


def at(angle: float) -> np.ndarray:
    """A vector in the plane of the first two axes."""
    v = np.zeros(LENGTH)
    v[:2] = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    return v


def test_who_is_compared_with_whom(tmp_path):
    """Anna in sequences 1 and 2, Bert in 1 and 2, Cora only in 3, Dora twice in 4: only Anna and Bert can be found."""
    rows = [("Anna", "1", 2019, at(0)), ("Bert", "1", 2019, at(50)), ("Anna", "2", 2020, at(5)),
            ("Bert", "2", 2020, at(45)), ("Cora", "3", 2020, at(90)), ("Dora", "4", 2020, at(120)),
            ("Dora", "4", 2020, at(121))]  # fmt: skip
    gallery = made(tmp_path, rows)
    present, absent = cases_of(gallery, None)
    assert present.animal.tolist() == absent.animal.tolist() == ["Anna", "Bert", "Anna", "Bert"]
    assert present.found.names == ["Anna", "Bert", "Cora", "Dora"]
    assert present.true.tolist() == [0, 1, 0, 1]
    assert absent.true.tolist() == [-1] * 4
    # The first Anna: not her own sequence, so 5 degrees to her other encounter, 45 to Bert's of the second sequence.
    np.testing.assert_allclose(present.found.distance[0, :2], 1 - np.cos(np.radians([5, 45])), atol=2e-3)
    assert np.isinf(absent.found.cost[0, 0])
    with pytest.raises(UserError, match=r"8 encounters .* too few"):
        fit([present, absent])
    later = Known.of(gallery, None)
    assert later.findable.tolist() == [True] * 4 + [False] * 3


def test_clear_animals_are_told_from_new_ones(tmp_path):
    rng = np.random.default_rng(0)
    rows = [
        (f"animal {a}", f"{a}-{k}", 2018 + k, centre + 0.12 * rng.standard_normal(LENGTH))
        for a, centre in enumerate(rng.standard_normal((24, LENGTH)))
        for k in range(3)
    ]
    gallery = made(tmp_path, rows)
    cases = cases_of(gallery, None)
    calibration = fit(cases)
    gallery.keep_calibration(calibration)
    assert Gallery.open(gallery.uri).calibration == calibration
    seen = []
    tops, found = evaluate(gallery, calibration, None, watch=lambda crops: seen.append(len(crops)) or crops)
    assert tops[1][0] == 1
    assert [row.split for row in found] == [
        "with and without", "the same, calibrated on its other animals", "25% unknown", "50% unknown", "75% unknown",
        "later in time",
    ]  # fmt: skip
    for row in found:
        if 0 < row.figures["new"] < row.figures["queries"]:
            assert row.figures["auc_new"] > 0.95
            assert row.figures["baks"] > 0.8
            assert row.figures["baus"] > 0.8
    assert found[1].figures["queries"] == found[0].figures["queries"] == 144
    assert found[3].figures["new"] == 36  # half of the animals, three encounters each
    assert found[5].figures["new"] == 0  # all were there in 2018
    assert found[5].figures["queries"] == 48


def test_crops_take_part(tmp_path):
    """Equal vectors: only key points tell the animals apart."""
    rng = np.random.default_rng(0)
    marks = rng.integers(0, 200, (4, 30, 128), np.uint8)
    points = rng.uniform(0, 100, (30, 2)).astype(np.float32)
    rows = [(f"animal {a}", f"{a}-{k}", 2019, at(0)) for a in range(4) for k in range(2)]
    crops = {
        f"{a}-{k}#{2 * a + k}": {"i": Features(Points(points, marks[a]), 100.0)} for a in range(4) for k in range(2)
    }
    gallery = made(tmp_path, rows, crops)
    present, absent = cases_of(gallery, VerifyConfig())
    assert present.found.cost.argmin(axis=1).tolist() == present.true.tolist()
    assert (present.found.inliers[np.arange(8), present.true] > 20).all()
    assert (absent.found.inliers[np.arange(8), present.true] == 0).all()
