"""Calls that are really spoken: flite speaks for the caller and for the agents, pocketsphinx listens for the agents and for
this test. A survey by voice and by key, a pipeline agent that is interrupted, and agents that fail."""

import array
import hashlib
import hmac
import http.server
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import wave

from programs import PATIENCE, pair
from spoken_openai import EARS_RATE, Recogniser, Server, synthesize, words

AUTH_TOKEN = "development-token-of-the-speech"
SURVEY_SECRET = "development-secret-of-the-survey"
PUBLIC_URL = "https://voice.example.com"
LINE_RATE = 8_000  # Hz

# A call that takes longer hangs.
LONGEST_CALL = 90.0
# How long the agent is silent before the caller speaks: longer than the pauses of its voice.
SILENCE = "700ms"
# Exit code for settings that cannot be used.
BAD_SETTINGS = 64

NUMBERS = {"poll": "+15550151", "desk": "+15550152", "mute": "+15550153", "thoughtless": "+15550154"}
FALLBACK = "All our lines are down, please call again tomorrow."

WELCOME = "Welcome to the travel survey."
ADULT = "Are you eighteen or older?"
TRANSPORT = "Do you come by car, by bus, or by bike?"
TRANSPORT_AGAIN = "Please name a vehicle."
DISTANCE = "How many miles is that?"
FAR = "You live far away, so we will send you a letter."
NEAR = "You can take part tomorrow."
GOODBYE = "Thank you and goodbye."

GREETING = "This is the front desk of the hotel."
APOLOGY = "I am sorry, my computer is broken."
TOWN = (
    "The town is very old. It has a castle, a river, a market place and seven little churches. "
    "In the summer there are concerts in the garden of the castle every evening. "
    "In the winter the people go skating on the river until it is dark."
)
INTERRUPTED = 2
DIALOGUE = [
    ("what time is breakfast", "Breakfast is from seven to ten in the morning."),
    ("where is the swimming pool", "The swimming pool is on the fourth floor, behind the library."),
    ("tell me about the old town", TOWN),
    ("stop i need a taxi", "A yellow taxi will wait for you at the door."),
    ("thank you and good bye", "Have a wonderful journey."),
]

# What callers may say; more than they do, so that the recogniser can be wrong.
CALLER_RULE = (
    " | ".join(line for line, _ in DIALOGUE)
    + " | yes please | no thank you | i come by car | i come by bus | i come by bike | stop please | i need a doctor"
    + " | where is breakfast | what time is it | repeat that"
    + " | (zero | one | two | three | four | five | six | seven | eight | nine)+"
)
# All that agents say in one go; loops in a grammar would let it end in the middle of one more sentence.
UTTERANCES = [
    f"{WELCOME} {ADULT}", TRANSPORT, TRANSPORT_AGAIN, DISTANCE, f"{FAR} {GOODBYE}", f"{NEAR} {GOODBYE}", GOODBYE,
    GREETING, APOLOGY, *[answer for _, answer in DIALOGUE if answer != TOWN],
]

AGENTS = """
[defaults]
language = "en-US"

[defaults.speech_to_text]
url = "{base}"
model = "callers"

[defaults.text_to_speech]
url = "{base}"
model = "flite"

[agent.poll]
kind = "survey"
greeting = "{WELCOME}"
goodbye = "{GOODBYE}"

[[agent.poll.question]]
id = "adult"
kind = "yes_no"
ask = "{ADULT}"
ends = {{ no = "too_young" }}

[[agent.poll.question]]
id = "transport"
kind = "choice"
ask = "{TRANSPORT}"
reprompt = "{TRANSPORT_AGAIN}"
options = ["car", "bus", "bike"]

[[agent.poll.question]]
id = "distance"
kind = "number"
ask = "{DISTANCE}"
max = 500

[[agent.poll.rule]]
all = {{ transport = "bus", distance = "40.." }}
outcome = "far"

[agent.poll.outcome.far]
say = "{FAR}"

[agent.poll.outcome.too_young]

[agent.poll.outcome.completed]
say = "{NEAR}"

[agent.poll.results]
url = "{webhook}"
secret = "SURVEY_SECRET"

[agent.desk]
kind = "pipeline"
greeting = "{GREETING}"
instructions = "You are the front desk of a hotel."
chat = {{ url = "{base}", model = "script" }}

# Its voice is one that the server does not have.
[agent.mute]
kind = "pipeline"
greeting = "{GREETING}"
instructions = "You are the front desk of a hotel."
chat = {{ url = "{base}", model = "script" }}
text_to_speech = {{ model = "none" }}

# Its model is one that the server does not have.
[agent.thoughtless]
kind = "pipeline"
greeting = "{GREETING}"
apology = "{APOLOGY}"
instructions = "You are the front desk of a hotel."
chat = {{ url = "{base}", model = "none" }}
"""

