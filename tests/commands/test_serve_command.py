"""`pusa serve` and `pusa keys`, as far as they go without serving."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from commands.main import app
from pusa.errors import UserError

CONFIG = Path(__file__).resolve().parents[2] / "serving" / "config.yaml"


def invoke(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_configuration_is_checked(tmp_path):
    assert "holds" in invoke("serve", "--config", str(CONFIG), "--check")
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(CONFIG.read_text().replace("max_ongoing_requests", "max_ongoing_request"))
    with pytest.raises(UserError, match="max_ongoing_request` is not known"):
        invoke("serve", "--config", str(wrong), "--check")
    with pytest.raises(UserError, match="Which gallery"):
        invoke("serve", "--data", str(tmp_path))


def test_keys(tmp_path):
    data = str(tmp_path / "data")
    key = invoke("keys", "add", "Mia Aalto", "--role", "reviewer", "--data", data).split()[0]
    assert key.startswith("pusa_")
    listed = invoke("keys", "list", "--data", data)
    assert "Mia Aalto\treviewer" in listed
    assert key not in listed
    with pytest.raises(UserError, match="There was a key for Mia Aalto before"):
        invoke("keys", "add", "Mia Aalto", "--data", data)
    with pytest.raises(UserError, match="'boss' is no role"):
        invoke("keys", "add", "Bo", "--role", "boss", "--data", data)
    invoke("keys", "revoke", "Mia Aalto", "--data", data)
    assert "revoked" in invoke("keys", "list", "--data", data)
    with pytest.raises(UserError, match="no key for Mia Aalto that holds"):
        invoke("keys", "revoke", "Mia Aalto", "--data", data)
