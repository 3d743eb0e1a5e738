"""Requests that are generated from the service's description of itself, by schemathesis."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
from schemathesis.generation import GenerationMode  # noqa: E402  # only if it is installed
from schemathesis.specs.openapi import checks  # noqa: E402

WORK = ["/restore", "/kernel"]
STATE = ["/healthz", "/readyz", "/metrics"]
CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]
SETTINGS = settings(
    max_examples=12, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture(scope="module")
def description(address):
    return schemathesis.openapi.from_url(f"{address}openapi.json")


def test_all_routes_are_described(description):
    operations = [found.ok() for found in description.get_all_operations()]
    described = {(each.path, each.method.upper()) for each in operations}
    assert described == {*((path, "POST") for path in WORK), *((path, "GET") for path in STATE)}


@pytest.mark.parametrize("path", WORK)
@pytest.mark.parametrize("fitting", [True, False], ids=["fitting", "wrong"])
def test_generated_requests_get_the_described_answers(description, png, path, fitting):
    mode = GenerationMode.POSITIVE if fitting else GenerationMode.NEGATIVE
    statuses = set()

    @SETTINGS
    @given(case=description[path]["POST"].as_strategy(generation_mode=mode), is_photograph=st.booleans())
    def send(case, is_photograph):
        if fitting:  # with numbers that take no minutes, a photograph in most requests, and texts mostly empty
            files = ("kernel_file", "mask_file")
            named = {name: value for name, value in case.body.items() if value is not None and name not in files}
            case.body = {**named, "kernel_numbers": "", "region": "", "crop": ""} if path == "/restore" else named
            case.body |= {"steps": 1} if path == "/restore" else {"region": ""}
            case.body.pop("page", None)
            case.query = {}  # no deadline, which may be too short
            case.body["photograph"] = png if is_photograph else b"no photograph"
        response = case.call(timeout=60)
        statuses.add(response.status_code)
        assert response.status_code != 500
        assert response.status_code != 504 or "deadline" in case.query
        case.validate_response(response, checks=CHECKS)

    send()
    assert (200 in statuses) == fitting


@pytest.mark.parametrize("path", STATE)
def test_the_state_is_answered_as_described(description, path):
    case = description[path]["GET"].Case()
    case.validate_response(case.call(timeout=60), checks=CHECKS)
