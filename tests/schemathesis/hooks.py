"""What Schemathesis can not know from the description: what cursors look like, that every error is a problem, and the
two refusals of an order that no schema can express."""

import atexit
import base64
import collections
import json
import os
import threading

import schemathesis
from hypothesis import strategies as st

PROBLEM = "urn:saga-host:problem:"
tally = collections.Counter()
lock = threading.Lock()


def cursor(tag, *parts):
    return st.tuples(*parts).map(lambda values: base64.urlsafe_b64encode(tag + b"".join(values)).decode().rstrip("="))


def number(length, highest):
    return st.integers(0, highest).map(lambda value: value.to_bytes(length, "big"))


uuid = st.binary(min_size=16, max_size=16)
schemathesis.openapi.format("order-cursor", cursor(b"o", uuid))
schemathesis.openapi.format("dead-letter-cursor", cursor(b"d", number(8, 2**32), number(4, 999_999_999), uuid))


@schemathesis.check
def errors_are_problems(ctx, response, case):
    """Every error is a problem of its status; what may be repeated at once says when."""
    status = response.status_code
    if status < 400 or response.request.method == "HEAD":
        return
    types = response.headers.get("content-type", [])
    assert types == ["application/problem+json"], f"an error of type {types}"
    problem = json.loads(response.content)
    assert problem["status"] == status, f"a problem of another status: {problem}"
    assert problem["type"].startswith(PROBLEM) and problem["title"], f"a problem without type or title: {problem}"
    for error in problem.get("errors", []):
        assert error["field"] is not None and error["detail"], f"an error that says nothing: {problem}"
    if problem["type"] == PROBLEM + "unavailable":
        assert response.headers.get("retry-after"), "unavailable, and nobody says until when"
    if status == 405:
        assert response.headers.get("allow"), "not allowed, and nobody says what is"
    if status == 401:
        assert response.headers.get("www-authenticate"), "not authenticated, and nobody says how"


@schemathesis.check
def requests_have_ids(ctx, response, case):
    """Every answer tells its request apart in the log."""
    assert response.headers.get("x-request-id"), "an answer without x-request-id"


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """A valid order may be refused for what it costs altogether, or because its key was used before."""
    if type(failure).__name__ != "RejectedPositiveData" or response.status_code != 422:
        return True
    problem = json.loads(response.content)
    too_dear = [error["detail"].startswith("cost more than") for error in problem["errors"]] == [True]
    return not (too_dear or problem["type"] == PROBLEM + "idempotency-key-reused")


@schemathesis.hook
def after_call(context, case, response):
    with lock:
        tally[f"{case.operation.label} {response.status_code}"] += 1


@atexit.register
def write_tally():
    path = os.environ.get("SAGA_TALLY")
    if path:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(tally, file)
