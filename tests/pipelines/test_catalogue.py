"""A catalogue of a small gallery: what it knows from photos, from people, and from vectors; no verification."""

from __future__ import annotations

import csv

import numpy as np
import pyarrow as pa
import pytest
import torch
from typer.testing import CliRunner

from commands.catalogue import app
from commands.evaluate import app as evaluate_app
from pipelines import catalogue, review
from pipelines.evaluate_catalogue import evaluate
from pusa import records
from pusa.catalogue.calibration import Calibrations, PairCalibration
from pusa.catalogue.pairs import ProposeConfig
from pusa.catalogue.review import ReviewConfig
from pusa.catalogue.simulate import Figures
from pusa.errors import UserError
from pusa.fisher.codebook import Codebook
from pusa.fisher.mixture import Mixture
from pusa.gallery.journal import Decision
from pusa.gallery.store import Gallery
from pusa.records import Run
from pusa.truth import encounter_names

LENGTH = 32
NEAREST = ProposeConfig(verification=None)
PLAIN = PairCalibration(prominence=0, inliers=0, nearness=20, offset=-13, floor=-0.5)
CALIBRATIONS = Calibrations(verified=PLAIN, distances=PLAIN)


def vector(axis: int, off: float = 0.0) -> np.ndarray:
    """A unit vector near an axis."""
    v = np.zeros(LENGTH)
    v[axis], v[-1 - axis] = 1, off
    return v / np.linalg.norm(v)


# Two animals of three encounters each, and one seen once; b3 is seen in one photo with a1.
ROWS = {
    "1#0": ("A", vector(0)), "2#0": ("A", vector(0, 0.2)), "3#0": ("A", vector(0, -0.2)),
    "1#1": ("B", vector(1)), "4#0": ("B", vector(1, 0.2)), "5#0": ("B", vector(1, -0.2)),
    "6#0": ("C", vector(2)), "7#0": ("D", vector(3)), "8#0": ("E", vector(4)), "9#0": ("F", vector(5)),
}  # fmt: skip


@pytest.fixture
def run(tmp_path) -> Run:
    """A run that holds what a catalogue reads of one: photos, and who is in them."""
    made = Run(str(tmp_path / "run"))
    photos: dict[str, list] = {}
    for encounter_id in ROWS:
        sequence, number = encounter_id.split("#")
        photos.setdefault(f"photo{sequence}", []).append(records.new_instance(f"photo{sequence}#{number}"))
    rows = [{"photo_id": p, "path": p, "sequence_id": p, "shard": 0, "status": "ok"} for p in photos]
    table = pa.table([pa.array([r.get(f.name) for r in rows], f.type) for f in records.PHOTOS], schema=records.PHOTOS)
    made.write("photos", records.with_instances(table, list(photos.values())), "0")
    encounters = [{"encounter_id": e, "sequence_id": e[0], "instance_ids": [f"photo{e}"]} for e in ROWS]
    made.write("encounters", pa.Table.from_pylist(encounters, schema=records.ENCOUNTERS), "0")
    made.write_manifest({"state": "finished"})
    return made


@pytest.fixture
def gallery(tmp_path, run) -> Gallery:
    return enrolled(tmp_path, run, names=False)


