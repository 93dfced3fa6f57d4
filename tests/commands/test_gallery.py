"""`pusa gallery`: decisions at the command line, as a biologist makes them."""

from __future__ import annotations

import pyarrow as pa
import pytest
import torch
from typer.testing import CliRunner

from commands.gallery import app
from pusa.errors import UserError
from pusa.fisher.codebook import Codebook
from pusa.fisher.mixture import Mixture
from pusa.gallery.store import Gallery


@pytest.fixture
def gallery(tmp_path):
    mixture = Mixture(torch.ones(1), torch.zeros(1, 2), torch.ones(1, 2))
    made = Gallery.create(str(tmp_path / "g"), Codebook(torch.zeros(2), torch.eye(2), mixture, digest="c"))
    keys = [("north", "1#0", "Aino"), ("north", "2#0", None), ("south", "2#0", None), ("south", "3#0", "Bo")]
    made.enroll(pa.Table.from_pylist([dict(zip(("run", "encounter_id", "individual"), k, strict=True)) for k in keys]))
    return made


def invoke(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def names(gallery) -> dict[str, str]:
    return {f"{run} {e}": name for (run, e), name in gallery.catalogue().names.items()}


def test_decide_merge_split_undo(gallery, monkeypatch):
    uri = gallery.uri
    out = invoke("decide", uri, "2#0", "--run", "south", "--same", "Aino", "--by", "Mia")
    assert "same Aino: 2#0" in out
    assert "1 of 4 encounters have no name" in out
    invoke("merge", uri, "Bo", "Aino", "--by", "Mia", "--reason", "scar")
    assert names(gallery) == {"north 1#0": "Aino", "south 2#0": "Aino", "south 3#0": "Aino"}
    invoke("split", uri, "Aino", "3#0", "--new", "Cleo", "--by", "Mia")
    assert names(gallery) == {"north 1#0": "Aino", "south 2#0": "Aino", "south 3#0": "Cleo"}
    last = gallery.decisions()[-1].decision_id
    invoke("undo", uri, last[:8], "--by", "Mia")
    assert names(gallery)["south 3#0"] == "Aino"
    monkeypatch.setenv("COLUMNS", "200")
    told = invoke("journal", uri, "--of", "Aino")
    for part in ("new Aino: 1#0", "merge Bo -> Aino", "scar", "split Aino -> Cleo: 3#0", "undone"):
        assert part in told
    assert "new Bo" not in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("decide", "{uri}", "2#0", "--same", "Aino"), "Several runs have an encounter 2#0: north, south. Say which"),
        (("decide", "{uri}", "9#0", "--same", "Aino"), "has no encounter 9#0"),
        (("decide", "{uri}", "1#0"), "Expected one of --same NAME"),
        (("decide", "{uri}", "1#0", "--unknown", "--not-animal"), "Expected one of --same NAME"),
        (("decide", "{uri}", "1#0", "--other-animal"), "needs its instance_id"),
        (("undo", "{uri}", "zz"), "0 decisions begin with 'zz'"),
        (("undo", "{uri}", ""), "2 decisions begin with ''"),
        (("merge", "{uri}", "Aino", "Aino"), "merged with itself"),
    ],
)
def test_what_cannot_be(gallery, arguments, message):
    with pytest.raises(UserError, match=message):
        invoke(*(a.format(uri=gallery.uri) for a in arguments))
    assert len(gallery.decisions()) == 2
