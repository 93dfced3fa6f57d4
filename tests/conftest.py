"""Shared by all tests: one Ray session, and the folder of reference data beside the project, where it exists."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.pop("RAY_ADDRESS", None)
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # small networks; more threads than free cores wait for each other
settings.register_profile("pusa", deadline=None)  # a busy machine is no failure
settings.load_profile("pusa")

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with reference outputs of other implementations; tests that need it skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("the reference data (../shared) is not here")
    return SHARED


@pytest.fixture(scope="session")
def cluster():
    """One Ray session of two CPUs for all tests that need one: what works there works on a laptop."""
    from pipelines import cluster

    with cluster.connect("local", num_cpus=2, log_to_driver=True):  # its stderr is pytest's
        yield
