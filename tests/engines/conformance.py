"""Schemathesis over a served OpenAPI description: no 5xx that is not documented, no undocumented status or body."""

from __future__ import annotations

from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


def faults(url: str, key: str, examples: int) -> list[str]:
    """What each operation, with valid and with invalid requests, does that the description does not say."""
    description = schemathesis.openapi.from_url(f"{url}/v1/openapi.json")
    found: list[str] = []
    modes = schemathesis.GenerationMode
    for result in description.get_all_operations():
        assert isinstance(result, Ok), result
        operation = result.ok()
        for mode in (modes.POSITIVE, modes.NEGATIVE):

            @seed(7)
            @settings(
                max_examples=examples,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def explore(case: schemathesis.Case[Any]) -> None:
                case.call_and_validate(
                    base_url=url, headers={"Authorization": f"Bearer {key}"}, checks=CHECKS, timeout=60
                )

            try:
                explore()
            except Unsatisfiable:
                continue  # without parameters and body no request to this operation is invalid
            except (Exception, BaseExceptionGroup) as err:  # noqa: BLE001 - every operation is reported, not the first
                found.append(f"{operation.method.upper()} {operation.path} {mode.value}: {err}")
    return found
