import numpy as np
import pytest
from PIL import Image

from pusa.errors import UserError
from pusa.pattern import data


@pytest.fixture
def folder(tmp_path):
    """Two crops of 100 x 60 px, white lines on grey; one with a mask."""
    for name in ("crops", "rings", "masks"):
        (tmp_path / name).mkdir()
    rings = np.zeros((60, 100), np.uint8)
    rings[20:24] = 255
    mask = np.zeros((60, 100), np.uint8)
    mask[10:50, 10:90] = 255
    for name in ("one", "two"):
        Image.fromarray(np.full((60, 100, 3), 90, np.uint8)).save(tmp_path / "crops" / f"{name}.jpg")
        Image.fromarray(rings).save(tmp_path / "rings" / f"{name}.png")
    Image.fromarray(mask).save(tmp_path / "masks" / "one.png")
    return tmp_path


def test_an_own_folder_of_crops_and_rings(folder):
    one, two = data.read(folder, 200, blank=0.5, limit=10, seed=0)
    assert one.layers.shape == (120, 200, 3)
    assert one.side == 100
    assert one.mask.mean() == pytest.approx(40 * 80 / 6000, abs=0.02)
    assert two.mask.all()  # without a mask the crop is the animal
    assert one.rings.sum() < two.rings.sum() == pytest.approx(8 * 200, abs=400)
    assert len(data.read(folder, 200, blank=0, limit=1, seed=0)) == 1


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "rings" / "two.png").unlink(), "Cannot read"),
        (lambda f: Image.new("L", (50, 60)).save(f / "rings" / "two.png"), "50 x 60"),
        (lambda f: Image.new("L", (100, 60)).save(f / "masks" / "one.png"), "empty"),
        (lambda f: (f / "crops" / "one.jpg").write_text("no picture"), "Cannot read"),
        (lambda f: [p.unlink() for p in (f / "crops").iterdir()], "is empty"),
    ],
)
def test_own_folders_that_do_not_fit(folder, spoil, message):
    spoil(folder)
    with pytest.raises(UserError, match=message):
        data.read(folder, 200, blank=0, limit=10, seed=0)
