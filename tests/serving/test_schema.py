"""Requests made of the API's own description, well-formed and not: none may end in an error of the server, and every
answer is as described."""

from __future__ import annotations

import contextlib

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    ignored_auth,
    negative_data_rejection,
    positive_data_acceptance,
)

from .conftest import Still, serving

# A form without a file is well-formed, and refused all the same; the key is sent by the test, with every request;
# unknown parameters of an address are passed over, as everywhere.
OURS = [positive_data_acceptance, ignored_auth, negative_data_rejection]


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_no_request_is_too_much(config, keys, mode):
    asked = []
    with serving(config, Still()) as address:
        schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
        for operation in (found.ok() for found in schema.get_all_operations()):

            @given(case=operation.as_strategy(generation_mode=mode))
            @settings(
                max_examples=10, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
            )
            def ask(case):
                case.call_and_validate(headers=keys["admin"], excluded_checks=OURS)
                asked.append(case.operation.label)

            with contextlib.suppress(Unsatisfiable):  # what takes no parameter cannot be asked wrongly
                ask()
    assert len(set(asked)) > 15
