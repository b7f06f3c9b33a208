"""The programs under test as processes of their own, on free ports of this machine."""

import os
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request

PATIENCE = 20.0


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Program:
    """A process whose output is kept; `stop` ends it."""

    def __init__(self, command, settings=None):
        self.folder = tempfile.TemporaryDirectory()
        environment = {"PATH": os.environ.get("PATH", ""), "RUST_LOG": "warn", **(settings or {})}
        # An empty working directory: no .env of anybody's is read.
        self.process = subprocess.Popen(
            command,
            cwd=self.folder.name,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines, self.changed = [], threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            with self.changed:
                self.lines.append(line.rstrip("\n"))
                self.changed.notify_all()
        with self.changed:
            self.lines.append("")
            self.changed.notify_all()

    def wait_for_line(self, part):
        def found():
            return next((line for line in self.lines if part in line), None)

        with self.changed:
            self.changed.wait_for(lambda: found() is not None or self.process.poll() is not None, PATIENCE)
            if found() is None:
                raise RuntimeError(f"no line with {part!r} in {self.lines}")
            return found()

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.folder.cleanup()


def simulated_twilio(binaries, token, *flags):
    """The simulated REST API and its address."""
    command = [f"{binaries}/simulated-twilio", "serve", "--listen", "127.0.0.1:0", *flags]
    program = Program(command, {"TWILIO_AUTH_TOKEN": token})
    try:
        return program, program.wait_for_line("listening on ").split(" on ", 1)[1]
    except Exception:
        program.stop()
        raise


def pair(binaries, token, public_url, port=None, more_settings=None, worker_settings=None, operations=None):
    """A worker and a gateway that knows it; the gateway's address. `operations`: the gateway's and the worker's port."""
    worker_port, port = free_port(), port or free_port()
    operations, worker_operations = operations or (free_port(), free_port())
    started = []
    try:
        settings = {"WORKER_LISTEN": f"127.0.0.1:{worker_port}", "OPS_LISTEN": f"127.0.0.1:{worker_operations}"}
        settings.update(worker_settings or {})
        started.append(Program([f"{binaries}/audio-worker"], settings))
        settings = {
            "TWILIO_AUTH_TOKEN": token,
            "TWILIO_VOICE_WEBHOOK_URL": f"{public_url}/voice/incoming",
            "SERVER_HOST": "127.0.0.1",
            "SERVER_PORT": str(port),
            "OPS_LISTEN": f"127.0.0.1:{operations}",
            "WORKER_URL": f"http://127.0.0.1:{worker_port}",
            "DRAIN_SECONDS": "0",
            **(more_settings or {}),
        }
        started.append(Program([f"{binaries}/gateway"], settings))
        # Ready, and with a worker in sight.
        _wait_until_ready(f"http://127.0.0.1:{operations}/readyz", started)
        return started, f"127.0.0.1:{port}"
    except Exception:
        for program in started:
            program.stop()
        raise


def _wait_until_ready(url, programs):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for program in programs:
            if program.process.poll() is not None:
                raise RuntimeError(f"ended at once: {program.lines}")
        try:
            with urllib.request.urlopen(url, timeout=2) as reply:
                if '"workers":0' not in reply.read().decode():
                    return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.1)
    raise RuntimeError(f"{url} is not ready: {[program.lines for program in programs]}")