# A mistake in each of the lines that are named below: a model that is misspelt is one that is missing, too.
BROKEN_AGENTS = """\
[defaults.speech_to_text]
url = "http://127.0.0.1:1/v1"
modell = "callers"

[agent.desk]
kind = "pipeline"
instructions = "You are the front desk of a hotel."
greting = "Hello."
chat = { url = "http://127.0.0.1:1/v1", model = "script" }
text_to_speech = { url = "http://127.0.0.1:1/v1", model = "flite", rate = 11025 }

[agent.poll]
kind = "survay"

[agent.mirror]
kind = "echo"
language = 7
"""
BROKEN_LINES = (2, 3, 8, 10, 13, 17)


class Webhook:
    """Takes results of surveys; the first try of the first one is refused."""

    def __init__(self):
        self.tries, self.changed = [], threading.Condition()
        webhook = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with webhook.changed:
                    status = 204 if webhook.tries else 503
                    webhook.tries.append((status, self.headers, body))
                    webhook.changed.notify_all()
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = "http://127.0.0.1:%d/surveys" % self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def wait(self, count):
        """The newest try, once there are so many."""
        with self.changed:
            self.changed.wait_for(lambda: len(self.tries) >= count, PATIENCE)
        equal(len(self.tries), count, "tries to deliver results")
        return self.tries[-1]

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class Call:
    """What came of a call: its report, and what the caller heard."""

    def __init__(self, report, heard):
        self.report, self.heard = report, heard
        self.stream = report["streams"][0]
        self.turns = self.stream["turns_ms"]

    def between(self, begin_ms, end_ms=None):
        """What the caller heard in that time, for the recogniser."""
        begin = int(begin_ms) * LINE_RATE // 1000
        end = None if end_ms is None else int(end_ms) * LINE_RATE // 1000
        command = ["sox", "-D", "-t", "raw", "-r", str(LINE_RATE), "-c", "1", "-b", "16", "-e", "signed", "-L", "-"]
        command += ["-t", "raw", "-r", str(EARS_RATE), "-"]
        samples = self.heard[begin:end].tobytes()
        return subprocess.run(command, input=samples, check=True, timeout=30, stdout=subprocess.PIPE).stdout

    def answers(self):
        """What was heard between the turns of the caller, from the greeting on."""
        times = [0, *self.turns, None]
        return [self.between(begin, end) for begin, end in zip(times, times[1:])]


