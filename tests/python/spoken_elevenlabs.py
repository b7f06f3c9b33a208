"""A server that speaks ElevenLabs' protocol and really speaks, with the times at which its voice says each character.

<https://elevenlabs.io/docs/api-reference/text-to-speech/stream-with-timestamps>. Every text is kept.
"""

import base64
import json
import re

from speaking import LINE_RATE, Aligner, to_mulaw, voice, words
from stand_in import StandIn

VOICE, MODEL = "JBFqnCBsd6RMkjVDRZzb", "eleven_flash_v2_5"
# Sound leaves in pieces of 200 ms.
PIECE = LINE_RATE // 5


class ElevenLabs(StandIn):
    KEY_HEADER = "xi-api-key"

    def __init__(self, key):
        self.aligner, self.spoken = Aligner(), []
        super().__init__(key)

    def get(self, request):
        path, _ = request.place()
        return path == "/v1/models" and request.answer(200, [{"model_id": MODEL, "can_do_text_to_speech": True}])

    def post(self, request, body):
        path, query = request.place()
        asked = json.loads(body)
        if path != f"/v1/text-to-speech/{VOICE}/stream/with-timestamps" or asked["model_id"] != MODEL:
            return False
        assert (query["output_format"], asked["language_code"]) == (["ulaw_8000"], "en"), (query, asked)
        text = asked["text"]
        self.spoken.append(text)
        codes, characters = to_mulaw(voice(text, LINE_RATE)), timed(text, self.aligner.times(text))
        request.begin("application/json")
        for at in range(0, len(codes), PIECE):
            is_last = at + PIECE >= len(codes)
            until = float("inf") if is_last else (at + PIECE) / LINE_RATE
            now = [said for said in characters if said[1] < until]
            characters = characters[len(now) :]
            told = now and {
                "characters": [character for character, _, _ in now],
                "character_start_times_seconds": [start for _, start, _ in now],
                "character_end_times_seconds": [end for _, _, end in now],
            }
            piece = {"audio_base64": base64.b64encode(codes[at : at + PIECE]).decode()}
            piece |= {"alignment": told or None, "normalized_alignment": told or None}
            request.chunk(json.dumps(piece).encode() + b"\n")
        return request.chunk(b"")

    def refusal(self, why):
        return {"detail": {"status": "refused", "message": why}}


def timed(text, times):
    """Each character with its times: those of its word in even parts; what is between words goes to the next one."""
    told, times, now = [], iter(times), 0.0
    for part in re.findall(r"\s+|\S+", text):
        begin = end = now
        said = words(part).split()
        if said:
            spans = [next(times) for _ in said]
            begin, end = spans[0][0], spans[-1][1]
        each = (end - begin) / len(part)
        told += [(character, round(begin + at * each, 3), round(begin + (at + 1) * each, 3)) for at, character in enumerate(part)]
        now = end
    return told
