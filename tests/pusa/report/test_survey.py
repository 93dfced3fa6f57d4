from collections import Counter

from pusa.report import survey


def test_a_run_without_photos_has_empty_charts():
    assert [counts for _, counts in survey.charts(survey.Overview())] == [{}, {}, {"usable": 0}]


def test_photos_with_many_animals_share_a_bar():
    overview = survey.Overview(animals=Counter({0: 3, survey.MOST_ANIMALS: 2}))
    counts = dict(survey.charts(overview))["Photos by number of animals in them"]
    assert list(counts)[-1] == "10 or more"
    assert (counts["0"], counts["1"], counts["10 or more"]) == (3, 0, 2)