class Phone:
    """Places calls and speaks for the caller."""

    def __init__(self, binaries, gateway, folder):
        self.binaries, self.gateway, self.folder = binaries, gateway, folder

    def say(self, text):
        path = self.folder / (text.replace(" ", "-") + ".wav")
        if not path.exists():
            with wave.open(str(path), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(LINE_RATE)
                file.writeframes(synthesize(text, LINE_RATE, "gain", "-3"))
        return f"say {path}"

    def call(self, agent, turns, closed_with=1000):
        heard = self.folder / f"heard-{agent}.wav"
        command = [f"{self.binaries}/simulated-twilio", "--gateway", self.gateway, "--public-url", PUBLIC_URL, "--json"]
        command += ["--to", NUMBERS[agent], "--no-echo", "--heard", str(heard), "--hangup-after", f"{LONGEST_CALL}s"]
        for turn in turns:
            command += ["--turn", turn]
        environment = {"PATH": os.environ.get("PATH", ""), "TWILIO_AUTH_TOKEN": AUTH_TOKEN}
        done = subprocess.run(command, env=environment, timeout=LONGEST_CALL + 30, stdout=subprocess.PIPE, text=True)
        report = json.loads(done.stdout)[0]
        codes = {stream["close_code"] for stream in report["streams"]} - {None}
        assert codes <= {closed_with} and (done.returncode == 0 or codes - {1000}), report
        with wave.open(str(heard)) as file:
            samples = array.array("h", file.readframes(file.getnframes()))
        if sys.byteorder == "big":
            samples.byteswap()
        return Call(report, samples)


def equal(found, expected, what):
    if found != expected:
        raise AssertionError(f"{what}: expected {expected!r}, found {found!r}")


def tell(text):
    print(f"ok: {text}", flush=True)


def understood(listener, call, expected):
    """The recogniser finds in what the caller heard the sentences that were to be said."""
    found = [listener.understand(pcm) for pcm in call.answers()][: len(expected)]
    equal(found, [words(text) for text in expected], "what was heard")


def transcript(folder, call):
    """The lines of a call's transcript, once it has ended."""
    path, deadline = folder / f"{call.report['call_sid']}.jsonl", time.monotonic() + PATIENCE
    while True:
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        if lines and lines[-1]["event"] == "ended":
            break
        if time.monotonic() > deadline:
            raise AssertionError(f"the transcript does not end: {lines}")
        time.sleep(0.05)
    times = [line["at_ms"] for line in lines]
    equal(times, sorted(times), "the times of a transcript")
    return lines


def said(lines):
    return [(line["speaker"], line["text"]) for line in lines if line["event"] == "said"]


def result(delivered, call, answers, outcome):
    """A result of a survey, signed and complete."""
    _, headers, body = delivered
    fields = dict(field.split("=", 1) for field in headers["Tandem-Signature"].split(","))
    signed = fields["t"].encode() + b"." + body
    expected = hmac.new(SURVEY_SECRET.encode(), signed, hashlib.sha256).hexdigest()
    assert hmac.compare_digest(fields["v1"], expected), "a wrong signature"
    assert abs(time.time() - int(fields["t"])) < 60, "an old signature"
    told = json.loads(body)
    equal(told["call_id"], call.report["call_sid"], "the call of a result")
    equal((told["agent"], told["outcome"], told["completed"]), ("poll", outcome, True), "the result")
    keys = ("question", "value", "how", "attempts")
    equal([tuple(answer[key] for key in keys) for answer in told["answers"]], answers, "the answers")


def survey_by_voice(phone, listener, webhook, transcripts):
    lines = ["yes please", "where is breakfast", "i come by bus", "four two"]
    call = phone.call("poll", [f"silent {SILENCE} {phone.say(line)}" for line in lines])
    equal(call.stream["ended"], "server_closed", "how the survey ended")
    delivered = webhook.wait(2)
    equal(webhook.tries[0][1]["Tandem-Event-Id"], delivered[1]["Tandem-Event-Id"], "the id of a result tried again")
    answers = [("adult", "yes", "voice", 1), ("transport", "bus", "voice", 2), ("distance", 42, "voice", 1)]
    result(delivered, call, answers, "far")
    tell("a survey was taken by voice, one question asked again; its signed result came, tried again after a 503")
    spoken = [f"{WELCOME} {ADULT}", TRANSPORT, TRANSPORT_AGAIN, DISTANCE, f"{FAR} {GOODBYE}"]
    understood(listener, call, spoken)
    tell(f"the recogniser understood all {len(spoken)} things that the survey said")
    expected = [("agent", spoken[0])]
    for line, answer in zip(lines, spoken[1:]):
        expected += [("caller", line), ("agent", answer)]
    equal(said(transcript(transcripts, call)), expected, "the transcript")
    tell("the transcript of the survey has the words of both sides")


def survey_by_key(phone, listener, webhook):
    call = phone.call("poll", [f"silent {SILENCE} press {keys}" for keys in ("1", "3", "7#")])
    equal(call.stream["ended"], "server_closed", "how the survey ended")
    answers = [("adult", "yes", "key", 1), ("transport", "bike", "key", 1), ("distance", 7, "key", 1)]
    result(webhook.wait(3), call, answers, "completed")
    understood(listener, call, [f"{WELCOME} {ADULT}", TRANSPORT, DISTANCE, f"{NEAR} {GOODBYE}"])
    tell("a survey was taken by keys, and understood")


def beginning_of(sentence):
    """A grammar of all beginnings of a sentence."""
    rule = ""
    for word in reversed(words(sentence).split()):
        rule = f"{word} [ {rule} ]" if rule else word
    return rule


def conversation(phone, listener, server, transcripts):
    cues = [f"silent {SILENCE}"] * len(DIALOGUE)
    cues[INTERRUPTED + 1] = "speaking 4s"
    turns = [f"{cue} {phone.say(line)}" for cue, (line, _) in zip(cues, DIALOGUE)]
    call = phone.call("desk", [*turns, f"silent {SILENCE} hang-up"])
    equal(call.stream["ended"], "caller_hung_up", "how the conversation ended")
    equal(call.stream["playout"]["clears"], 1, "interruptions")

    told = [chat for chat in server.chats if chat[-1] == ("user", DIALOGUE[-1][0])][-1]
    heard = told[2 + 2 * INTERRUPTED + 1][1]
    assert TOWN.startswith(heard) and TOWN != heard and TOWN[len(heard)] in " .,", heard
    expected = [("system", "You are the front desk of a hotel."), ("assistant", GREETING)]
    for line, answer in DIALOGUE[:-1]:
        expected += [("user", line), ("assistant", heard if answer == TOWN else answer)]
    equal(told, [*expected, ("user", DIALOGUE[-1][0])], "the history")
    tell(f"a conversation of {len(DIALOGUE)} turns; the model was told all of it, the interrupted answer as heard")

    # For a moment both speak; the caller's line is longer than that.
    begin, cut, end = call.turns[INTERRUPTED], call.turns[INTERRUPTED + 1] + 1000, call.turns[INTERRUPTED + 2]
    by_ear = Recogniser(beginning_of(TOWN)).understand(call.between(begin, cut))
    difference = len(words(heard).split()) - len(by_ear.split())
    assert by_ear and abs(difference) <= 2, f"by ear {by_ear!r}, in the history {heard!r}"
    tell(f"the caller heard {len(by_ear.split())} words of it by ear, {len(words(heard).split())} in the history")
    sounds = call.answers()
    sounds[INTERRUPTED + 2] = call.between(cut, end)
    for sound, answer in zip(sounds, [GREETING, *[answer for _, answer in DIALOGUE]]):
        if answer != TOWN:
            equal(listener.understand(sound), words(answer), "what was heard")
    tell("the recogniser understood what the agent said")

    lines = transcript(transcripts, call)
    dialogue = [("agent", GREETING)]
    for line, answer in DIALOGUE:
        dialogue += [("caller", line), ("agent", heard if answer == TOWN else answer)]
    equal(said(lines), dialogue, "the transcript")
    flags = [line["interrupted"] for line in lines if line.get("speaker") == "agent"]
    equal(flags.index(True), INTERRUPTED + 1, "the interrupted answer")
    equal(sum(flags), 1, "interrupted answers")
    for number, line in enumerate(line for line in lines if line.get("speaker") == "caller"):
        after = line["at_ms"] - call.turns[number]
        assert 0 < after < 10_000, f"turn {number} is told {after:.0f} ms after the caller began it"
    tell("its transcript has the words of both sides, when they were said, and the interruption")


def failures(phone, listener, binaries):
    call = phone.call("mute", [], closed_with=1011)
    equal(call.report["said"], [FALLBACK], "what a caller hears whose agent has no voice")
    tell("an agent that fails at the start of a call is heard as the words of the fallback")
    turns = [f"silent {SILENCE} {phone.say(DIALOGUE[0][0])}", f"silent {SILENCE} hang-up"]
    understood(listener, phone.call("thoughtless", turns), [GREETING, APOLOGY])
    tell("an agent whose model fails apologises in its own words")

    def check(settings):
        done = subprocess.run(
            [f"{binaries}/audio-worker", "--check-config"],
            cwd=phone.folder, env=settings, timeout=PATIENCE, capture_output=True, text=True,
        )
        return done.returncode, done.stderr

    path = phone.folder / "broken.toml"
    path.write_text(BROKEN_AGENTS)
    code, told = check({"AGENTS_FILE": str(path)})
    for line in BROKEN_LINES:
        assert f"AGENTS_FILE: line {line}," in told, told
    equal(len(told.strip().splitlines()), 1 + len(BROKEN_LINES), "mistakes")
    other, _ = check({"WORKER_LISTEN": "nowhere"})
    equal((code, other), (BAD_SETTINGS, BAD_SETTINGS), "the exit codes of bad settings")
    tell(f"a broken agents file: {len(BROKEN_LINES)} mistakes by line, exit code {code} as for other settings")


def main(binaries):
    began, cleanup = time.monotonic(), []
    listener = Recogniser(" | ".join(map(words, UTTERANCES)))
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            server = Server({"callers": Recogniser(CALLER_RULE)}, {"script": dict(DIALOGUE)})
            cleanup.append(server)
            webhook = Webhook()
            cleanup.append(webhook)
            agents, routes, transcripts = folder / "agents.toml", folder / "routes.toml", folder / "transcripts"
            agents.write_text(AGENTS.format(base=server.base, webhook=webhook.url, **globals()))
            route = '[[route]]\nto = "{}"\nagent = "{}"\n'
            routes.write_text("".join(route.format(number, agent) for agent, number in NUMBERS.items()))
            worker = {"AGENTS_FILE": str(agents), "TRANSCRIPTS_DIR": str(transcripts), "SURVEY_SECRET": SURVEY_SECRET}
            gateway = {"ROUTES_FILE": str(routes), "FALLBACK_SAY": FALLBACK}
            started, address = pair(binaries, AUTH_TOKEN, PUBLIC_URL, None, gateway, worker)
            cleanup += started
            phone = Phone(binaries, address, folder)
            try:
                survey_by_voice(phone, listener, webhook, transcripts)
                survey_by_key(phone, listener, webhook)
                conversation(phone, listener, server, transcripts)
                failures(phone, listener, binaries)
            except BaseException:
                print("the callers were understood as", server.transcribed)
                print("asked to speak", server.spoken)
                for program in started:
                    print("\n".join(program.lines[-20:]))
                raise
            print(f"{time.monotonic() - began:.0f} s")
    finally:
        for part in reversed(cleanup):
            part.stop()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
