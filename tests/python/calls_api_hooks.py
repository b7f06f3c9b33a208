"""What schemathesis cannot know: which calls are live, and what a problem of ours looks like."""

import atexit
import collections
import itertools
import json
import os
import random
import time
import urllib.request

import schemathesis
from schemathesis import GenerationMode
from schemathesis.core.parameters import ParameterLocation

GATEWAY, TOKEN, TALLY = os.environ["GATEWAY"], os.environ["API_TOKEN"], os.environ["TALLY"]
NUMBER, STREAM, WEBHOOK = os.environ["NUMBER"], os.environ["STREAM"], os.environ["WEBHOOK"]

PATH, QUERY, BODY = ParameterLocation.PATH, ParameterLocation.QUERY, ParameterLocation.BODY

# How long to wait for a live call: requests before this one may have ended all.
PATIENCE = 2.0

tally = collections.defaultdict(collections.Counter)
turns = itertools.count(1)
chance = random.Random(20240517)


# What can be carried out here; anything else is as it should be and still refused.
POSSIBLE = {"agent": "echo", "from": NUMBER, "from_number": NUMBER, "websocket_url": STREAM, "status_webhook": WEBHOOK}


@schemathesis.hook
def before_call(context, case, kwargs):
    """Of what is not wrong on purpose, three of four become something that can be carried out: ids are those of live
    calls, and calls are asked for that can be placed."""
    if case.meta is None or next(turns) % 4 == 0:
        return
    # Ids of links are calls that were placed.
    if "id" in case.path_parameters and case.meta.phase.name.value != "stateful" and is_good(case, PATH):
        ids = live_ids()
        case.path_parameters["id"] = chance.choice(ids) if ids else case.path_parameters["id"]
    if case.operation.definition.raw["operationId"] in ("createCall", "createBrowserCall") and is_good(case, BODY):
        case.body.update({field: value for field, value in POSSIBLE.items() if case.body.get(field)})
    if case.operation.definition.raw["operationId"] == "createCallByQuery" and is_good(case, QUERY):
        case.query.update({field: value for field, value in POSSIBLE.items() if case.query.get(field)})


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


def is_good(case, location):
    component = case.meta.components.get(location)
    return component is not None and component.mode == GenerationMode.POSITIVE


def live_ids():
    """Ours and Twilio's ids in turn; none when no call began in time."""
    request = urllib.request.Request(f"{GATEWAY}/v1/calls?state=live&limit=500")
    request.add_header("Authorization", f"Bearer {TOKEN}")
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with urllib.request.urlopen(request, timeout=10) as reply:
            calls = json.load(reply)["calls"]
        # Not all that browsers have announced, of which nothing more comes here.
        calls = [call for call in calls if call["stream"] in ("live", "held")][:50]
        if calls:
            return [call["id"] if at % 2 else call["call_sid"] for at, call in enumerate(calls)]
        time.sleep(0.05)
    return []


@atexit.register
def write_tally():
    with open(TALLY, "w") as file:
        json.dump(tally, file)
