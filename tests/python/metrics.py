"""Prometheus scrapes the pair while it takes calls: every metric that a dashboard or an alert asks for must be there, and
every question must have an answer."""

import json
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

from programs import Program, free_port, pair

AUTH_TOKEN = "token-of-the-metrics-test"
PUBLIC_URL = "https://voice.example.com"
PATIENCE = 40.0
OBSERVABILITY = pathlib.Path(__file__).resolve().parents[2] / "deploy" / "observability"
AGENTS = '''
[defaults.speech_to_text]
url = "http://127.0.0.1:9/v1"
model = "m"
[defaults.chat]
url = "http://127.0.0.1:9/v1"
model = "m"
[defaults.text_to_speech]
url = "http://127.0.0.1:9/v1"
model = "m"
[agent.desk]
kind = "pipeline"
instructions = "Be brief."
'''
# Grafana fills these in.
VARIABLES = {"$__rate_interval": "20s", "$__range": "60s"}


def fetch(url):
    with urllib.request.urlopen(url, timeout=10) as reply:
        return reply.read().decode()


def queries():
    """What dashboards and alerts ask, each with where it stands."""
    for board in sorted(OBSERVABILITY.glob("grafana/dashboards/*.json")):
        for panel in json.loads(board.read_text())["panels"]:
            for target in panel["targets"]:
                yield f"{board.name}: {panel['title']}", target["expr"]


def metric_names(text):
    return set(re.findall(r"\b(tandem_\w+)", text))


class Prometheus:
    def __init__(self, folder, gateway, worker):
        self.url = f"http://127.0.0.1:{free_port()}"
        jobs = [("gateway", gateway), ("audio-worker", worker)]
        configuration = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(OBSERVABILITY / "alerts.yml")],
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]} for job, port in jobs
            ],
        }
        path = pathlib.Path(folder) / "prometheus.yml"
        path.write_text(json.dumps(configuration))
        self.program = Program([
            "prometheus", f"--config.file={path}", f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address={self.url.removeprefix('http://')}",
        ])

    def ask(self, path, **parameters):
        answer = json.loads(fetch(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"))
        return answer["data"]

    def query(self, expression):
        return self.ask("query", query=expression)["result"]

    def until(self, what, condition):
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                if condition():
                    return
            except OSError:
                pass
            time.sleep(0.5)
        raise RuntimeError(f"{what} did not come true; {self.program.lines[-5:]}")


def call(binaries, address):
    command = [f"{binaries}/simulated-twilio", "--gateway", address, "--public-url", PUBLIC_URL, "--calls", "3"]
    subprocess.run([*command, "--auth-token", AUTH_TOKEN], check=True, stdout=subprocess.DEVNULL, timeout=90)


def certificates(folder):
    """An authority, and one certificate for both halves of the pair: their settings."""
    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.crt", "-days", "90",
            "-subj", "/CN=pair")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "tls.key", "-out", "tls.csr", "-subj", "/CN=half")
    (pathlib.Path(folder) / "names").write_text("subjectAltName=IP:127.0.0.1")
    openssl("x509", "-req", "-in", "tls.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-out", "tls.crt",
            "-days", "60", "-extfile", "names")
    return {"TLS_CERT": f"{folder}/tls.crt", "TLS_KEY": f"{folder}/tls.key", "TLS_CA": f"{folder}/ca.crt"}


def check(prometheus):
    names = set(prometheus.ask("label/__name__/values"))
    asked = list(queries())
    wanted = {name: where for where, expression in asked for name in metric_names(expression)}
    wanted.update({name: "alerts.yml" for name in metric_names((OBSERVABILITY / "alerts.yml").read_text())})
    for name, where in sorted(wanted.items()):
        if name not in names:
            yield f"{where} asks for {name}, which there is not"
    for where, expression in asked:
        for variable, value in VARIABLES.items():
            expression = expression.replace(variable, value)
        if not prometheus.query(expression):
            yield f"{where}: no answer to {expression}"
    print(f"{len(wanted)} metrics and {len(asked)} questions of dashboards and alerts")
    for group in prometheus.ask("rules")["groups"]:
        for rule in group["rules"]:
            if rule["health"] != "ok":
                yield f"alert {rule['name']}: {rule.get('lastError', rule['health'])}"


def main(binaries):
    operations = (free_port(), free_port())
    # With certificates, so that what is told of them is there too.
    keys = tempfile.TemporaryDirectory()
    tls, worker_port = certificates(keys.name), free_port()
    # An agent that nobody calls: its providers are told of all the same.
    agents = pathlib.Path(keys.name) / "agents.toml"
    agents.write_text(AGENTS)
    worker = {**tls, "AGENTS_FILE": str(agents), "WORKER_LISTEN": f"127.0.0.1:{worker_port}"}
    gateway = {**tls, "WORKER_URL": f"https://127.0.0.1:{worker_port}"}
    started, address = pair(
        binaries, AUTH_TOKEN, PUBLIC_URL, operations=operations, more_settings=gateway, worker_settings=worker
    )
    failures = []
    try:
        with tempfile.TemporaryDirectory() as folder:
            prometheus = Prometheus(folder, *operations)
            try:
                prometheus.until("both services are up", lambda: prometheus.query("sum(up)==2"))
                call(binaries, address)
                ended = "sum(increase(tandem_worker_conversations_total[20s])) > 0"
                prometheus.until("the calls are counted", lambda: prometheus.query(ended))
                prometheus.until("the alerts are judged", lambda: prometheus.ask("rules")["groups"][0]["lastEvaluation"] > "1970")
                failures += check(prometheus)
            finally:
                prometheus.program.stop()
        for port in operations:
            text = fetch(f"http://127.0.0.1:{port}/metrics")
            lint = subprocess.run(["promtool", "check", "metrics"], input=text, text=True, capture_output=True)
            failures += [f"promtool: {line}" for line in (lint.stdout + lint.stderr).splitlines() if line.strip()]
    finally:
        for program in started:
            program.stop()
        keys.cleanup()
    for failure in failures:
        print(f"FAILED: {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
