"""A server that speaks Google's REST protocols and really hears and speaks: whole recordings, whole voices.

<https://cloud.google.com/speech-to-text/docs/reference/rest/v1/speech/recognize> and
<https://cloud.google.com/text-to-speech/docs/reference/rest/v1/text/synthesize>. Every request is kept.
"""

import base64
import io
import json
import wave

import lameenc

from speaking import EARS_RATE, LINE_RATE, from_line, voice
from stand_in import StandIn

LANGUAGE = "en-US"
# What Google's MP3 has, in kbit/s.
MP3_RATE = 32


class Google(StandIn):
    KEY_HEADER = "x-goog-api-key"

    def __init__(self, recogniser, key):
        self.recogniser, self.transcribed, self.spoken = recogniser, [], []
        super().__init__(key)

    def get(self, request):
        path, _ = request.place()
        return path == "/v1/operations" and request.answer(200, {"operations": []})

    def post(self, request, body):
        stages = {"/v1/speech:recognize": self.recognize, "/v1/text:synthesize": self.synthesize}
        path, _ = request.place()
        return path in stages and stages[path](request, json.loads(body))

    def refusal(self, why):
        return {"error": {"code": 400, "message": why, "status": "INVALID_ARGUMENT"}}

    def recognize(self, request, asked):
        config, sound = asked["config"], base64.b64decode(asked["audio"]["content"])
        shape = (config["encoding"], config["sampleRateHertz"], config["languageCode"])
        assert shape == ("MULAW", LINE_RATE, LANGUAGE), shape
        text = self.recogniser.understand(from_line(sound))
        self.transcribed.append(text)
        lasts = len(sound) / LINE_RATE
        told = {"alternatives": [{"transcript": text, "confidence": 0.9}], "resultEndTime": f"{lasts:.3f}s", "languageCode": "en-us"}
        # Where nothing was said there are no results at all.
        results = {"results": [told]} if text else {}
        return request.answer(200, {**results, "totalBilledTime": f"{round(lasts) + 1}s", "requestId": "1"})

    def synthesize(self, request, asked):
        config = asked["audioConfig"]
        encoding, rate = config["audioEncoding"], config["sampleRateHertz"]
        assert asked["voice"]["languageCode"] == LANGUAGE, asked["voice"]
        if encoding not in ("LINEAR16", "MP3"):
            return False
        self.spoken.append((encoding, asked["input"]["text"]))
        pcm = voice(asked["input"]["text"], rate)
        sound = wav(pcm, rate) if encoding == "LINEAR16" else mp3(pcm, rate)
        return request.answer(200, {"audioContent": base64.b64encode(sound).decode()})


def wav(pcm, rate):
    whole = io.BytesIO()
    with wave.open(whole, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(pcm)
    return whole.getvalue()


def mp3(pcm, rate):
    encoder = lameenc.Encoder()
    encoder.set_channels(1)
    encoder.set_in_sample_rate(rate)
    encoder.set_bit_rate(MP3_RATE)
    encoder.silence()
    return bytes(encoder.encode(pcm) + encoder.flush())
