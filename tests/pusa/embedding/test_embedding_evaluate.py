import numpy as np
import pytest
from PIL import Image

from pusa.embedding import evaluate


def test_places_are_read_at_the_middle_of_a_patch(tmp_path):
    """An animal in the box (100, 50, 140, 70) of a photo; its map is halved: 20 x 10. s grows with x, theta with y."""
    surface = np.zeros((10, 20, 3), np.uint8)
    surface[..., 0] = np.arange(20) * 10
    surface[..., 1] = np.arange(10)[:, None] * 20
    surface[..., 2] = 255
    surface[:, 15:, 2] = 90  # seen flatly
    surface[8:] = 0  # not seen
    Image.fromarray(surface).save(tmp_path / "surface.png")
    boxes = np.array(
        [
            [106, 54, 114, 62],  # middle (110, 58): 10 right and 8 down of the corner, so column 5, row 4
            [126, 54, 138, 58],  # column 16: too flat
            [106, 66, 114, 70],  # row 9: no animal
            [90, 54, 100, 58],  # outside of the box
        ]
    )
    found = evaluate.places(boxes, tmp_path / "surface.png", (100, 50))
    assert found[0] == pytest.approx([50 / 255, 80 / 255])
    assert np.isnan(found[1:]).all()


def _unit(*angles):
    return np.array([[np.cos(a), np.sin(a)] for a in np.radians(angles)])


def test_retrieval_by_hand():
    """Two places of sequence 1 are in sequence 2 again; one is the nearest there, the other the second."""
    where = np.array([[0.5, 0.1], [0.51, 0.1], [0.3, 0.2], [0.3, 0.2], [0.9, 0.9]])
    animal, sequence = np.array(["Anna", "Anna", "Bert", "Bert", "Cora"]), np.array([1, 2, 1, 2, 2])
    # Angles: Anna 0 and 10 degrees; Bert 90 and 60, but Cora lies at 100, nearer to Bert's first.
    found = evaluate.retrieval(_unit(0, 10, 90, 60, 100), where, animal, sequence, np.random.default_rng(0)).means()
    # Queries of sequence 1: Anna 1st of 3, Bert 2nd of 3. Of sequence 2, against two: both first; Cora has none.
    assert found == {
        "queries": 4,
        "recall@1": 3 / 4,
        "map": pytest.approx((1 + 1 / 2 + 1 + 1) / 4),
        "chance": pytest.approx((1 / 3 + 1 / 3 + 1 / 2 + 1 / 2) / 4),
    }


def test_the_body_is_round():
    """theta 0.99 and 0.01 are neighbours; the same patch of another animal, or of the same sequence, is no answer."""
    where = np.array([[0.5, 0.99], [0.5, 0.01], [0.5, 0.5], [0.5, 0.0]])
    animal, sequence = np.array(["Anna", "Anna", "Anna", "Bert"]), np.array([1, 2, 2, 2])
    found = evaluate.retrieval(_unit(0, 5, 90, 80), where, animal, sequence, np.random.default_rng(0)).means()
    assert found["queries"] == 2
    assert found["recall@1"] == 1


def test_nothing_to_compare():
    nothing = np.full((2, 2), np.nan)
    animal = sequence = np.array([1, 2])
    assert evaluate.retrieval(_unit(0, 5), nothing, animal, sequence, np.random.default_rng(0)).means() == {
        "queries": 0
    }
