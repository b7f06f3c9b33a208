"""Workers come and go under calls: a worker is added and one is taken away, and in the end all carry alike.

    scale.py SIMULATED_TWILIO GATEWAY PUBLIC_URL COMPOSE...

For a deployment of docker-compose.yml that runs, of which GATEWAY (host:port) is the published port, with TWILIO_AUTH_TOKEN in
the environment and DRAIN_SECONDS above the 75 s that calls last here. COMPOSE is the command that rules it, without a
subcommand. Brings the deployment to three workers and leaves it with three. Prints a line for each check; the exit code is 1 when
one does not hold.
"""

import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

SERVICE, GATEWAY = "audio-worker", "gateway"
WORKERS, CALLS = 3, 100
# Largest difference between two workers, as a share of the mean.
MOST_SPREAD = 0.20
# From when DNS shows a worker until it has its first call.
USED_WITHIN = 5.0
# Calls that come one after another while a worker is added, so that there is something to give it: so many in two seconds.
TRICKLE = 10
# Seconds that calls last: half of the first end while the further ones come, half of them afterwards.
SHORT, LONG, FURTHER = 35, 75, 25
DRAIN_LIMIT = 100
PATIENCE = 30.0
POLL = 0.05


class Checks:
    """Says what holds and what does not."""

    def __init__(self):
        self.failed = 0

    def holds(self, what, condition):
        self.failed += not condition
        print(f"{'ok    ' if condition else 'FAILED'}  {what}", flush=True)


def output(*command, limit=PATIENCE):
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=limit).stdout


def fetch(url):
    """A page, of whatever status; None when nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except (OSError, http.client.HTTPException):
        return None


def eventually(what, condition, patience=PATIENCE):
    """Waits for a condition and gives what it gives."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(POLL)
    raise RuntimeError(f"not within {patience:.0f} s: {what}")


class Worker:
    """A worker in its container; what it said last stays known when it is gone."""

    def __init__(self, address, container=None):
        self.address, self.container, self.opened = address, container, 0

    def numbers(self):
        """Live conversations, and those taken since the start; none live where nobody answers."""
        reply = fetch(f"http://{self.address}:9465/metrics")
        if reply is None:
            return 0, self.opened
        read = lambda name: int(float(re.search(rf"^tandem_worker_{name} (\S+)$", reply[1], re.M)[1]))
        self.opened = read("conversations_opened_total")
        return read("live_conversations"), self.opened

    def is_draining(self):
        reply = fetch(f"http://{self.address}:9465/readyz")
        return reply is not None and reply[0] == 503


