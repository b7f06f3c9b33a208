"""A server that speaks OpenAI's protocol and really hears and speaks: pocketsphinx with small grammars, and flite.

The model that is asked for chooses the grammar or the dialogue; every request is kept. A model that is not there is refused.
"""

import functools
import http.server
import io
import json
import os
import re
import subprocess
import tempfile
import threading
import wave

from pocketsphinx import Decoder

EARS_RATE, VOICE_RATE = 16_000, 24_000  # Hz, 16 bit
# Sound leaves in pieces of 100 ms.
PIECE = VOICE_RATE // 10 * 2


def words(text):
    """The words alone, as a grammar and its recogniser write them."""
    return " ".join(re.findall(r"[a-z']+", text.lower()))


def synthesize(text, rate, *effects):
    """What flite says, as 16-bit samples of this rate."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "said.wav")
        subprocess.run(["flite", "-voice", "rms", "-t", text, "-o", path], check=True, timeout=30)
        command = ["sox", "-D", path, "-r", str(rate), "-c", "1", "-b", "16", "-e", "signed", "-L", "-t", "raw", "-"]
        return subprocess.run([*command, *effects], check=True, timeout=30, stdout=subprocess.PIPE).stdout


@functools.cache
def voice(text):
    return synthesize(text, VOICE_RATE)


class Recogniser:
    """Understands what fits the grammar, and nothing else."""

    def __init__(self, rule):
        with tempfile.NamedTemporaryFile("w", suffix=".gram") as file:
            file.write(f"#JSGF V1.0;\ngrammar words;\npublic <words> = {rule};\n")
            file.flush()
            self.decoder = Decoder(jsgf=file.name, samprate=EARS_RATE, loglevel="FATAL")
        self.lock = threading.Lock()

    def understand(self, pcm):
        """The words in samples of 16 bit and 16 kHz; none when nothing fits."""
        silence = bytes(EARS_RATE)
        with self.lock:
            self.decoder.start_utt()
            self.decoder.process_raw(silence + pcm + silence, full_utt=True)
            self.decoder.end_utt()
            found = self.decoder.hyp()
            return found.hypstr if found else ""


class Server:
    """`grammars`: recognisers by model. `dialogues`: by model, what is answered to the words of the caller."""

    def __init__(self, grammars, dialogues):
        self.chats, self.spoken, self.transcribed = [], [], []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self.answer(200, {"object": "list", "data": []})

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                stages = {
                    "/v1/audio/transcriptions": self.transcribe,
                    "/v1/audio/speech": self.speak,
                    "/v1/chat/completions": self.chat,
                }
                stage = stages.get(self.path)
                if stage is None or not stage(body):
                    self.answer(404, {"error": {"message": "no such model", "type": "invalid_request_error"}})

            def transcribe(self, body):
                fields = form(self.headers["Content-Type"], body)
                grammar = grammars.get(fields["model"].decode())
                if grammar is None:
                    return False
                with wave.open(io.BytesIO(fields["file"])) as file:
                    shape = (file.getnchannels(), file.getsampwidth(), file.getframerate())
                    assert shape == (1, 2, EARS_RATE), shape
                    text = grammar.understand(file.readframes(file.getnframes()))
                server.transcribed.append(text)
                return self.answer(200, {"text": text})

            def speak(self, body):
                request = json.loads(body)
                if request["model"] != "flite":
                    return False
                assert request["response_format"] == "pcm", request
                server.spoken.append(request["input"])
                pcm = voice(request["input"])
                self.begin("audio/pcm")
                for at in range(0, len(pcm), PIECE):
                    self.chunk(pcm[at : at + PIECE])
                return self.chunk(b"")

            def chat(self, body):
                request = json.loads(body)
                dialogue = dialogues.get(request["model"])
                if dialogue is None:
                    return False
                server.chats.append([(message["role"], message["content"]) for message in request["messages"]])
                answer = dialogue.get(request["messages"][-1]["content"], "I did not get that.")
                self.begin("text/event-stream")
                for word in re.findall(r"\S+\s*", answer):
                    self.event({"index": 0, "delta": {"content": word}, "finish_reason": None})
                self.event({"index": 0, "delta": {}, "finish_reason": "stop"})
                self.chunk(b"data: [DONE]\n\n")
                return self.chunk(b"")

            def answer(self, status, value):
                body = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                # Who has given up the request closes the connection.
                try:
                    self.end_headers()
                    self.wfile.write(body)
                except OSError:
                    self.close_connection = True
                return True

            def begin(self, content_type):
                self.send_response(200)
                self.send_header("Content-Type", content_type)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()

            def event(self, choice):
                chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 0, "model": "script"}
                self.chunk(b"data: " + json.dumps({**chunk, "choices": [choice]}).encode() + b"\n\n")

            def chunk(self, data):
                """A chunk; an empty one is the last. Who has given up the request closes the connection."""
                try:
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                except OSError:
                    self.close_connection = True
                return True

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.base = "http://127.0.0.1:%d/v1" % self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


def form(content_type, body):
    """The fields of a multipart form by name."""
    boundary = re.search(r'boundary="?([^";]+)', content_type)[1].encode()
    fields = {}
    for part in body.split(b"--" + boundary)[1:-1]:
        head, _, value = part.partition(b"\r\n\r\n")
        fields[re.search(rb'[; ]name="([^"]*)"', head)[1].decode()] = value.removesuffix(b"\r\n")
    return fields
