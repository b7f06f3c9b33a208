"""Calls that are really spoken: flite speaks for the caller and for the agents, pocketsphinx listens for the agents and for
this test. A survey by voice and by key, through OpenAI's protocol, Deepgram's and ElevenLabs', and Google's; a pipeline agent
that is interrupted, and agents that fail."""

import concurrent.futures
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
import urllib.request
import wave

import travel_survey
from programs import PATIENCE, free_port, pair
from speaking import EARS_RATE, LINE_RATE, Recogniser, samples_of, synthesize, words
from spoken_deepgram import Deepgram
from spoken_elevenlabs import ElevenLabs
from spoken_google import Google
from spoken_openai import OpenAi
from travel_survey import ADULT, DISTANCE, FAR, GOODBYE, NEAR, TRANSPORT, TRANSPORT_AGAIN, WELCOME

AUTH_TOKEN = "development-token-of-the-speech"
SURVEY_SECRET = "development-secret-of-the-survey"
PUBLIC_URL = "https://voice.example.com"
KEYS = {f"{name}_KEY": f"development-key-of-{name.lower()}" for name in ("DEEPGRAM", "ELEVENLABS", "GOOGLE")}

# A call that takes longer hangs.
LONGEST_CALL = 90.0
# How long the agent is silent before the caller speaks: longer than the pauses of its voice.
SILENCE = "700ms"
# Exit code for settings that cannot be used.
BAD_SETTINGS = 64

AGENTS = ("poll", "desk", "mute", "thoughtless", "streamed", "whole", "packed")
NUMBERS = {agent: f"+1555015{at}" for at, agent in enumerate(AGENTS, 1)}
FALLBACK = "All our lines are down, please call again tomorrow."

# What callers of the survey say; the second time it is no answer.
SURVEY_LINES = ["yes please", "where is breakfast", "i come by bus", "four two"]
SURVEY_ANSWERS = [("adult", "yes", "voice", 1), ("transport", "bus", "voice", 2), ("distance", 42, "voice", 1)]
SURVEY_SAYS = [f"{WELCOME} {ADULT}", TRANSPORT, TRANSPORT_AGAIN, DISTANCE, f"{FAR} {GOODBYE}"]

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
    + f" | {travel_survey.CALLER_RULE} | i need a doctor | what time is it | repeat that"
    + " | (zero | one | two | three | four | five | six | seven | eight | nine)+"
)
# All that agents say in one go; loops in a grammar would let it end in the middle of one more sentence.
UTTERANCES = [*travel_survey.UTTERANCES, GREETING, APOLOGY, *[answer for _, answer in DIALOGUE if answer != TOWN]]

PIPELINES = """
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


def agents_file(openai, deepgram, elevenlabs, google, webhook):
    """A survey for each family of providers that speaks or listens, and the pipelines."""

    def stage(name, server, more=""):
        return f'{{ provider = "{name}", url = "{server.base}", key = "{name.upper()}_KEY"{more} }}'

    # A machine that is busy testing may take long over final words.
    listening = stage("deepgram", deepgram, ", finalize_wait_ms = 1500")
    # Whole turns: what streams from Google is gRPC, which this server does not speak.
    turns = stage("google", google, ", streaming = false")
    return "".join([
        travel_survey.defaults(openai.base),
        travel_survey.survey("poll", webhook.url),
        travel_survey.survey("streamed", webhook.url, listening, stage("elevenlabs", elevenlabs)),
        travel_survey.survey("whole", webhook.url, turns, stage("google", google, ', format = "pcm"')),
        travel_survey.survey("packed", webhook.url, turns, stage("google", google, ', format = "mp3"')),
        PIPELINES.format(base=openai.base, **globals()),
    ])


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

    def wait(self, call):
        """The headers and the body of the result of this call, once it was taken."""

        def taken():
            tries = [(headers, body) for status, headers, body in self.tries if status == 204]
            return [found for found in tries if json.loads(found[1])["call_id"] == call.report["call_sid"]]

        with self.changed:
            self.changed.wait_for(taken, PATIENCE)
            equal(len(taken()), 1, "results of a survey that were taken")
            return taken()[0]

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
        self.speaking = threading.Lock()

    def say(self, text):
        path = self.folder / (text.replace(" ", "-") + ".wav")
        # Calls that are placed at the same time say the same.
        with self.speaking:
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
            return Call(report, samples_of(file.readframes(file.getnframes())))


def equal(found, expected, what):
    if found != expected:
        raise AssertionError(f"{what}: expected {expected!r}, found {found!r}")


def tell(text):
    print(f"ok: {text}", flush=True)


def at_once(*calls):
    """What comes of calls that are placed at the same time: a function and what it is given each."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return [call.result() for call in [pool.submit(*call) for call in calls]]


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


