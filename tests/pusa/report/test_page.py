import datetime as dt
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pyarrow as pa
import pytest

from pusa import photos, records
from pusa.errors import UserError
from pusa.records import Run
from pusa.report import page, survey
from pusa.segmentation import masks

NOON = dt.datetime(2021, 6, 3, 12, 0)
NASTY = '<script>alert("1")</script>&.JPG'

MANIFEST = {
    "state": "finished",
    "archive": "/photos/2021",
    "begun": "2021-10-01T08:00:00Z",
    "version": "0.1.0",
    "seconds": 90.0,
    "weights": {"pattern": "ab" * 32, "codebook": "cd" * 32},
    "config": {"pattern": {"weights": "starter/pattern"}, "encounters": {"codebook": "mine.safetensors"}},
    "instances": None,
}


def at(minutes):
    return NOON + dt.timedelta(minutes=minutes)


def instance(photo_id, number=0, usable=True, **fields):
    """A disc on a photo of 60 x 40 px."""
    disc = np.zeros((40, 60), np.uint8)
    cv2.circle(disc, (30, 20), 12, 1, -1)
    pattern = np.zeros((30, 40), bool)
    pattern[10:12, 10:30] = True
    values = {
        "box": [10, 5, 50, 35],
        "mask": masks.encode(disc.astype(bool)),
        "crop_box": [10, 5, 50, 35],
        "crop": photos.encode_jpeg(np.full((30, 40, 3), 90, np.uint8)),
        "pattern": photos.encode_mask_png(pattern) if usable else None,
        "usable": usable,
        "unusable_reason": None if usable else "too small",
        "patch_boxes": [[10, 5, 30, 25]] * 3 if usable else [],
    }
    return records.new_instance(f"{photo_id}#{number}", **(values | fields))


def photo(photo_id, sequence="s", path=None, instances=(), status="ok", **fields):
    row = {"photo_id": photo_id, "path": path or f"{sequence}/{photo_id}.JPG", "sequence_id": sequence}
    return row | {"shard": 0, "status": status, "instances": list(instances)} | fields


def encounter(sequence, number, members, patches=3):
    return {
        "encounter_id": f"{sequence}#{number}",
        "sequence_id": sequence,
        "instance_ids": members,
        "n_patches": patches,
    }


def candidate(encounter_id, rank, individual, **fields):
    row = {"encounter_id": encounter_id, "rank": rank, "individual": individual, "distance": 0.25 * rank}
    return row | fields


@pytest.fixture
def make(tmp_path):
    """A finished run of the given rows; `per_file` photos a file."""

    def make(photo_rows, encounters=(), candidates=(), deployments=(), per_file=2, **manifest):
        run = Run(str(tmp_path / "run"))
        for i in range(0, len(photo_rows), per_file):
            run.write("photos", pa.Table.from_pylist(photo_rows[i : i + per_file], records.PHOTOS), f"{i:03d}")
        for name, rows in (("encounters", encounters), ("candidates", candidates), ("deployments", deployments)):
            if rows:
                run.write(name, pa.Table.from_pylist(list(rows), records.TABLES[name]), "00000")
        run.write_manifest(MANIFEST | manifest)
        return run

    return make


