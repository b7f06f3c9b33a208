"""A server that speaks OpenAI's protocol and really hears and speaks.

The model that is asked for chooses the grammar or the dialogue; every request is kept. A model that is not there is refused.
"""

import io
import json
import re
import wave

from speaking import EARS_RATE, voice
from stand_in import StandIn

VOICE_RATE = 24_000  # Hz, 16 bit
# Sound leaves in pieces of 100 ms.
PIECE = VOICE_RATE // 10 * 2


class OpenAi(StandIn):
    """`grammars`: recognisers by model. `dialogues`: by model, what is answered to the words of the caller."""

    def __init__(self, grammars, dialogues):
        self.grammars, self.dialogues = grammars, dialogues
        self.chats, self.spoken, self.transcribed = [], [], []
        super().__init__()

    def get(self, request):
        return request.answer(200, {"object": "list", "data": []})

    def post(self, request, body):
        stages = {
            "/v1/audio/transcriptions": self.transcribe,
            "/v1/audio/speech": self.speak,
            "/v1/chat/completions": self.chat,
        }
        stage = stages.get(request.path)
        return stage is not None and stage(request, body)

    def refusal(self, why):
        return {"error": {"message": why, "type": "invalid_request_error"}}

    def transcribe(self, request, body):
        fields = form(request.headers["Content-Type"], body)
        grammar = self.grammars.get(fields["model"].decode())
        if grammar is None:
            return False
        with wave.open(io.BytesIO(fields["file"])) as file:
            shape = (file.getnchannels(), file.getsampwidth(), file.getframerate())
            assert shape == (1, 2, EARS_RATE), shape
            text = grammar.understand(file.readframes(file.getnframes()))
        self.transcribed.append(text)
        return request.answer(200, {"text": text})

    def speak(self, request, body):
        asked = json.loads(body)
        if asked["model"] != "flite":
            return False
        assert asked["response_format"] == "pcm", asked
        self.spoken.append(asked["input"])
        pcm = voice(asked["input"], VOICE_RATE)
        request.begin("audio/pcm")
        for at in range(0, len(pcm), PIECE):
            request.chunk(pcm[at : at + PIECE])
        return request.chunk(b"")

    def chat(self, request, body):
        asked = json.loads(body)
        dialogue = self.dialogues.get(asked["model"])
        if dialogue is None:
            return False
        self.chats.append([(message["role"], message["content"]) for message in asked["messages"]])
        answer = dialogue.get(asked["messages"][-1]["content"], "I did not get that.")

        def event(choice):
            chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 0, "model": "script"}
            request.chunk(b"data: " + json.dumps({**chunk, "choices": [choice]}).encode() + b"\n\n")

        request.begin("text/event-stream")
        for word in re.findall(r"\S+\s*", answer):
            event({"index": 0, "delta": {"content": word}, "finish_reason": None})
        event({"index": 0, "delta": {}, "finish_reason": "stop"})
        request.chunk(b"data: [DONE]\n\n")
        return request.chunk(b"")


def form(content_type, body):
    """The fields of a multipart form by name."""
    boundary = re.search(r'boundary="?([^";]+)', content_type)[1].encode()
    fields = {}
    for part in body.split(b"--" + boundary)[1:-1]:
        head, _, value = part.partition(b"\r\n\r\n")
        fields[re.search(rb'[; ]name="([^"]*)"', head)[1].decode()] = value.removesuffix(b"\r\n")
    return fields
