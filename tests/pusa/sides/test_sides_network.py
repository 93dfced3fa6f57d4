"""The network that tells the side, and the picture that it gets."""

import numpy as np
import torch

from pusa.sides.network import HEIGHT, KINDS, WIDTH, SideNetwork, picture


def test_a_mirrored_picture_shows_the_other_flank():
    torch.manual_seed(0)
    network = SideNetwork(4).eval()
    seen = torch.randint(0, 256, (5, 2, HEIGHT, WIDTH), dtype=torch.uint8)
    told, mirrored = network(seen), network(seen.flip(-1))
    swap = [1, 0, 2, 3]  # left and right; front and back stay
    assert KINDS[:2] == ("left", "right")
    torch.testing.assert_close(told[:, swap], mirrored)
    assert told.std(dim=0).min() > 0  # it does look at the picture


def test_the_animal_in_the_middle_on_black():
    grey = np.full((100, 400), 90, np.uint8)  # four times as wide as high: 128 x 32
    grey[:, 200:] = 180
    inside = np.zeros((100, 400), bool)
    inside[25:75] = True
    found = picture(grey, inside)
    assert found.shape == (2, HEIGHT, WIDTH)
    rows = np.flatnonzero(found[1].any(axis=1))
    assert (rows[0], rows[-1]) == (24, 39)  # 16 rows of the mask, in the middle of 64
    assert set(np.unique(found[1])) == {0, 255}
    assert (found[0, 24:40, :63] == 0).all()  # the darkest grey of the animal, whatever it was
    assert (found[0, 24:40, 65:] == 255).all()  # and the lightest
    assert (found[0, :24] == 0).all()
    assert (found[0, 40:] == 0).all()


def test_slivers_and_nothing():
    assert picture(np.full((1, 500), 7, np.uint8), np.ones((1, 500), bool)).shape == (2, HEIGHT, WIDTH)
    assert not picture(np.full((20, 30), 7, np.uint8), np.zeros((20, 30), bool)).any()
    flat = picture(np.full((20, 30), 7, np.uint8), np.ones((20, 30), bool))
    assert np.isfinite(flat).all()
    assert flat[1].any()
