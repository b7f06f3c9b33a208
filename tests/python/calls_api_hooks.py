"""What schemathesis cannot know: which calls are live, and what a problem of ours looks like."""

import atexit
import collections
import json
import os
import time
import urllib.request

import schemathesis
from schemathesis import GenerationMode
from schemathesis.core.parameters import ParameterLocation

GATEWAY, TOKEN, TALLY = os.environ["GATEWAY"], os.environ["API_TOKEN"], os.environ["TALLY"]

# How long a list of live calls is good.
FRESH_SECONDS = 0.2

tally = collections.defaultdict(collections.Counter)
live = {"at": 0.0, "ids": [], "turn": 0}


@schemathesis.hook
def before_call(context, case, kwargs):
    """Three of four made-up ids, where they are not wrong on purpose, become one of a live call."""
    if "id" not in case.path_parameters or is_negated(case):
        return
    live["turn"] += 1
    ids = live_ids() if live["turn"] % 4 else []
    if ids:
        case.path_parameters["id"] = ids[live["turn"] % len(ids)]


@schemathesis.hook
def after_call(context, case, response):
    operation = case.operation.definition.raw.get("operationId", case.operation.label)
    if case.method == case.operation.method.upper():
        tally[operation][response.status_code] += 1


@schemathesis.check
def problem_says_what_to_do(ctx, response, case):
    """Whatever is refused is refused in the same form, also where the description has no say: unknown methods."""
    if response.status_code < 400:
        return
    kind = response.headers.get("content-type", [""])[0]
    assert kind == "application/problem+json", f"{response.status_code} came as {kind!r}"
    problem = response.json()
    assert problem["status"] == response.status_code, f"{problem['status']} is not the status"
    assert problem["code"] in codes(case), f"{problem['code']!r} is no code that is described"
    assert len(problem["detail"]) > 10, f"{problem['detail']!r} says too little"


def codes(case):
    return case.operation.schema.raw_schema["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]


def is_negated(case):
    """Whether the id is wrong on purpose; those of links are calls that were placed."""
    if case.meta is None or case.meta.phase.name.value == "stateful":
        return True
    component = case.meta.components.get(ParameterLocation.PATH)
    return component is not None and component.mode == GenerationMode.NEGATIVE


def live_ids():
    """Ours and Twilio's ids in turn."""
    if time.monotonic() - live["at"] > FRESH_SECONDS:
        request = urllib.request.Request(f"{GATEWAY}/v1/calls?state=live&limit=50")
        request.add_header("Authorization", f"Bearer {TOKEN}")
        with urllib.request.urlopen(request, timeout=10) as reply:
            calls = json.load(reply)["calls"]
        calls = [call for call in calls if call["stream"] in ("live", "held")]
        live["ids"] = [call["id"] if at % 2 else call["call_sid"] for at, call in enumerate(calls)]
        live["at"] = time.monotonic()
    return live["ids"]


@atexit.register
def write_tally():
    with open(TALLY, "w") as file:
        json.dump(tally, file)
