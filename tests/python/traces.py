"""The trace of a simulated call, asked for at the store that a collector sent it to."""

import json
import os
import re
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request

from programs import Program, free_port, pair

AUTH_TOKEN = "development-token-of-the-traces"
PUBLIC_URL = "https://voice.example.com"
CALLER, CALLED = "+15550147", "+15550148"

# How long the store may take to start, and a trace to get there.
START_PATIENCE = 180.0
TRACE_PATIENCE = 60.0

# Each span of an inbound call whose caller hangs up, and its parent.
EXPECTED = {
    "POST /voice/incoming": None,
    "stream": "POST /voice/incoming",
    "conversation": "stream",
    "utterance": "conversation",
}
GATEWAY, WORKER = "tandem-gateway", "tandem-worker"


class Store:
    """Phoenix, which keeps spans and answers for them."""

    def __init__(self, scripts):
        self.port, self.otlp = free_port(), free_port()
        settings = {
            "PHOENIX_WORKING_DIR": ".",
            "PHOENIX_HOST": "127.0.0.1",
            "PHOENIX_PORT": str(self.port),
            "PHOENIX_GRPC_PORT": str(self.otlp),
            "PHOENIX_TELEMETRY_ENABLED": "false",
            "HOME": os.environ.get("HOME", "/"),
        }
        self.program = Program([f"{scripts}/phoenix", "serve"], settings)

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as reply:
            return reply.read()

    def spans(self):
        try:
            return json.loads(self.get("/v1/projects/default/spans?limit=100"))["data"]
        except urllib.error.HTTPError as error:
            if error.code == 404:  # No project before its first span.
                return []
            raise

    def wait_until_up(self):
        def up():
            if self.program.process.poll() is not None:
                raise RuntimeError(f"the store ended: {self.program.lines[-20:]}")
            try:
                self.get("/healthz")
                return True
            except (urllib.error.URLError, OSError):
                return False

        wait(START_PATIENCE, up, lambda: f"the store is not up: {self.program.lines[-20:]}")


def wait(patience, holds, complaint):
    deadline = time.monotonic() + patience
    while not holds():
        if time.monotonic() > deadline:
            raise RuntimeError(complaint())
        time.sleep(0.5)


def collector(packages, store):
    """rotel, which hands everything on to the store and prints it; and its address."""
    port = free_port()
    command = [f"{packages}/rotel/rotel-agent", "start", "--otlp-grpc-endpoint", f"127.0.0.1:{port}"]
    command += ["--otlp-http-endpoint", f"127.0.0.1:{free_port()}", "--exporter", "otlp"]
    command += ["--otlp-exporter-endpoint", f"http://127.0.0.1:{store.otlp}"]
    command += ["--debug-log", "traces", "--debug-log-verbosity", "detailed"]
    return Program(command, {"RUST_LOG": "info"}), f"http://127.0.0.1:{port}"


def call(binaries, gateway):
    command = [f"{binaries}/simulated-twilio", "--gateway", gateway, "--public-url", PUBLIC_URL]
    command += ["--from", CALLER, "--to", CALLED, "--hangup-after", "2s"]
    environment = {"PATH": os.environ.get("PATH", ""), "TWILIO_AUTH_TOKEN": AUTH_TOKEN}
    subprocess.run(command, env=environment, check=True, timeout=60, stdout=subprocess.DEVNULL)


def check(spans, printed):
    by_id = {span["context"]["span_id"]: span for span in spans}
    assert len({span["context"]["trace_id"] for span in spans}) == 1, spans
    for span in spans:
        parent = by_id[span["parent_id"]]["name"] if span["parent_id"] else None
        assert parent == EXPECTED[span["name"]], f"{span['name']} is below {parent}"
    attributes = {span["name"]: span["attributes"] for span in spans}
    sid = attributes["stream"]["call_sid"]
    assert sid.startswith("CA") and attributes["conversation"]["call_id"] == sid, attributes
    assert attributes["stream"]["end_reason"] == "caller_hangup", attributes["stream"]
    assert int(attributes["stream"]["caller_frames"]) > 50, attributes["stream"]
    # The store does not tell whose span it is; the collector does.
    services = set(re.findall(rf"{GATEWAY}|{WORKER}", printed))
    assert services == {GATEWAY, WORKER}, services
    everything = json.dumps(spans) + printed
    for secret in (CALLER, CALLED, AUTH_TOKEN):
        assert secret.lstrip("+") not in everything, "a secret in a span"


def main(binaries):
    programs = []
    try:
        store = Store(sysconfig.get_path("scripts"))
        programs.append(store.program)
        agent, endpoint = collector(sysconfig.get_path("purelib"), store)
        programs.append(agent)
        began = time.monotonic()
        store.wait_until_up()
        print(f"the store is up after {time.monotonic() - began:.0f} s")
        settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "200"}
        started, gateway = pair(binaries, AUTH_TOKEN, PUBLIC_URL, None, settings, settings)
        programs += started
        call(binaries, gateway)
        spans = []

        def arrived():
            spans[:] = store.spans()
            return {span["name"] for span in spans} == set(EXPECTED)

        complaint = lambda: f"the store has only {[span['name'] for span in spans]}; {agent.lines[-20:]}"
        wait(TRACE_PATIENCE, arrived, complaint)
        check(spans, "\n".join(agent.lines))
        print(f"{len(spans)} spans of one call over both services arrived in one trace")
    finally:
        for program in reversed(programs):
            program.stop()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