def result(delivered, call, agent, answers, outcome):
    """A result of a survey, signed and complete."""
    headers, body = delivered
    fields = dict(field.split("=", 1) for field in headers["Tandem-Signature"].split(","))
    signed = fields["t"].encode() + b"." + body
    expected = hmac.new(SURVEY_SECRET.encode(), signed, hashlib.sha256).hexdigest()
    assert hmac.compare_digest(fields["v1"], expected), "a wrong signature"
    assert abs(time.time() - int(fields["t"])) < 120, "an old signature"
    told = json.loads(body)
    equal((told["agent"], told["outcome"], told["completed"]), (agent, outcome, True), "the result")
    keys = ("question", "value", "how", "attempts")
    equal([tuple(answer[key] for key in keys) for answer in told["answers"]], answers, "the answers")


def survey_by_voice(phone, agent):
    call = phone.call(agent, [f"silent {SILENCE} {phone.say(line)}" for line in SURVEY_LINES])
    equal(call.stream["ended"], "server_closed", "how the survey ended")
    return call


def survey_by_key(phone, agent):
    call = phone.call(agent, [f"silent {SILENCE} press {keys}" for keys in ("1", "3", "7#")])
    equal(call.stream["ended"], "server_closed", "how the survey ended")
    return call


def taken_by_voice(call, agent, stages, listener, webhook, transcripts):
    """The survey is right in its result, by ear and in its transcript, and nobody stood in for anybody."""
    result(webhook.wait(call), call, agent, SURVEY_ANSWERS, "far")
    understood(listener, call, SURVEY_SAYS)
    expected = [("agent", SURVEY_SAYS[0])]
    for line, answer in zip(SURVEY_LINES, SURVEY_SAYS[1:]):
        expected += [("caller", line), ("agent", answer)]
    lines = transcript(transcripts, call)
    equal(said(lines), expected, "the transcript")
    costs = lines[-1]["costs"]
    equal({cost["stage"]: cost["provider"] for cost in costs}, stages, "who was asked")
    equal(len(costs), len(stages), "providers of a call")
    assert not any(cost.get("failed") or cost.get("stood_in") for cost in costs), costs
    waits = [line["first_sent_ms"] for line in lines if line["event"] == "answered"]
    tell(f"agent {agent}, {stages['speech_to_text']} and {stages['text_to_speech']}: a survey was taken by voice, one "
         f"question asked again; its signed result is right, all {len(SURVEY_SAYS)} things that it said were understood, and "
         "the transcript has the words of both sides")
    print(f"    its answers were heard {', '.join(map(str, waits))} ms after the caller's last sound")


def taken_by_key(call, agent, listener, webhook):
    answers = [("adult", "yes", "key", 1), ("transport", "bike", "key", 1), ("distance", 7, "key", 1)]
    result(webhook.wait(call), call, agent, answers, "completed")
    understood(listener, call, [f"{WELCOME} {ADULT}", TRANSPORT, DISTANCE, f"{NEAR} {GOODBYE}"])
    tell(f"agent {agent}: a survey was taken by keys, and understood")


def understood_while_spoken(deepgram, lines):
    """One session, to its end; its words were there before they were all said."""
    equal(len(deepgram.sessions), 1, "sessions with the streaming recogniser")
    session = deepgram.sessions[0]
    assert session.over.wait(PATIENCE), "the session does not end"
    equal(session.ended, "closed", "how the session ended")
    equal(deepgram.recordings, [], "recordings that were sent instead")
    equal(" ".join(stretch.text for stretch in session.stretches), " ".join(lines), "what was understood")
    assert session.finalizes >= len(lines), session.finalizes
    ahead = []
    for stretch in session.stretches:
        # The newest words may still be wrong, the first one stays.
        early = [(at, text) for at, text in stretch.interim if stretch.text.startswith(text) and at < stretch.last_voice]
        assert early or len(stretch.text.split()) < 3, (stretch.text, stretch.interim, stretch.last_voice)
        ahead += [round(1000 * (stretch.last_voice - early[0][0]))] if early else []
    tell(f"right words of {len(ahead)} stretches of {len(session.stretches)} came before their speech was over")
    print(f"    they came {', '.join(map(str, ahead))} ms before; final words were asked for {session.finalizes} times")


