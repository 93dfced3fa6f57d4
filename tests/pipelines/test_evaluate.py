"""Leave-one-out identification, worked out by hand on a run that holds nothing but encounters."""

import numpy as np
import pyarrow as pa
import pytest

from pipelines.evaluate import leave_one_out
from pusa import records
from pusa.records import Run


@pytest.fixture
def run(tmp_path):
    """Sequences 1 and 2 show Anna and Bert; 3 shows Anna, Cora, and Bert without a pattern. Vectors are angles."""
    angles = {"1#A": 0, "1#B": 40, "2#A": 10, "2#B": 30, "3#A": 20, "3#C": 90, "3#B": None}
    rows = []
    for name, angle in angles.items():
        fisher = None if angle is None else [np.cos(np.radians(angle)), np.sin(np.radians(angle))]
        row = {f.name: None for f in records.ENCOUNTERS}
        rows.append(row | {"encounter_id": name, "sequence_id": name[0], "instance_ids": [name], "fisher": fisher})
    run = Run(str(tmp_path / "run"))
    run.write("encounters", pa.Table.from_pylist(rows, records.ENCOUNTERS), "00000")
    return run


def test_leave_one_out(run):
    names = {"1#A": "Anna", "2#A": "Anna", "3#A": "Anna", "1#B": "Bert", "2#B": "Bert", "3#B": "Bert", "3#C": "Cora"}
    found = leave_one_out(run, names, (1, 2))
    # Of other sequences: 1#A (0) is nearest to Anna's 10; 2#A (10) to Anna's 0 and 20; 3#A (20) to Anna's 10 and to
    # Bert's 30 alike, a tie, which counts against; 1#B (40) to Bert's 30; 2#B (30) to Bert's 40 and Anna's 20, a tie;
    # 3#B has no vector: a miss. Cora is seen once: no match.
    assert found == {"queries": 6, "no_match": 1, "individuals": 3, "top_1": 3 / 6, "top_2": 5 / 6}


def test_names_of_some_encounters_only(run):
    """Without a name an encounter is neither query nor answer."""
    found = leave_one_out(run, {"1#A": "Anna", "2#A": "Anna", "2#B": "Bert"}, (1,))
    assert found == {"queries": 2, "no_match": 1, "individuals": 2, "top_1": 1.0}
