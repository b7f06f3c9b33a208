"""A server that speaks Deepgram's protocol and really hears: sessions over a WebSocket, understood while somebody speaks.

<https://developers.deepgram.com/reference/speech-to-text/listen-streaming>. Every session is kept. Recordings are understood
as well, and counted: they are what the worker falls back to.
"""

import io
import json
import threading
import time
import wave

import socket_frames
from speaking import EARS_RATE, LINE_RATE, OF_MULAW, FromLine
from stand_in import StandIn

# What is judged at once: 20 ms.
FRAME = LINE_RATE // 50
# A frame with a louder sample holds voice.
LOUD = 500
# How often it tells what it has understood so far, in ms.
INTERIM_MS = 300
# What is listened to again once a voice begins: its beginning may be soft.
BEFORE_VOICE_MS = 300
# Before so much silence what is asked to become final may be half a word, and is not told: words go on behind a hole.
WHOLE_WORD_MS = 200
# What a recogniser is given to come to the end of the last word.
AFTER_VOICE = bytes(EARS_RATE // 5 * 2)
# Without sound and signs of life for so long a session ends.
SILENT_LIMIT_S = 10


class Deepgram(StandIn):
    KEY_HEADER, BEFORE_KEY = "Authorization", "Token "

    """`expected`: so many sessions are listened to at once; for more, a caller waits until somebody can listen."""

    def __init__(self, recogniser, key, expected):
        self.recogniser, self.sessions, self.recordings = recogniser, [], []
        self.ready = [recogniser.listen() for _ in range(expected)]
        super().__init__(key)

    def get(self, request):
        path, query = request.place()
        if path != "/v1/listen":
            return False
        wanted = {"encoding": "mulaw", "sample_rate": str(LINE_RATE), "channels": "1", "interim_results": "true"}
        found = {name: query.get(name, [None])[-1] for name in wanted}
        if found != wanted:
            return request.answer(400, self.refusal(f"{found} is not what is served here"))
        hearing = self.ready.pop() if self.ready else self.recogniser.listen()
        session = Session(request, query, hearing)
        self.sessions.append(session)
        socket_frames.accept(request)
        session.run()
        self.ready.append(hearing)
        return True

    def post(self, request, body):
        path, _ = request.place()
        if path != "/v1/listen":
            return False
        with wave.open(io.BytesIO(body)) as file:
            assert file.getframerate() == EARS_RATE, file.getframerate()
            text = self.recogniser.understand(file.readframes(file.getnframes()))
        self.recordings.append(text)
        return request.answer(200, {"metadata": {}, "results": {"channels": [{"alternatives": [alternative(text, [])]}]}})

    def refusal(self, why):
        return {"err_code": "REFUSED", "err_msg": why, "request_id": "0"}


class Stretch:
    """What was understood of one voice, and when; times are of the clock that only goes forward."""

    def __init__(self):
        self.interim, self.text, self.last_voice = [], "", 0.0

    def add(self, found):
        self.text = f"{self.text} {text_of(found)}".strip()


class Session:
    """One caller's sound and what it was understood as, over one socket."""

    def __init__(self, request, query, hearing):
        self.request, self.hearing = request, hearing
        self.endpointing_ms = int(query.get("endpointing", ["10"])[0])
        self.utterance_end_ms = int(query.get("utterance_end_ms", ["1000"])[0])
        self.tells_beginnings = query.get("vad_events") == ["true"]
        self.keep_alives, self.finalizes, self.ended, self.over = 0, 0, "broken off", threading.Event()
        self.stretches, self.stretch = [], None
        self.from_line, self.rest = None, b""
        # The newest sound that no voice was in.
        self.before = b""
        # In ms of sound: now, since the beginning of the voice, of its last loud frame, of the last word to be told of;
        # up to where words are final; when interim words were told.
        self.at, self.begin, self.voice_to, self.last_word, self.final_to, self.told_at = 0, 0, 0, None, 0, 0
        # Words of the voice that are final already.
        self.final_words = 0
        # When, in ms of sound, words are told that were asked to become final.
        self.flush_at = None

    def run(self):
        """To its end."""
        self.request.connection.settimeout(SILENT_LIMIT_S)
        try:
            while self.ended == "broken off":
                kind, data = socket_frames.read(self.request)
                if kind == socket_frames.BINARY:
                    self.hear(data)
                elif kind == socket_frames.TEXT:
                    self.obey(json.loads(data)["type"])
                elif kind == socket_frames.PING:
                    socket_frames.write(self.request, socket_frames.PONG, data)
                elif kind == socket_frames.CLOSE:
                    return
        except TimeoutError:
            self.ended = "silent"
            socket_frames.write(self.request, socket_frames.CLOSE, (1011).to_bytes(2, "big") + b"NET-0001")
        except OSError:
            pass
        finally:
            self.over.set()

    def obey(self, order):
        if order == "KeepAlive":
            self.keep_alives += 1
        elif order == "Finalize":
            self.finalizes += 1
            if self.stretch and self.at - self.voice_to < WHOLE_WORD_MS:
                self.flush_at = self.voice_to + WHOLE_WORD_MS
            else:
                self.flush()
        elif order == "CloseStream":
            if self.stretch:
                self.end_voice()
            self.send({
                "type": "Metadata", "transaction_key": "deprecated", "request_id": "0", "sha256": "0",
                "created": "2024-08-29T22:37:55.202Z", "duration": self.at / 1000, "channels": 1,
            })
            self.ended = "closed"
            socket_frames.close(self.request, 1000)
        else:
            self.ended = "refused"
            socket_frames.close(self.request, 1008, "DATA-0000")

    def hear(self, codes):
        codes = self.rest + codes
        whole = len(codes) // FRAME * FRAME
        self.rest = codes[whole:]
        for at in range(0, whole, FRAME):
            frame = codes[at : at + FRAME]
            self.at += 1000 * FRAME // LINE_RATE
            self.hear_frame(frame, any(abs(OF_MULAW[code]) > LOUD for code in frame))

    def hear_frame(self, frame, is_loud):
        if is_loud and not self.stretch:
            frame, self.before = self.before + frame, b""
            self.stretch, self.from_line = Stretch(), FromLine()
            self.begin, self.final_words = self.at - 1000 * len(frame) // LINE_RATE, 0
            self.hearing.begin()
            if self.tells_beginnings:
                self.send({"type": "SpeechStarted", "channel": [0], "timestamp": self.begin / 1000})
        if is_loud:
            self.voice_to, self.stretch.last_voice, self.flush_at = self.at, time.monotonic(), None
        if self.stretch:
            self.hearing.hear(self.from_line.push(frame))
        else:
            self.before = (self.before + frame)[-BEFORE_VOICE_MS * LINE_RATE // 1000 :]
        if self.stretch and self.at - self.voice_to >= self.endpointing_ms:
            self.end_voice()
        elif self.flush_at is not None and self.at >= self.flush_at:
            self.flush()
        elif self.last_word is not None and not self.stretch and self.at - self.last_word >= self.utterance_end_ms:
            self.send({"type": "UtteranceEnd", "channel": [0, 1], "last_word_end": self.last_word / 1000})
            self.last_word = None
        elif self.at - self.told_at >= INTERIM_MS:
            found = self.new_words(self.hearing.so_far()) if self.stretch else []
            self.tell(found)
            if found:
                self.stretch.interim.append((time.monotonic(), f"{self.stretch.text} {text_of(found)}".strip()))

    def flush(self):
        """What is understood by now is final, whether the voice is over or goes on."""
        found, self.flush_at = [], None
        if self.stretch:
            known = self.hearing.so_far()
            found, self.final_words = self.new_words(known), len(known)
            self.stretch.add(found)
        self.tell(found, is_final=True, from_finalize=True)

    def end_voice(self):
        """It was silent long enough."""
        self.flush_at = None
        known = self.hearing.so_far()
        self.hearing.hear(AFTER_VOICE)
        found = self.new_words(self.hearing.end() or known)
        self.stretch.add(found)
        if self.stretch.text:
            self.stretches.append(self.stretch)
        self.stretch = None
        self.tell(found, is_final=True, speech_final=True)

    def new_words(self, found):
        """Those behind the final ones, with their times in the session."""
        begin = self.begin / 1000
        return [(word, begin + start, begin + end) for word, start, end in found[self.final_words :]]

    def tell(self, found, is_final=False, speech_final=False, from_finalize=False):
        self.told_at = self.at
        if found:
            self.last_word = round(found[-1][2] * 1000)
        self.send({
            "type": "Results", "channel_index": [0, 1], "start": self.final_to / 1000,
            "duration": (self.at - self.final_to) / 1000, "is_final": is_final, "speech_final": speech_final,
            "from_finalize": from_finalize, "channel": {"alternatives": [alternative(text_of(found), found)]},
            "metadata": {"request_id": "0", "model_uuid": "0", "model_info": {"name": "pocketsphinx", "version": "5", "arch": "hmm"}},
        })
        if is_final:
            self.final_to = self.at

    def send(self, message):
        socket_frames.write(self.request, socket_frames.TEXT, json.dumps(message).encode())


def text_of(found):
    return " ".join(word for word, _, _ in found)


def alternative(text, found):
    told = [
        {"word": word, "punctuated_word": word, "start": round(start, 3), "end": round(end, 3), "confidence": 0.9}
        for word, start, end in found
    ]
    return {"transcript": text, "confidence": 0.9 if text else 0.0, "words": told}