def enrolled(tmp_path, run: Run, names: bool) -> Gallery:
    mixture = Mixture(torch.ones(1), torch.zeros(1, LENGTH // 2), torch.ones(1, LENGTH // 2))
    book = Codebook(torch.zeros(2), torch.zeros(2, LENGTH // 2), mixture, digest="c")
    made = Gallery.create(str(tmp_path / f"gallery{names}"), book)
    made.enroll(
        pa.table({
            "run": [run.key] * len(ROWS), "encounter_id": list(ROWS), "sequence_id": [e[0] for e in ROWS],
            "individual": pa.array([name if names else None for name, _ in ROWS.values()], pa.string()),
            "fisher": pa.array([v.astype(np.float16) for _, v in ROWS.values()], pa.list_(pa.float16())),
        })
    )  # fmt: skip
    return made


def opened(gallery: Gallery, **settings):
    found = catalogue.encounters(gallery)
    pairs = catalogue.proposals(gallery, found, NEAREST)
    return found, review.begin(found, pairs, PLAIN, ReviewConfig(**settings))


def together(gallery: Gallery) -> set[frozenset[str]]:
    found, asking = opened(gallery)
    return {frozenset(found.keys[i][1] for i in m) for m in asking.clusters.members.values() if len(m) > 1}


A, B = frozenset({"1#0", "2#0", "3#0"}), frozenset({"1#1", "4#0", "5#0"})


def test_individuals_from_vectors(gallery):
    assert together(gallery) == {A, B}


def test_what_people_say_goes_before_what_is_measured(gallery, run):
    key = run.key
    review.answer(gallery, (key, "7#0"), (key, "8#0"), "same", "Mia")
    review.answer(gallery, (key, "7#0"), (key, "8#0"), "same", "Bo")
    assert frozenset({"7#0", "8#0"}) in together(gallery)
    gallery.decide(Decision("undo", undoes=gallery.decisions()[-1].decision_id))
    gallery.decide(Decision("undo", undoes=gallery.decisions()[0].decision_id))
    assert together(gallery) == {A, B}
    gallery.decide(Decision("new", ((key, "1#0"),), "Aino"), Decision("new", ((key, "2#0"), (key, "9#0")), "Bo"))
    found = together(gallery)
    assert any({"2#0", "9#0"} <= m for m in found)
    assert not any({"1#0", "2#0"} <= m for m in found)
    gallery.decide(Decision("not_animal", ((key, "3#0"),)), Decision("unknown", ((key, "4#0"),)))
    assert {e for _, e in catalogue.encounters(gallery).keys} == ROWS.keys() - {"3#0", "4#0"}


def test_two_in_one_photo_are_two(gallery, run):
    """1#0 and 1#1 are: whatever people say about a third encounter, they are never put together."""
    key = run.key
    for other in ("1#0", "1#1"):
        for _ in range(3):
            review.answer(gallery, (key, "6#0"), (key, other), "same", "Mia")
    found, _ = opened(gallery)
    assert found.apart() == {(found.place[key, "1#0"], found.place[key, "1#1"])}
    assert not any({"1#0", "1#1"} <= m for m in together(gallery))


def test_without_its_run_a_gallery_knows_sides_and_crops(gallery, run, tmp_path):
    (tmp_path / "run").rename(tmp_path / "gone")
    found = catalogue.encounters(gallery)
    assert len(found.keys) == len(ROWS)
    assert found.apart() == set()
    assert together(gallery) == {A, B}


def test_pairs_are_kept_as_long_as_the_encounters_are_the_same(gallery, run, tmp_path):
    file = tmp_path / "out" / "pairs.parquet"
    found = catalogue.encounters(gallery)
    first = catalogue.proposals(gallery, found, NEAREST, file)
    written = file.stat().st_mtime_ns
    again = catalogue.proposals(gallery, found, NEAREST, file)
    assert file.stat().st_mtime_ns == written
    assert (again.at == first.at).all()
    assert (again.signs == first.signs).all()
    gallery.decide(Decision("not_animal", ((run.key, "9#0"),)))
    catalogue.proposals(gallery, catalogue.encounters(gallery), NEAREST, file)
    assert file.stat().st_mtime_ns != written


def test_codes_stand_for_vectors_where_there_are_many(gallery):
    keys = catalogue.encounters(gallery).keys
    exact = catalogue.vectors(gallery, keys, NEAREST).astype(np.float32)
    coded = catalogue.vectors(gallery, keys, NEAREST.model_copy(update={"sample": 9}))
    assert coded.shape[1] <= 9 < exact.shape[1]
    assert np.abs(coded @ coded.T - exact @ exact.T)[:9, :9].max() < 1.1  # one of ten was not in the sample
    assert np.abs(coded @ coded.T - exact @ exact.T).mean() < 0.05


def test_names_that_are_accepted_stay_and_may_change(gallery, run):
    found, asking = opened(gallery)
    made = review.accept(gallery, found, asking.clusters, "Mia")
    assert {d.by for d in made} == {catalogue.MACHINE}
    first = gallery.catalogue().names
    assert len({first[run.key, e] for e in A}) == 1
    assert first.keys() == {(run.key, e) for e in A | B}  # of the others nobody knows whether they are new
    assert len(set(first.values())) == 2
    found, asking = opened(gallery)
    assert review.accept(gallery, found, asking.clusters, "Mia") == []
    # People say that 3#0 is another animal; then it gets a name of its own, and the others keep theirs.
    for other in ("1#0", "2#0"):
        for _ in range(3):
            review.answer(gallery, (run.key, "3#0"), (run.key, other), "different", "Mia")
    found, asking = opened(gallery)
    review.accept(gallery, found, asking.clusters, "Mia")
    second = gallery.catalogue().names
    assert {key for key in first if first[key] != second[key]} == {(run.key, "3#0")}
    assert second[run.key, "3#0"] not in set(first.values())


def test_a_simulated_review(tmp_path, run):
    gallery = enrolled(tmp_path, run, names=True)
    known, rows = evaluate(gallery, CALIBRATIONS, NEAREST, ReviewConfig(), errors=(0.0, 0.05), draws=2)
    assert len(known.keys) == len(ROWS)
    assert [r.error for r in rows] == [0, 0, 0, 0, 0, 0.05, 0.05, 0.05]
    asked = rows[2]
    assert (asked.mean("clusters"), asked.mean("adjusted_rand")) == (6, 1)
    with pytest.raises(UserError, match="has a name: enroll them"):
        evaluate(enrolled(tmp_path, run, names=False), CALIBRATIONS, NEAREST, ReviewConfig())


def sided(run: Run, sides: dict[str, str], told: float | None = None) -> None:
    """Writes the sides of its instances, by encounter, into a run; `told`: with this probability, by the network."""
    photos = run.read("photos")
    nested = records.instances(photos)
    for instance in (i for row in nested for i in row):
        instance["side"] = sides.get(instance["instance_id"].removeprefix("photo"), "unknown")
        instance["side_probability"] = told
    run.write("photos", records.with_instances(photos, nested), "0")


@pytest.mark.parametrize("told", [None, 0.9])
def test_animals_by_flank(tmp_path, run, told):
    """B shows its left flank once, then its right. From the left A is seen three times and B once, which tells of a
    third of an animal seen once; from the right B is seen twice, and C once."""
    sided(run, {"1#0": "left", "2#0": "left", "3#0": "left", "1#1": "left", "4#0": "right", "5#0": "right",
                "6#0": "right", "7#0": "up"}, told)  # fmt: skip
    CALIBRATIONS.save(tmp_path / "pairs.json")
    how = ("--out", str(tmp_path / "o"), "--no-verify", "--calibration", str(tmp_path / "pairs.json"))
    told = invoke(app, "build", enrolled(tmp_path, run, names=False).uri, *how)
    (line,) = [line for line in told.splitlines() if line.startswith("By flank")]
    assert line.startswith("By flank, each animal counted once: 1 seen from the left (1 to 2)")
    assert ", 2 from the right" in line


def test_left_and_right_come_together_only_through_one_that_shows_both(gallery, run):
    sided(run, {"1#0": "left", "2#0": "right", "3#0": "left", "1#1": "left", "4#0": "right"})
    assert together(gallery) == {frozenset({"1#0", "3#0"}), B}  # of 5#0 nobody knows the side


def test_what_the_network_told_keeps_nothing_apart(gallery, run):
    sided(run, {"1#0": "left", "2#0": "right", "3#0": "left", "1#1": "left", "4#0": "right"}, told=0.9)
    assert together(gallery) == {A, B}
    found = catalogue.encounters(gallery)
    assert found.sides[found.place[run.key, "2#0"]] == {"unknown"}
    assert found.seen[found.place[run.key, "2#0"]] == {"right"}


def invoke(app_, *arguments: str, **options) -> str:
    result = CliRunner().invoke(app_, list(arguments), **options)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_the_commands(gallery, run, tmp_path):
    """Build, look at a pair, be asked in the terminal, accept."""
    out, uri = tmp_path / "out", gallery.uri
    CALIBRATIONS.save(tmp_path / "pairs.json")
    (tmp_path / "ask.yaml").write_text("margin: 50")
    how = ("--out", str(out), "--no-verify", "--calibration", str(tmp_path / "pairs.json"))
    told = invoke(app, "build", uri, *how)
    assert "10 encounters, 0 looks at pairs so far" in told
    assert "2 individuals seen more than once; 4 encounters resemble no other" in told
    with (out / "individuals.csv").open() as f:
        rows = {row["encounter_id"]: row for row in csv.DictReader(f)}
    assert rows["1#0"]["individual"] == rows["2#0"]["individual"] != rows["6#0"]["individual"]
    assert rows["1#0"]["encounters"] == "3"
    guessed = encounter_names(run, str(out / "individuals.csv"))  # for `pusa train marks --named`
    assert guessed.keys() == {"1#0", "2#0", "3#0", "1#1", "4#0", "5#0"}
    assert "one_animal: 7#0 and 8#0" in invoke(app, "look", uri, "7#0", "8#0", "--same", "--by", "Mia")
    with pytest.raises(UserError, match="Expected one of --same"):
        invoke(app, "look", uri, "7#0", "8#0")
    with pytest.raises(UserError, match="Expected two encounters"):
        invoke(app, "look", uri, "7#0", "7#0", "--same")
    asked = (*how, "--config", str(tmp_path / "ask.yaml"), "--ask", "--by", "Mia")
    told = invoke(app, "build", uri, *asked, input="x\ns\nq\n")
    assert "One animal?" in told
    assert len(gallery.catalogue().looks) == 2
    with (out / "questions.csv").open() as f:
        assert next(csv.DictReader(f)).keys() >= {"encounter_a", "encounter_b", "would", "probability"}
    told = invoke(app, "accept", uri, *how, "--by", "Mia")
    assert "9 encounters named. The gallery has 3 individuals" in told
    assert "accepted by Mia" in gallery.decisions()[-1].reason


def test_the_table(tmp_path, run, monkeypatch):
    CALIBRATIONS.save(tmp_path / "pairs.json")
    uri = enrolled(tmp_path, run, names=True).uri
    told = invoke(evaluate_app, "catalogue", uri, "--no-verify", "--calibration", str(tmp_path / "pairs.json"))
    assert "10 encounters of 6 individuals" in told
    assert "most informative pair first" in told


def test_sides_as_the_truth_says_them_keep_flanks_apart(tmp_path, run, monkeypatch):
    """A's second picture is of its right flank: where that is known it stays alone, and by flank all is as it is."""
    sides = [{"left"} if e != "2#0" else {"right"} for e in sorted(ROWS)]
    monkeypatch.setattr("pipelines.evaluate_catalogue.true_sides", lambda found, file: sides)
    gallery, settings = enrolled(tmp_path, run, names=True), ReviewConfig()

    def of(sides: bool) -> Figures:
        _, rows = evaluate(gallery, CALIBRATIONS, NEAREST, settings, "truth.json", (), sides=sides)
        return rows[1].draws[0]

    unknown, known = of(sides=False), of(sides=True)
    assert (unknown.clusters, known.clusters) == (6, 7)
    assert np.isnan([unknown.left_error, unknown.right_error]).all()  # the run knows no side
    assert known.right_error == 0  # A's flank
    with pytest.raises(UserError, match="from the file of --truth"):
        evaluate(gallery, CALIBRATIONS, NEAREST, settings, sides=True)


def test_pairs_of_several_galleries_count(tmp_path, run, monkeypatch):
    """Two galleries of the same 10 encounters have each pair twice, and never one of both."""
    seen = []
    monkeypatch.setattr(PairCalibration, "fit", lambda signs, same, source: seen.append((len(signs), sum(same))))
    monkeypatch.setattr(catalogue, "Calibrations", lambda **kinds: None)
    one, other = (enrolled(tmp_path / name, run, names=True) for name in ("a", "b"))
    catalogue.calibrate([one])
    catalogue.calibrate([one, other])
    assert seen[2:] == [(2 * pairs, 2 * same) for pairs, same in seen[:2]]
    assert seen[1][1] > 0


def test_too_few_animals_to_calibrate(gallery):
    with pytest.raises(UserError, match="at least 20 pairs"):
        catalogue.calibrate([gallery])


def test_a_gallery_without_encounters(tmp_path):
    mixture = Mixture(torch.ones(1), torch.zeros(1, 2), torch.ones(1, 2))
    made = Gallery.create(str(tmp_path / "g"), Codebook(torch.zeros(2), torch.eye(2), mixture, digest="c"))
    CALIBRATIONS.save(tmp_path / "pairs.json")
    with pytest.raises(UserError, match="has no encounters"):
        invoke(app, "build", made.uri, "--out", str(tmp_path / "o"), "--calibration", str(tmp_path / "pairs.json"))
