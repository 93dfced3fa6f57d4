"""The codebook of a stored run is that of its patches in memory, whatever files and parts they are in."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

from pipelines import codebook as pipeline
from pipelines.codebook import FOLDER, StoredPatches
from pusa import records
from pusa.errors import UserError
from pusa.fisher.codebook import CodebookConfig, InMemory, fit
from pusa.records import Run

CONFIG = CodebookConfig(dimensions=6, components=5, iterations=8, sample=150)


def write(run: Run, patches: list[np.ndarray]) -> None:
    """A run whose photo i shows one animal with `patches[i]` (n, 512); two photos a file."""
    for k in range(0, len(patches), 2):
        rows = []
        for i, found in enumerate(patches[k : k + 2], k):
            instance = records.new_instance(f"{i:03d}#0", embeddings=found.astype(np.float16).ravel())
            rows.append({f.name: None for f in records.PHOTOS} | {"photo_id": f"{i:03d}", "instances": [instance]})
        run.write("photos", pa.Table.from_pylist(rows, records.PHOTOS), f"{k:05d}")


@pytest.fixture
def patches():
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((5, 512)) * 0.05
    counts = (40, 0, 70, 30, 55, 1, 60)
    return [centres[rng.integers(5, size=n)] + 0.02 * rng.standard_normal((n, 512)) for n in counts]


@pytest.mark.parametrize("files", [1, 3])
def test_equals_the_fit_in_memory(cluster, tmp_path, monkeypatch, patches, files):
    monkeypatch.setattr(pipeline, "FILES", files)
    run = Run(str(tmp_path / "run"))
    write(run, patches)
    with StoredPatches(run) as stored:
        found = fit(stored, CONFIG, seed=1)
        assert len(stored.parts) > 1
    expected = fit(InMemory(np.concatenate(patches).astype(np.float16)), CONFIG, seed=1)
    # The sums are added in another order: equal but for rounding.
    torch.testing.assert_close(found.axes, expected.axes, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.mixture.means, expected.mixture.means, rtol=0, atol=1e-4)
    torch.testing.assert_close(found.mixture.variances, expected.mixture.variances, rtol=1e-3, atol=0)
    assert not run.fs.get_file_info(run.file(FOLDER)).is_file
    assert not (tmp_path / "run" / FOLDER).exists()


def test_clears_up_behind_an_error(cluster, tmp_path, patches):
    run = Run(str(tmp_path / "run"))
    write(run, [patches[0][:3]])
    with pytest.raises(UserError, match="5 components cannot be fitted to 3 patches"), StoredPatches(run) as stored:
        fit(stored, CONFIG, seed=1)
    assert not (tmp_path / "run" / FOLDER).exists()


def test_a_run_without_photos(cluster, tmp_path):
    with pytest.raises(UserError, match="cannot be fitted to 0 patches"), StoredPatches(Run(str(tmp_path))) as stored:
        fit(stored, CONFIG, seed=1)
