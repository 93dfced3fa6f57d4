"""Settings: YAML, overrides, and messages that name the place."""

import pytest

from pusa.config import Config, load_config
from pusa.errors import UserError


class Inner(Config):
    size: int = 3


class Outer(Config):
    inner: Inner = Inner()
    name: str = "x"


def test_file_then_overrides(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("name: from file\ninner: {size: 4}\n")
    assert load_config(Outer, path, {"inner.size": 5}) == Outer(inner=Inner(size=5), name="from file")
    assert load_config(Outer) == Outer()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nme: typo", "setting `nme`"),  # an unknown key
        ("inner: {size: many}", r"setting `inner.size`.*'many'"),  # a wrong type
        ("inner: {size: 1, sice: 2}", "setting `inner.sice`"),  # an unknown key further in
        ("- a list", "expected a mapping of settings, found list"),
        ("a: [1", "not valid YAML"),
    ],
)
def test_what_does_not_fit(tmp_path, text, message):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        load_config(Outer, path)
    assert "c.yaml" in str(error.value)


def test_no_such_file(tmp_path):
    with pytest.raises(UserError, match="Cannot read the settings file"):
        load_config(Outer, tmp_path / "nothing.yaml")
