"""Encounters of small sequences, grouped and encoded without Ray."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest
import torch

from pusa import records
from pusa.encounters import EncounterBuilder, EncounterConfig
from pusa.fisher.codebook import Codebook, Mixture
from pusa.fisher.encode import fisher_vectors

NOON = dt.datetime(2021, 6, 1, 12)


def instance(name, angle, patches=0):
    """An instance whose descriptor points in a direction of the plane, with patches that follow from its name."""
    rng = np.random.default_rng(sum(map(ord, name)))
    vectors = rng.normal(size=(patches, 512)).astype(np.float16)
    descriptor = np.array([np.cos(angle), np.sin(angle)], np.float16)
    embeddings = vectors.ravel() if patches else None
    return records.new_instance(name, box=[0, 0, 10, 10], descriptor=descriptor, embeddings=embeddings)


def photo(name, minute, *found, **fields):
    row = {"photo_id": name, "path": name, "sequence_id": "s", "status": "ok"}
    return row | {"taken_at": NOON + dt.timedelta(minutes=minute), "instances": list(found)} | fields


def build(*photos, codebook=None):
    builder = EncounterBuilder(EncounterConfig(codebook=None))
    builder.codebook = codebook
    return builder(pa.Table.from_pylist(list(photos), records.PHOTOS)).to_pylist()


def members(encounters):
    return {frozenset(e["instance_ids"]) for e in encounters}


def test_instances_of_one_direction_meet():
    found = build(
        photo("2", 2, instance("a2", 0.1), instance("b2", 1.5)),
        photo("1", 1, instance("b1", 1.4), instance("a1", 0.0)),
    )
    assert members(found) == {frozenset({"a1", "a2"}), frozenset({"b1", "b2"})}
    assert [e["encounter_id"] for e in found] == ["s#0", "s#1"]


@pytest.mark.parametrize(
    "fields",
    [
        {"status": "error", "error": "truncated"},  # cannot be read
        {"duplicate_of": "1"},  # a copy: a perfect and false resighting
    ],
)
def test_photos_that_take_no_part(fields):
    found = build(photo("1", 1, instance("a1", 0)), photo("2", 2, instance("a2", 0), **fields))
    assert members(found) == {frozenset({"a1"})}


def test_sequences_do_not_mix():
    found = build(photo("1", 1, instance("a1", 0)), photo("2", 2, instance("a2", 0), sequence_id="t"))
    assert {e["encounter_id"] for e in found} == {"s#0", "t#0"}


def test_no_photos_no_encounters():
    assert build() == []


def test_fisher_vector_of_all_patches_of_the_group():
    rng = np.random.default_rng(0)
    axes = torch.from_numpy(np.linalg.qr(rng.normal(size=(512, 4)))[0]).float()
    mixture = Mixture(torch.full((3,), 1 / 3), torch.randn(3, 4, generator=torch.manual_seed(0)), torch.ones(3, 4))
    codebook = Codebook(torch.zeros(512), axes, mixture)
    first, second, other = instance("a1", 0, 5), instance("a2", 0.1, 2), instance("b1", 1.5)
    found = build(photo("1", 1, first, other), photo("2", 2, second), codebook=codebook)
    together = np.concatenate([first["embeddings"], second["embeddings"]]).astype(np.float32).reshape(-1, 512)
    (expected,) = fisher_vectors(codebook, [together])
    by_size = {len(e["instance_ids"]): e for e in found}
    assert by_size[2]["n_patches"] == 7
    np.testing.assert_allclose(np.array(by_size[2]["fisher"], np.float32), expected, atol=1e-3)
    assert (by_size[1]["n_patches"], by_size[1]["fisher"]) == (0, None)  # an animal without a pattern stays a row
