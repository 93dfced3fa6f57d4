from collections import Counter

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pusa.config import load_config
from pusa.errors import UserError
from pusa.synthetic.planning import _spread, np, plan_sequences
from pusa.synthetic.settings import PRESETS, SynthConfig, preset, renderer


@pytest.mark.parametrize("path", sorted(PRESETS.glob("*.yaml")), ids=lambda p: p.stem)
def test_presets_are_possible(path):
    config = load_config(SynthConfig, path)
    load_config(renderer(config.renderer).Look, overrides=dict(config.look))
    plan = plan_sequences(config)
    assert sum(s.n_photos for s in plan) == config.photos + config.database


def test_unknown_presets_name_the_known_ones():
    with pytest.raises(UserError, match="demo, hard, paper"):
        preset("beach")


def test_the_default_is_a_good_demo():
    for seed in range(5):
        plan = plan_sequences(SynthConfig(seed=seed))
        assert sum(s.n_photos for s in plan) == 60
        sightings = Counter(i for s in plan for i in s.individuals)
        assert set(sightings) == set(range(1, 13))
        assert min(sightings.values()) >= 2
        early = {i for s in plan[:5] for i in s.individuals}
        assert 6 <= len(early) <= 12
        repeated = Counter((a.identity, a.side) for s in plan for a in s.animals)
        assert sum(n >= 2 for n in repeated.values()) >= 6  # the same flank comes back


def test_paper_preset_has_the_sizes_of_table_3():
    """81 database images of 50 individuals; 37 groups with about 300 images; each flank seen before."""
    config = load_config(SynthConfig, preset("paper"))
    plan = plan_sequences(config)
    base = [s for s in plan if s.database]
    assert len(base) == 81
    assert all(s.n_photos == 1 and len(s.individuals) == 1 and not s.fixed for s in base)
    known = {(a.identity, a.side) for s in base for a in s.animals}
    assert len({identity for identity, _ in known}) == 50
    queries = [s for s in plan if not s.database]
    groups = [(s, a) for s in queries for a in s.animals]
    assert len(groups) == 37
    assert {(a.identity, a.side) for _, a in groups} <= known
    assert 270 <= (1 - config.absent) * sum(s.n_photos for s, _ in groups) <= 330
    assert max(s.start for s in base) <= min(s.start for s in queries)


def test_share_that_returns_and_pups():
    plan = plan_sequences(SynthConfig(photos=300, sequences=60, individuals=100, returning=0.4, pups=0.5))
    sightings = Counter(i for s in plan for i in s.individuals)
    assert sum(n == 1 for n in sightings.values()) == 60
    assert min(n for n in sightings.values() if n > 1) >= 2
    pups = {a.identity for s in plan for a in s.animals if a.pup}
    assert 20 <= len(pups) <= 40  # half of those seen once
    assert all(n == 1 for n in Counter(a.identity for s in plan for a in s.animals if a.pup).values())


def test_fixed_cameras_are_game_cameras():
    plan = plan_sequences(SynthConfig(photos=300, sequences=60, individuals=50, fixed=0.5))
    fixed = [s for s in plan if s.fixed]
    assert 18 <= len(fixed) <= 42
    assert {s.camera[0] for s in fixed} == {"RECONYX"}
    assert "RECONYX" not in {s.camera[0] for s in plan if not s.fixed}


def test_more_sequences_than_days():
    plan = plan_sequences(SynthConfig(photos=900, sequences=300, individuals=40))
    assert len({s.sequence_id for s in plan}) == 300
    assert max(s.start for s in plan).year == 2022


@settings(max_examples=80, deadline=None)
@given(
    sequences=st.integers(1, 40), individuals=st.integers(1, 60), spare=st.integers(0, 100), seed=st.integers(0, 2**40),
    returning=st.floats(0, 1), low=st.integers(1, 3), high=st.integers(3, 19),
)  # fmt: skip
def test_any_plan_holds_together(sequences, individuals, spare, seed, returning, low, high):
    assume(spare <= 66 * sequences)
    values = {"photos": 3 * sequences + spare, "sequences": sequences, "individuals": individuals, "seed": seed}
    try:
        config = SynthConfig(**values, returning=returning, animals=(low, high))
    except UserError:
        assume(False)
    plan = plan_sequences(config)
    assert sum(s.n_photos for s in plan) == config.photos
    assert 3 <= min(s.n_photos for s in plan) <= max(s.n_photos for s in plan) <= 69
    assert [s.start for s in plan] == sorted(s.start for s in plan)
    assert len({s.sequence_id for s in plan}) == sequences
    first = 1
    for s in plan:
        assert s.first_photo == first
        first += s.n_photos
        assert 1 <= len(set(s.individuals)) == len(s.individuals) == len(s.animals) <= high
    assert {i for s in plan for i in s.individuals} == set(range(1, individuals + 1))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30), st.integers(0, 5), st.integers(0, 20), st.floats(0, 1), st.booleans())
def test_spread_keeps_the_sum_and_the_limits(n, low, width, share, even):
    total = round(n * (low + share * width))
    parts = _spread(np.random.default_rng(0), total, n, (low, low + width), even)
    assert sum(parts) == total
    assert low <= min(parts) <= max(parts) <= low + width
    assert not even or max(parts) - min(parts) <= 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"photos": 20}, "at least 30 photos"),  # 10 sequences of 3
        ({"photos": 700}, "at most 690"),
        ({"individuals": 81}, "at most 80 individuals"),
        ({"animals": (0, 3)}, "range from 1"),
        ({"animals": (5, 3)}, "low to high"),
        ({"sequence_photos": (9, 3)}, "low to high"),
        ({"animals": (13, 19)}, "at least 13 individuals"),
        ({"individuals": 5, "returning": 0.0}, "more individuals"),  # 10 sequences of animals that never come back
        ({"encounters": 9}, "hold 10 to 80"),
        ({"encounters": 81, "individuals": 100}, "hold 10 to 80"),
        ({"database": 11}, "at least as many"),
    ],
)
def test_impossible_plans(values, message):
    with pytest.raises(UserError, match=message):
        SynthConfig(**values)