class Page(HTMLParser):
    """Text without style, tags, and the attributes that could load something."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.links, self.words, self.ids, self.styled = [], [], [], [], False
        self.feed(html)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.styled = tag == "style"
        self.links += [value for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        self.styled = False

    def handle_data(self, data):
        if not self.styled:
            self.words.append(data)


def report(run, *args, **kwargs):
    return [Page(open(file, encoding="utf-8").read()) for file in page.write_report(run, *args, **kwargs)]


def test_an_encounter_shows_pictures_place_time_and_candidates(make):
    run = make(
        [
            photo("a", instances=[instance("a", side="left")], taken_at=at(0), deployment_id="d"),
            photo("b", instances=[instance("b", 0, False), instance("b", 1)], taken_at=at(14), deployment_id="d"),
        ],
        [encounter("s", 0, ["a#0", "b#1"], 6), encounter("s", 1, ["b#0"], 0)],
        [candidate("s#0", 2, "Ukko"), candidate("s#0", 1, "Aino")],  # stored in another order
        [{"deployment_id": "d", "place": "Valaam"}],
    )
    (shown,) = report(run)
    assert "s#0 2021-06-03, 12:00 to 12:14 Valaam 2 photos, 6 patches of pattern" in shown.text
    assert "a.JPG 12:00:00 · left usable, 3 patches b.JPG 12:14:00 usable, 3 patches" in shown.text
    assert re.search(r"1\. Aino distance 0\.250 .*2\. Ukko distance 0\.500", shown.text)
    assert "Cannot be identified: none of its pictures has a usable pattern (1 × too small)" in shown.text
    assert shown.tags.count("svg") == 3
    assert shown.tags.count("img") == 3 + 2  # three crops, two patterns; no picture of a candidate was given
    assert shown.text.count("no picture") == 2
    assert f"Their pictures are not here: pusa report {run.uri} --gallery GALLERY" in shown.text


def test_nothing_is_loaded_and_no_script_runs(make):
    jpeg = photos.encode_jpeg(np.zeros((300, 300, 3), np.uint8))
    rows = [photo("a", instances=[instance("a")])]
    (shown,) = report(make(rows, [encounter("s", 0, ["a#0"])], [candidate("s#0", 1, "Aino")]), lambda individual: jpeg)
    outside = [link for link in shown.links if not link.startswith(("data:image/", "#"))]
    assert outside == []
    assert not {"script", "link", "iframe", "object"} & set(shown.tags)
    assert sum(link.startswith("data:") for link in shown.links) == 3  # crop, pattern, candidate


def test_names_from_outside_stay_text(make):
    rows = [
        photo("a", NASTY, f"{NASTY}/{NASTY}", [instance("a", 0, False, unusable_reason=NASTY)], deployment_id="d"),
        photo("b", NASTY, NASTY, status="error", error=NASTY),
        photo("c", NASTY, f"c/{NASTY}", [instance("c")], duplicate_of="a", deployment_id=NASTY),
    ]
    run = make(
        rows,
        [encounter(NASTY, 0, ["a#0"], 0), encounter(NASTY, 1, ["c#0"])],
        [candidate(f"{NASTY}#1", 1, NASTY)],
        [{"deployment_id": "d", "place": NASTY}],
        archive=NASTY,
        begun=NASTY,
        version=NASTY,
        instances=NASTY,
        weights={NASTY: NASTY},
        config={"pattern": {"weights": NASTY}, "encounters": {"codebook": NASTY}},
    )
    (shown,) = report(run, gallery=NASTY)
    assert "script" not in shown.tags
    assert shown.text.count(NASTY) >= 12


def test_counts_and_warnings(make):
    rows = [
        photo("a", "s", instances=[instance("a", 0), instance("a", 1, False)]),
        photo("b", "s"),
        photo("c", "t", instances=[instance("c")], duplicate_of="a"),
        photo("d", "t", status="error", error="is truncated"),
        photo("e", "t", status="error", error="is truncated"),
    ]
    run = make(rows, [encounter("s", 0, ["a#0"]), encounter("s", 1, ["a#1"], 0)])
    found = survey.survey(run)
    assert (found.photos, found.instances, found.usable, found.empty) == (5, 3, 2, 1)
    assert found.errors == [("t/d.JPG", "is truncated"), ("t/e.JPG", "is truncated")]
    assert found.copies == [("t/c.JPG", "s/a.JPG")]
    assert dict(survey.charts(found)) == {
        "Photos by number of animals in them": {"0": 1, "1": 1, "2": 1},
        "Sequences by number of photos": {"1": 0, "2": 1, "3 to 4": 1},
        "Animals by what came of their pattern": {"usable": 2, "too small": 1},
    }
    (shown,) = report(run)
    for words in (
        "2 of 5 photos could not be used. 2 × is truncated",
        "1 of 5 photos is a copy of another.",
        "No animal was found in 1 of 5 photos.",
        f"pusa identify {run.uri} --gallery GALLERY",
        "Not compared with a gallery yet.",
    ):
        assert words in shown.text
    assert "Distance" not in shown.text  # there is none on the page


def test_long_lists_say_what_they_leave_out(make, monkeypatch):
    monkeypatch.setattr(page, "LISTED", 2)
    (shown,) = report(make([photo(str(i), status="error", error="is empty") for i in range(5)]))
    assert "3 more are in the table photos of the run, column error" in shown.text
    assert "This run has no encounters" in shown.text


@pytest.mark.parametrize(
    ("fields", "present", "absent"),
    [
        ({}, "No probability is calibrated yet", "probability 83 %"),  # only distances
        ({"probability": 0.83, "new_probability": 0.12}, "probability 83 %", "No probability is calibrated"),
        ({"probability": 0.83, "new_probability": 0.12}, "(a new individual: 12 %)", "matching points"),
        ({"inliers": 17}, "17 matching points", "new individual"),  # verified, not calibrated
    ],
)
def test_what_is_known_of_a_candidate(make, fields, present, absent):
    rows = [photo("a", instances=[instance("a")])]
    (shown,) = report(make(rows, [encounter("s", 0, ["a#0"])], [candidate("s#0", 1, "Aino", **fields)]))
    assert present in shown.text
    assert absent not in shown.text


def test_pages_follow_sequence_and_number_and_old_ones_go(make):
    rows = [photo(f"{i:02d}", "t", instances=[instance(f"{i:02d}")]) for i in range(12)]
    rows.append(photo("z", "s", instances=[instance("z")]))
    encounters = [encounter("t", i, [f"{i:02d}#0"]) for i in range(12)] + [encounter("s", 0, ["z#0"])]
    run = make(rows, encounters)
    shown = report(run, encounters_a_page=5)
    order = [re.findall(r"\b[st]#\d+", p.text) for p in shown]
    assert [len(ids) for ids in order] == [5, 5, 3]
    assert [i for ids in order for i in ids] == ["s#0", *(f"t#{i}" for i in range(12))]  # 10 comes after 2
    assert "Encounters 11 to 13 of 13" in shown[2].text
    assert {"report.html", "report-3.html"} <= set(shown[1].links)
    assert all(len(p.ids) == len(set(p.ids)) for p in shown)
    page.write_report(run)
    kept = sorted(info.base_name for info in run.fs.get_file_info(page.pafs.FileSelector(run.path)) if info.is_file)
    assert kept == ["manifest.json", "report.html"]


@pytest.mark.parametrize(
    ("sizes", "cuts"),
    [
        ([], [(0, 0)]),  # a page all the same
        ([1, 1, 1], [(0, 3)]),  # exactly full
        ([1, 1, 1, 1], [(0, 3), (3, 4)]),  # too many encounters
        ([4, 4, 4], [(0, 2), (2, 3)]),  # too many pictures
        ([1, 50, 1], [(0, 1), (1, 2), (2, 3)]),  # an encounter larger than a page has one of its own
    ],
)
def test_cut(sizes, cuts):
    assert page.cut(sizes, encounters=3, images=10) == cuts


def test_says_what_made_the_results(make):
    (shown,) = report(make([photo("a")]))
    assert "Processed 2021-10-01 08:00:00 UTC Time taken 0:01:30 (90.0 s a photo)" in shown.text
    assert "codebook: mine.safetensors cdcdcdcdcdcd pattern: starter/pattern abababababab" in shown.text


def test_a_run_that_did_not_finish_has_no_report(make):
    run = make([photo("a")], state="running", command="pusa process A --out B")
    with pytest.raises(UserError, match="pusa process A --out B"):
        page.write_report(run)


def test_pictures_are_read_only_where_they_are_shown(make, monkeypatch):
    rows = [photo(f"{i:02d}", instances=[instance(f"{i:02d}")]) for i in range(6)]
    run = make(rows, [encounter("s", i, [f"{i:02d}#0"]) for i in range(6)])
    read = []
    original = Run.read_file

    def spy(self, file, columns=None):
        if "instances.list.element.crop" in columns:
            read.append(file.rsplit("/", 1)[1])
        return original(self, file, columns)

    monkeypatch.setattr(Run, "read_file", spy)
    page.write_report(run, encounters_a_page=2)
    assert read == ["000.parquet", "002.parquet", "004.parquet"]  # each page its own file


def contrast(first, second):
    """WCAG 2.2 contrast ratio of two #rrggbb colours."""

    def luminance(colour):
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return np.dot(linear, (0.2126, 0.7152, 0.0722))

    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1])  # light, dark
def test_colours_have_enough_contrast(scheme):
    css = (page.Path(page.__file__).parent / "templates" / "style.css").read_text()
    block = re.findall(r":root \{(.*?)\}", css, re.DOTALL)[scheme]
    colour = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
    for ink in ("ink", "muted", "accent", "bad", "good"):
        for paper in ("page", "card", "well"):
            assert contrast(colour[ink], colour[paper]) >= 4.5, (ink, paper)
    assert contrast(colour["warn-ink"], colour["warn"]) >= 4.5
    assert contrast(colour["card"], colour["accent"]) >= 4.5  # the number of the page
