"""Requests that nobody thought of, made by schemathesis from the description of the calls API.

    calls_api.py FOLDER_OF_BINARIES

Starts a simulated account, a worker and a gateway, keeps calls alive on them, and lets schemathesis ask for every
operation of /v1/openapi.json. What counts as a failure is in calls_api.toml. The exit code is 0 when there was none, and
when the requests reached what they were meant to reach.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.parse
import urllib.request

from programs import free_port, pair, simulated_twilio

HERE = pathlib.Path(__file__).resolve().parent
ACCOUNT, NUMBER = "AC" + "0" * 32, "+15550199"
AUTH_TOKEN, API_TOKEN = "token-of-the-account", "token-of-the-requests-made-up"
PUBLIC_URL, EVENTS_HOST = "https://voice.tandem.example", "events.tandem.example"

# Calls that are kept alive, so that requests about a call find one with an agent at the other end.
LIVE_CALLS = 4
# What the machine bears with services that are not optimised. Each call is long enough to be asked for more than once.
MAX_CALLS, CALL_SECONDS = 16, 5

# Answers without which the run has shown nothing, and how many of each there must be.
REACHED = {
    "createCall": {201: 10, 400: 10, 401: 1, 415: 1, 422: 1},
    "createCallByQuery": {201: 3, 400: 5, 401: 1},
    "listCalls": {200: 10, 400: 5, 401: 1},
    "getCall": {200: 10, 401: 1, 404: 3},
    "changeCall": {200: 10, 400: 10, 401: 1, 404: 1, 415: 1},
    "createBrowserCall": {201: 3, 400: 10, 401: 1, 415: 1},
    "endCall": {204: 10, 401: 1, 404: 1},
    "describe": {200: 1},
    "health": {200: 1},
}


class Caller(threading.Thread):
    """Places calls as others end."""

    def __init__(self, address):
        super().__init__(daemon=True)
        self.address, self.stopped = address, threading.Event()

    def run(self):
        while not self.stopped.wait(0.1):
            try:
                live = self.ask("GET", "/v1/calls?state=live&limit=500")["calls"]
                live = [call for call in live if call["from"] != "client:browser"]
                streaming = [call for call in live if call["stream"] in ("live", "held")]
                if len(streaming) < LIVE_CALLS and len(live) < MAX_CALLS:
                    self.ask("POST", "/v1/calls", {"to": "+15550100", "agent": "echo"})
            except (urllib.error.URLError, OSError) as error:
                # Others may have taken the last place.
                if getattr(error, "code", None) != 429:
                    print(f"the caller could not ask: {error}")

    def ask(self, method, path, body=None):
        headers = {"Authorization": f"Bearer {API_TOKEN}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{self.address}{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=10) as reply:
            return json.load(reply)


def settings(twilio):
    return {
        "API_TOKENS": API_TOKEN,
        "API_REQUESTS_PER_SECOND": "10000",
        "BROWSER_CALLS": "on",
        # Each ticket holds a place for a minute.
        "MAX_CALLS": "10000",
        "TWILIO_ACCOUNT_SID": ACCOUNT,
        "TWILIO_PHONE_NUMBER": NUMBER,
        "TWILIO_API_URL": twilio,
        # Everything but premium rates: a number that is made up should be called.
        "OUTBOUND_ALLOW": ",".join(f"+{digit}" for digit in range(1, 10)),
        "OUTBOUND_CALLS_PER_SECOND": "1000",
        "OUTBOUND_QUEUE": "10000",
        "OUTBOUND_MAX_CALLS": str(MAX_CALLS),
        "OUTBOUND_MINUTES_PER_DAY": "1000000",
        "OUTBOUND_PER_TO_PER_HOUR": "100000",
        "OUTBOUND_PER_FROM_PER_HOUR": "100000",
        "MAX_CALLS_PER_SECOND": "0",
        "EVENTS_SECRET": "secret-of-the-events",
        "EVENTS_HOSTS": EVENTS_HOST,
        "RUST_LOG": "warn,gateway::carrier=info",
    }


def schemathesis(address, folder, tally):
    # From a file: the address of the description itself would be left out.
    with urllib.request.urlopen(f"http://{address}/v1/openapi.json", timeout=10) as reply:
        description = pathlib.Path(folder) / "openapi.json"
        description.write_bytes(reply.read())
    command = [str(pathlib.Path(sys.executable).parent / "st"), "--config-file", str(HERE / "calls_api.toml")]
    command += ["run", str(description), "--url", f"http://{address}"]
    environment = {
        **os.environ,
        "API_TOKEN": API_TOKEN,
        "GATEWAY": f"http://{address}",
        "TALLY": tally,
        "NUMBER": NUMBER,
        "STREAM": f"wss://{urllib.parse.urlsplit(PUBLIC_URL).netloc}/voice/stream",
        "WEBHOOK": f"https://{EVENTS_HOST}/calls",
        "PYTHONPATH": str(HERE),
        "SCHEMATHESIS_HOOKS": "calls_api_hooks",
    }
    # Whatever it keeps goes where nothing is kept.
    return subprocess.run(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL).returncode


def missing(tally):
    """What was to be reached and was not."""
    with open(tally) as file:
        counts = json.load(file)
    for operation, answers in sorted(counts.items()):
        print(f"{operation:18}", "  ".join(f"{status}: {count}" for status, count in sorted(answers.items())))
    for operation, answers in REACHED.items():
        for status, least in answers.items():
            count = counts.get(operation, {}).get(str(status), 0)
            if count < least:
                yield f"{operation} answered {status} {count} times and not {least}"


def main(binaries):
    port = free_port()
    flags = ["--gateway", f"127.0.0.1:{port}", "--public-url", PUBLIC_URL, "--number", NUMBER]
    flags += ["--calls-per-second", "0", "--ring", "10ms", "--detected-after", "100ms"]
    twilio, api = simulated_twilio(binaries, AUTH_TOKEN, *flags, "--hangup-after", f"{CALL_SECONDS}s")
    programs = [twilio]
    try:
        started, address = pair(binaries, AUTH_TOKEN, PUBLIC_URL, port, settings(api))
        programs += started
        caller = Caller(address)
        caller.start()
        with tempfile.TemporaryDirectory() as folder:
            tally = f"{folder}/tally.json"
            status = schemathesis(address, folder, tally)
            caller.stopped.set()
            caller.join()
            failures = [f"schemathesis ended with {status}"] if status else []
            failures += missing(tally)
        if failures:
            print("\n".join(["The gateway said:", *started[-1].lines]))
        failures += ["a service ended" for program in started if program.process.poll() is not None]
    finally:
        for program in programs:
            program.stop()
    for failure in failures:
        print(f"FAILED: {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
