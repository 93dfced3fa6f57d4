import numpy as np
import pytest

from pusa.pattern import quality
from pusa.pattern.quality import SIGNS, Quality, balanced_accuracy, fit, signs_of


def judge(**weights) -> Quality:
    """A regression on the named signs only, around 0, with a threshold of one half."""
    values = tuple(float(weights.get(name, 0)) for name in SIGNS)
    return Quality(mean=(0,) * 10, scale=(1,) * 10, weights=values, bias=0, threshold=0.5)


def signs(**values) -> np.ndarray:
    return np.array([float(values.get(name, 0)) for name in SIGNS])


@pytest.mark.parametrize(
    ("values", "probability", "reason"),
    [
        ({}, 0.5, None),  # at the threshold: let through
        ({"size": 2}, 1 / (1 + np.exp(-2)), None),
        ({"size": -2}, 1 / (1 + np.exp(2)), "too small"),
        ({"size": 1, "wholeness": -2}, 1 / (1 + np.exp(1)), "occluded"),  # what speaks most against it
        (
            {"contrast": -1, "clarity": -1, "size": -1.5},
            1 / (1 + np.exp(3.5)),
            "no contrast",
        ),  # two of one reason add up
    ],
)
def test_judgement_by_hand(values, probability, reason):
    found = judge(size=1, wholeness=1, contrast=1, clarity=1).judge(signs(**values))
    assert found == (pytest.approx(probability), reason)


def test_another_threshold():
    assert judge(size=1).judge(signs(size=-1), 0.2)[1] is None
    assert judge(size=1).judge(signs(size=1), 0.8)[1] is not None


def lines(light: int, noise: float = 0, width: int = 3):
    """Light lines on fur of grey level 60, an oval animal in a crop of 120 x 240 px."""
    y, x = np.mgrid[:120, :240]
    mask = ((x - 120) / 110) ** 2 + ((y - 60) / 50) ** 2 < 1
    pattern = mask & (x % 20 < width)
    grey = 60 + light * pattern + np.random.default_rng(0).normal(0, noise, pattern.shape)
    return np.clip(grey, 0, 255).astype(np.uint8), mask, pattern.astype(np.float32) * 0.9, pattern


def test_signs_grow_with_quality():
    clear, faint = (dict(zip(SIGNS, signs_of(*lines(light, 5), side=240), strict=True)) for light in (60, 5))
    assert clear["contrast"] == pytest.approx(60, abs=2)
    assert faint["contrast"] == pytest.approx(5, abs=2)
    assert clear["clarity"] > 3 * faint["clarity"]
    near, far = (dict(zip(SIGNS, signs_of(*lines(60), side=s), strict=True)) for s in (480, 120))
    assert near["size"] - far["size"] == pytest.approx(np.log(4))
    grey, mask, probability, pattern = lines(60)
    half = mask & (np.arange(240) < 130) | mask & (np.arange(120)[:, None] < 40)  # a rock before it
    whole, hidden = (
        dict(zip(SIGNS, signs_of(grey, m, probability, pattern & m, 240), strict=True)) for m in (mask, half)
    )
    assert whole["wholeness"] > 0.95 > hidden["wholeness"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda g, m, p, b: (g, m, p, b & False),  # no pattern
        lambda g, m, p, b: (g, m & False, p, b & False),  # no animal
        lambda g, m, p, b: (g * 0, m, p, b),  # black
        lambda g, m, p, b: (g, m, p, m),  # all of it is pattern
        lambda g, m, p, b: (g[:2, :3], m[60:62, 60:63], p[:2, :3], b[60:62, 60:63]),  # 3 x 2 px
    ],
)
def test_signs_of_odd_crops_are_numbers(spoil):
    found = signs_of(*spoil(*lines(60)), side=240)
    assert found.shape == (len(SIGNS),)
    assert np.isfinite(found).all()


def test_fit_tells_good_from_bad_and_keeps_the_precision():
    rng = np.random.default_rng(0)
    usable = rng.random(600) < 0.5
    x = rng.normal(0, 1, (600, len(SIGNS)))
    x[:, 1] += 3 * usable
    found = fit(x, usable, precision=0.9)
    chosen = np.array([found.judge(row)[1] is None for row in x])
    assert balanced_accuracy(chosen, usable) > 0.88
    assert usable[chosen].mean() >= 0.9
    assert {found.judge(row)[1] for row in x[~chosen]} <= set(SIGNS.values())


def test_a_sign_that_a_fit_turns_round_is_dropped():
    rng = np.random.default_rng(1)
    usable = rng.random(400) < 0.5
    x = rng.normal(0, 1, (400, len(SIGNS)))
    x[:, 1] += 2 * usable
    x[:, 9] -= usable  # less wholeness where it is good: no reason that anyone could understand
    found = fit(x, usable)
    assert min(found.weights) >= 0
    assert found.weights[9] == 0
    assert found.weights[1] > 0.5


def test_balanced_accuracy_by_hand():
    usable, chosen = np.array([1, 1, 1, 0], bool), np.array([1, 1, 0, 0], bool)
    assert balanced_accuracy(chosen, usable) == pytest.approx((2 / 3 + 1) / 2)
    assert quality.balanced_accuracy(usable, usable) == 1