def families(phone, listener, webhook, transcripts, servers):
    """The first one alone, since its result is refused once; the others two at a time, judged when nobody speaks any more."""
    openai, deepgram, google = servers
    call = survey_by_voice(phone, "poll")
    taken_by_voice(call, "poll", {"speech_to_text": "openai", "text_to_speech": "openai"}, listener, webhook, transcripts)
    (refused, first, _), (_, second, _) = webhook.tries
    equal((refused, first["Tandem-Event-Id"]), (503, second["Tandem-Event-Id"]), "a result that is tried again")
    tell("its result came, tried again after a 503")

    asked = len(openai.transcribed)
    streamed, poll = at_once((survey_by_voice, phone, "streamed"), (survey_by_key, phone, "poll"))
    whole, packed = at_once((survey_by_voice, phone, "whole"), (survey_by_key, phone, "packed"))
    stages = {"speech_to_text": "deepgram", "text_to_speech": "elevenlabs"}
    taken_by_voice(streamed, "streamed", stages, listener, webhook, transcripts)
    understood_while_spoken(deepgram, SURVEY_LINES)
    stages = {"speech_to_text": "google", "text_to_speech": "google"}
    taken_by_voice(whole, "whole", stages, listener, webhook, transcripts)
    taken_by_key(packed, "packed", listener, webhook)
    taken_by_key(poll, "poll", listener, webhook)
    assert {encoding for encoding, _ in google.spoken} == {"LINEAR16", "MP3"}, google.spoken
    equal(openai.transcribed[asked:], [], "what the server of another family was asked")


def no_provider_failed(address):
    """By the worker's own count."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=PATIENCE) as reply:
        lines = reply.read().decode().splitlines()
    counts = [line.rsplit(" ", 1) for line in lines if line.startswith("tandem_worker_provider_errors_total{")]
    assert counts, "the worker counts no errors of providers"
    equal([name for name, count in counts if float(count)], [], "errors of providers")
    tell("no provider failed, and none stood in for another")


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
            callers = Recogniser(CALLER_RULE)
            server = OpenAi({"callers": callers}, {"script": dict(DIALOGUE)})
            cleanup.append(server)
            deepgram = Deepgram(callers, KEYS["DEEPGRAM_KEY"], 1)
            cleanup.append(deepgram)
            elevenlabs = ElevenLabs(KEYS["ELEVENLABS_KEY"])
            cleanup.append(elevenlabs)
            google = Google(callers, KEYS["GOOGLE_KEY"])
            cleanup.append(google)
            webhook = Webhook()
            cleanup.append(webhook)
            agents, routes, transcripts = folder / "agents.toml", folder / "routes.toml", folder / "transcripts"
            agents.write_text(agents_file(server, deepgram, elevenlabs, google, webhook))
            route = '[[route]]\nto = "{}"\nagent = "{}"\n'
            routes.write_text("".join(route.format(number, agent) for agent, number in NUMBERS.items()))
            worker = {"AGENTS_FILE": str(agents), "TRANSCRIPTS_DIR": str(transcripts), travel_survey.SECRET: SURVEY_SECRET, **KEYS}
            operations = free_port(), free_port()
            gateway = {"ROUTES_FILE": str(routes), "FALLBACK_SAY": FALLBACK}
            started, address = pair(binaries, AUTH_TOKEN, PUBLIC_URL, None, gateway, worker, operations)
            cleanup += started
            phone = Phone(binaries, address, folder)
            try:
                families(phone, listener, webhook, transcripts, (server, deepgram, google))
                conversation(phone, listener, server, transcripts)
                no_provider_failed(f"127.0.0.1:{operations[1]}")
                failures(phone, listener, binaries)
            except BaseException:
                print("the callers were understood as", server.transcribed, google.transcribed, deepgram.recordings)
                for session in deepgram.sessions:
                    print("a session:", session.ended, [(stretch.text, stretch.interim) for stretch in session.stretches])
                print("asked to speak", server.spoken, elevenlabs.spoken, google.spoken)
                for program in started:
                    print("\n".join(program.lines[-20:]))
                raise
            print(f"{time.monotonic() - began:.0f} s")
    finally:
        for part in reversed(cleanup):
            part.stop()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