class Deployment:
    def __init__(self, compose):
        self.compose = compose
        self.gateway = self.containers(GATEWAY)[0]
        self.gateway_address = self.address(self.gateway)

    def containers(self, service):
        return output(*self.compose, "ps", "-q", service).split()

    def address(self, container):
        form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        return output("docker", "inspect", "-f", form, container).strip()

    def scale(self, count):
        return subprocess.Popen(
            [*self.compose, "up", "-d", "--no-build", "--no-recreate", "--scale", f"{SERVICE}={count}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )

    def resolved(self):
        """The workers' addresses, as the gateway's resolver has them."""
        answer = output("docker", "exec", self.gateway, "getent", "ahostsv4", SERVICE)
        return {line.split()[0] for line in answer.splitlines()}

    def readiness(self):
        return json.loads((fetch(f"http://{self.gateway_address}:9464/readyz") or (0, "{}"))[1])


class Callers:
    """Calls of a simulated Twilio, spread over a ramp; each lasts so long."""

    def __init__(self, target, name, calls, ramp, lasts):
        program, gateway, public_url = target
        self.name, self.calls, self.reports = name, calls, tempfile.TemporaryFile("w+")
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [program, "--gateway", gateway, "--public-url", public_url, "--json", "--no-echo",
             "--calls", str(calls), "--ramp", f"{ramp}s", "--hangup-after", f"{lasts}s"],
            stdin=subprocess.DEVNULL, stdout=self.reports,
        )

    def lost(self):
        """Waits for all calls; what became of those that did not have their agent until they hung up."""
        self.process.wait(LONG + 2 * PATIENCE)
        self.reports.seek(0)
        reports = json.load(self.reports)
        wrong = [fate for fate in map(self._fate, reports) if fate]
        return wrong + ["not placed"] * (self.calls - len(reports))

    def echoed(self):
        """The share of what was said that came back, over all calls: a busy machine loses some."""
        self.reports.seek(0)
        streams = [stream for report in json.load(self.reports) for stream in report["streams"]]
        return sum(stream["frames_received"] for stream in streams) / max(1, sum(stream["frames_sent"] for stream in streams))

    @staticmethod
    def _fate(report):
        """What went wrong with a call, if anything did."""
        streams, said = report["streams"], report["said"]
        ended = [(stream["ended"], stream["close_code"]) for stream in streams]
        if report["rejected"] or said or len(streams) != 1 or streams[0]["ended"] != "caller_hung_up":
            return f"ended as {ended}, heard {said}"
        return None if streams[0]["frames_received"] else "nothing came back"

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def spread(lives):
    return (max(lives) - min(lives)) * len(lives) / sum(lives)


def add_one(check, deployment, known, trickle):
    """Adds a worker; it must be used soon after DNS shows it."""
    scaling = deployment.scale(WORKERS + 1)
    shown, deadline = time.monotonic(), time.monotonic() + PATIENCE
    while not (new := deployment.resolved() - known):
        trickle()
        # The last time at which it was not there yet.
        shown = asked = time.monotonic()
        if asked > deadline:
            raise RuntimeError("DNS does not show the new worker")
        time.sleep(POLL)
    added = Worker(new.pop())
    eventually("the new worker has a call", lambda: trickle() or added.numbers()[1] > 0)
    took = time.monotonic() - shown
    check.holds(f"a new worker has its first call {took:.1f} s after DNS shows it (at most {USED_WITHIN:.0f})", took <= USED_WITHIN)
    check.holds("compose added it", scaling.wait(PATIENCE) == 0)
    return added


def run(check, deployment, place):
    if deployment.scale(WORKERS).wait(2 * PATIENCE):
        raise RuntimeError(f"compose does not scale to {WORKERS}")
    eventually(f"the gateway knows {WORKERS} workers", lambda: deployment.readiness().get("workers") == WORKERS)
    workers = [Worker(deployment.address(container), container) for container in deployment.containers(SERVICE)]
    known = {worker.address for worker in workers}
    before = sum(opened for _, opened in (worker.numbers() for worker in workers))

    def all_are(live, opened):
        numbers = [worker.numbers() for worker in workers]
        is_so = sum(n[0] for n in numbers) == live and sum(n[1] for n in numbers) == before + opened
        return [n[0] for n in numbers] if is_so else None

    eventually("earlier calls have ended", lambda: all_are(0, 0))
    began = time.monotonic()
    at = lambda: f"{time.monotonic() - began:4.0f} s"
    batches = [place("short ones", CALLS // 2, 3, SHORT), place("long ones", CALLS // 2, 3, LONG)]
    lives = eventually(f"{CALLS} calls are live", lambda: all_are(CALLS, CALLS))
    check.holds(f"{at()}: {CALLS} calls are at {WORKERS} workers as {lives}", spread(lives) <= MOST_SPREAD)

    trickles = []

    def trickle():
        if not trickles or time.monotonic() - trickles[-1].began > 2:
            trickles.append(place(f"trickle {len(trickles) + 1}", TRICKLE, 2, 3))

    workers.append(add_one(check, deployment, known, trickle))
    batches += trickles
    taken = CALLS + TRICKLE * len(trickles)
    lives = eventually("the trickle is over", lambda: all_are(CALLS, taken))
    print(f"        {at()}: with one more: {lives}", flush=True)

    removed, began_to_stop = workers[0], time.monotonic()
    stopping = subprocess.Popen(
        ["docker", "stop", "-t", str(DRAIN_LIMIT), removed.container], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    eventually("the worker that is taken away drains", removed.is_draining)
    eventually("the first of the short ones end", lambda: sum(worker.numbers()[0] for worker in workers) < CALLS)
    batches.append(place("further ones", CALLS, 12, FURTHER))
    total = taken + CALLS
    lives = eventually("all further calls are live, and the short ones have ended", lambda: all_are(CALLS + CALLS // 2, total))
    print(f"        {at()}: with {CALLS} further calls: {lives}, of which the first is the one that drains", flush=True)
    share = spread(lives[1:])
    check.holds(f"the workers that stay differ by {100 * share:.0f} % (at most {100 * MOST_SPREAD:.0f} %)", share <= MOST_SPREAD)
    check.holds("the worker that is taken away keeps its calls", lives[0] > 0)

    for batch in batches:
        lost = batch.lost()
        story = f"{lost[:3]}" if lost else f"{100 * batch.echoed():.1f} % of what was said came back"
        check.holds(f"{batch.name}: {len(lost)} of {batch.calls} calls lost; {story}", not lost)
    stopping.wait(DRAIN_LIMIT + PATIENCE)
    code = output("docker", "inspect", "-f", "{{.State.ExitCode}}", removed.container).strip()
    check.holds(f"the worker ended by itself after {time.monotonic() - began_to_stop:.0f} s, with exit code {code}", code == "0")
    output("docker", "rm", removed.container)
    eventually("no call is left", lambda: all_are(0, total))
    eventually(f"the gateway knows {WORKERS} workers", lambda: deployment.readiness().get("workers") == WORKERS)


def main():
    if len(sys.argv) < 5:
        sys.exit(__doc__)
    target, check, started = sys.argv[1:4], Checks(), []

    def place(*arguments):
        started.append(Callers(target, *arguments))
        return started[-1]

    try:
        run(check, Deployment(sys.argv[4:]), place)
    except Exception as error:
        check.holds(f"the run: {error!r}", False)
    finally:
        for callers in started:
            callers.stop()
    return 1 if check.failed else 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    sys.exit(main())
