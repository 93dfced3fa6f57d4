import numpy as np
import pyarrow as pa
import pytest
import torch

from pusa import photos, records, weights
from pusa.embedding.embed import EmbeddingConfig, PatchEmbedder
from pusa.embedding.network import PatchNetwork
from pusa.errors import UserError


@pytest.fixture(scope="module")
def embedder():
    torch.manual_seed(0)
    return PatchEmbedder(EmbeddingConfig(device="cpu", batch=4), network=PatchNetwork(width=8))


def instance(name, n, seed):
    """An instance with n patches along a noisy pattern whose pixels are those of the photo."""
    pattern = np.random.default_rng(seed).random((64, 32 + 32 * max(n, 1))) < 0.4
    box = [100, 50, 100 + pattern.shape[1], 114]
    boxes = [[100.0 + 32 * i, 50, 164 + 32 * i, 114] for i in range(n)]
    png = photos.encode_mask_png(pattern) if n else None
    found = records.new_instance(name, crop_box=box, pattern=png, patch_boxes=boxes, usable=n > 0)
    return found, [pattern[:, 32 * i : 32 * i + 64] for i in range(n)]


def test_vectors_go_to_their_instances(embedder):
    made = [[instance("a", 3, 0), instance("b", 0, 1)], [], [instance("c", 2, 2)]]
    rows = [
        {f.name: None for f in records.PHOTOS} | {"photo_id": str(i), "instances": [m[0] for m in row]}
        for i, row in enumerate(made)
    ]
    found = records.instances(embedder(pa.Table.from_pylist(rows, records.PHOTOS)))
    assert [len(row) for row in found] == [2, 0, 1]
    assert found[0][1]["embeddings"] is None
    for own, (_, patches) in ((found[0][0], made[0][0]), (found[2][0], made[2][0])):
        vectors = own["embeddings"].reshape(-1, 512)
        assert vectors.dtype == np.float16
        np.testing.assert_allclose(vectors, embedder.embed(np.stack(patches)), atol=1e-3)


def test_a_batch_does_not_change_a_vector(embedder):
    patches = np.random.default_rng(0).random((9, 64, 64)) < 0.3
    together = embedder.embed(patches)
    alone = np.concatenate([embedder.embed(p[None]) for p in patches])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_no_patch(embedder):
    assert embedder.embed(np.zeros((0, 64, 64), bool)).shape == (0, 512)


def test_patches_of_another_size_are_named(embedder):
    with pytest.raises(UserError, match=r"\(n, 64, 64\).*\(2, 32, 32\)"):
        embedder.embed(np.zeros((2, 32, 32), bool))


def test_weights_of_another_width_are_named(tmp_path):
    path = tmp_path / "embedding.safetensors"
    weights.save(path, "embedding", {"network": {"width": 16}}, PatchNetwork(width=8).state_dict())
    with pytest.raises(UserError, match="does not fit"):
        PatchEmbedder(EmbeddingConfig(weights=str(path), device="cpu"))
