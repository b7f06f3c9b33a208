"""A gRPC client of another make against a worker: what it is asked in Python is answered as the contract says.

    converse.py HOST:PORT

Knows no generated code: services, methods and messages come from the worker's reflection. Calls every method and holds
whole conversations. Prints a line for each check; the exit code is 1 when one does not hold.
"""

import array
import cmath
import math
import queue
import sys
import threading
import time

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.rpc import error_details_pb2, status_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

DOMAIN = "tandem.voice.v1"
VOICE, AUDIO, HEALTH = f"{DOMAIN}.VoiceService", f"{DOMAIN}.AudioService", "grpc.health.v1.Health"
RATE, FRAME, TICK = 8000, 160, 0.02
FRAMES, TONE_HZ, AMPLITUDE = 100, 1000, 8000
# The key 5 as a tone: ITU-T Q.23.
KEY, KEY_HZ = "5", (770, 1336)
# The signal path may hold back less than two frames until more comes.
HELD_BACK = 2 * FRAME
PATIENCE = 20.0


class Checks:
    """Says what holds and what does not."""

    def __init__(self):
        self.passed, self.failed = 0, 0

    def holds(self, what, condition, detail=""):
        if condition:
            self.passed += 1
            print(f"ok      {what}", flush=True)
        else:
            self.failed += 1
            print(f"FAILED  {what} {detail}", flush=True)

    def equal(self, what, left, right):
        self.holds(what, left == right, f"({left!r} is not {right!r})")

    def refused(self, what, code, reason, action, field=None):
        """It must fail with this code and this google.rpc.ErrorInfo, and name the field if there is one."""
        try:
            answer = action()
        except grpc.RpcError as error:
            details = details_of(error)
            info = details.get(error_details_pb2.ErrorInfo)
            self.equal(what, (error.code(), info and (info.domain, info.reason)), (code, (DOMAIN, reason)))
            if field:
                request = details.get(error_details_pb2.BadRequest)
                fields = [violation.field for violation in request.field_violations] if request else []
                self.equal(f"{what}: the field is named", fields, [field])
        else:
            self.holds(what, False, f"(went through: {answer!r})")


def details_of(error):
    """The messages in a status, by their type."""
    trailers = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailers.get("grpc-status-details-bin", b""))
    known, found = (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo), {}
    for detail in status.details:
        for kind in known:
            if detail.Is(kind.DESCRIPTOR):
                found[kind] = kind()
                detail.Unpack(found[kind])
    return found


class Worker:
    """A worker, as its reflection describes it."""

    def __init__(self, channel):
        self.channel = channel
        self.database = ProtoReflectionDescriptorDatabase(channel)
        self.pool = descriptor_pool.DescriptorPool(self.database)

    def services(self):
        return sorted(self.database.get_services())

    def methods(self, service):
        return {method.name: method for method in self.pool.FindServiceByName(service).methods}

    def message(self, name, **fields):
        return message_factory.GetMessageClass(self.pool.FindMessageTypeByName(name))(**fields)

    def stub(self, service, method):
        found = self.methods(service)[method]
        kind = ("stream" if found.client_streaming else "unary") + ("_stream" if found.server_streaming else "_unary")
        return getattr(self.channel, kind)(
            f"/{service}/{method}",
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=message_factory.GetMessageClass(found.output_type).FromString,
        )

    def ask(self, service, method, /, **fields):
        """The answer of a unary method."""
        request = message_factory.GetMessageClass(self.methods(service)[method].input_type)(**fields)
        return self.stub(service, method)(request, timeout=PATIENCE)

    def info(self):
        return self.ask(VOICE, "GetInfo")

    def say(self, **variant):
        """A message up."""
        return self.message(f"{DOMAIN}.ConverseRequest", **variant)


class Conversation:
    """A stream: what is put goes up, what comes down is kept."""

    def __init__(self, worker, *first):
        self.worker, self.up, self.seen = worker, queue.Queue(), []
        self.changed, self.over, self.error = threading.Condition(), False, None
        for message in first:
            self.up.put(message)
        self.call = worker.stub(VOICE, "Converse")(iter(self.up.get, None), timeout=PATIENCE)
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        error = None
        try:
            for message in self.call:
                with self.changed:
                    self.seen.append((time.monotonic(), message))
                    self.changed.notify_all()
        except grpc.RpcError as failed:
            error = failed
        with self.changed:
            self.over, self.error = True, error
            self.changed.notify_all()

    def send(self, **variant):
        self.up.put(self.worker.say(**variant))

    def wait_for(self, condition):
        """Waits until the condition holds for what was said, or the stream is over; whether it holds."""
        with self.changed:
            self.changed.wait_for(lambda: condition(self.said()) or self.over, PATIENCE)
            return condition(self.said())

    def said(self):
        return [message for _, message in self.seen]

    def of(self, kind):
        return [getattr(message, kind) for message in self.said() if message.WhichOneof("message") == kind]

    def end(self):
        """Waits for the end; raises what the worker ended it with."""
        with self.changed:
            if not self.changed.wait_for(lambda: self.over, PATIENCE):
                self.call.cancel()
                raise RuntimeError("the stream does not end")
        self.up.put(None)
        if self.error:
            raise self.error
        return self.call.code()


def decode(code):
    """A byte of mu-law as ITU-T G.711 says."""
    code = ~code & 0xFF
    magnitude = ((((code & 0x0F) << 3) + 0x84) << ((code & 0x70) >> 4)) - 0x84
    return -magnitude if code & 0x80 else magnitude


DECODED = [decode(code) for code in range(256)]


def nearest(sample):
    """The byte of mu-law that is nearest to a sample."""
    return min(range(255, -1, -1), key=lambda code: abs(DECODED[code] - sample))


def little_endian(samples):
    samples = array.array("h", samples)
    if sys.byteorder == "big":
        samples.byteswap()
    return samples.tobytes()


def samples_of(pcm):
    samples = array.array("h")
    samples.frombytes(pcm)
    if sys.byteorder == "big":
        samples.byteswap()
    return list(samples)


def share_at(samples, hertz, rate=RATE):
    """How much of the energy is in the tones of these frequencies: 1 is all of it."""
    energy = sum(sample * sample for sample in samples)
    if not energy:
        return 0.0
    found = 0.0
    for frequency in hertz:
        turn = cmath.rect(1, -2 * math.pi * frequency / rate)
        phase, total = complex(1), complex(0)
        for sample in samples:
            total += sample * phase
            phase *= turn
        found += 2 * abs(total) ** 2 / len(samples)
    return found / energy


def level(samples):
    return math.sqrt(sum(sample * sample for sample in samples) / len(samples))


def tone(count, rate=RATE):
    return [round(AMPLITUDE * math.sin(2 * math.pi * TONE_HZ * at / rate)) for at in range(count)]


def unary(check, worker):
    """Every method that takes one message and gives one."""
    info = worker.info()
    check.holds("GetInfo says who it is", info.worker_id and info.version and info.capacity > 0, repr(info))
    check.holds("GetInfo names the agent echo", "echo" in info.agents and not info.draining, repr(info))
    for service in ("", VOICE, AUDIO):
        check.equal(f"Health/Check of {service or 'all'} is SERVING", worker.ask(HEALTH, "Check", service=service).status, 1)
    watched = worker.stub(HEALTH, "Watch")(worker.message("grpc.health.v1.HealthCheckRequest"), timeout=PATIENCE)
    check.equal("Health/Watch begins with SERVING", next(watched).status, 1)
    watched.cancel()

    every = bytes(range(256))
    plain = worker.ask(AUDIO, "Decode", mulaw=every, sample_rate=RATE)
    check.equal("Decode gives all 256 codes their value of G.711", samples_of(plain.pcm), DECODED)
    check.equal("Decode tells the rate", plain.sample_rate, RATE)
    back = worker.ask(AUDIO, "Encode", pcm=plain.pcm, sample_rate=RATE).mulaw
    # There are two codes for silence.
    check.equal("Encode gives them back", [DECODED[code] for code in back], DECODED)
    sound = tone(RATE)
    mulaw = worker.ask(AUDIO, "Encode", pcm=little_endian(sound), sample_rate=RATE).mulaw
    off = max(abs(abs(DECODED[code] - sample) - abs(DECODED[nearest(sample)] - sample)) for code, sample in zip(mulaw, sound))
    check.holds("Encode takes the nearest code, or its neighbour at a tie", len(mulaw) == len(sound) and off <= 4, f"({off})")
    for count in (1, 159, 160, RATE):
        pcm = little_endian(tone(count))
        wide = worker.ask(AUDIO, "Resample", pcm=pcm)
        check.equal(f"Resample of {count} samples gives {2 * count}", (len(wide.pcm), wide.sample_rate), (4 * count, 2 * RATE))
        narrow = worker.ask(AUDIO, "Resample", pcm=wide.pcm, from_rate=2 * RATE, to_rate=RATE)
        check.equal(f"and back {count}", len(narrow.pcm), 2 * count)
    wide = samples_of(worker.ask(AUDIO, "Resample", pcm=little_endian(sound)).pcm)
    share, gain = share_at(wide, [TONE_HZ], 2 * RATE), level(wide) / level(sound)
    check.holds("a tone stays that tone when it is resampled", share > 0.999 and 0.98 < gain < 1.02, f"({share}, {gain})")


def wrong_clips(check, worker):
    wrong = grpc.StatusCode.INVALID_ARGUMENT
    for what, method, field, fields in [
        ("a rate that is not known", "Resample", "from_rate", dict(pcm=b"\0\0", from_rate=11025)),
        ("half a sample", "Encode", "pcm", dict(pcm=b"\0\0\0")),
        ("more than a minute", "Decode", "mulaw", dict(mulaw=b"\xff" * (60 * RATE + 1))),
    ]:
        check.refused(f"{method} refuses {what}", wrong, "BAD_FIELD", lambda: worker.ask(AUDIO, method, **fields), field)


def echo(check, worker):
    """A conversation of two seconds with the agent echo, at the pace of a call."""
    before = worker.info()
    mulaw = bytes(nearest(sample) for sample in tone(FRAME * FRAMES))
    open_ = dict(call_id="CA-python", stream_id="MZ-python", agent="echo", direction=1, codec=1)
    talk = Conversation(worker, worker.say(open=open_))
    check.holds("the first answer is Ready", talk.wait_for(lambda said: said) and talk.of("ready"), repr(talk.error))
    ready = talk.of("ready")[0]
    told = (ready.worker_id, ready.version, ready.frame_samples)
    check.equal("Ready says who took it", told, (before.worker_id, before.version, FRAME))
    check.holds("Ready counts this conversation", 1 <= ready.live <= ready.capacity, repr(ready))

    began = time.monotonic()
    for at in range(FRAMES):
        wait = began + at * TICK - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        frame = mulaw[at * FRAME : (at + 1) * FRAME]
        talk.send(audio=dict(seq=at + 1, media_time_ms=20 * at, mulaw=frame))
        if at == FRAMES // 4:
            talk.send(dtmf=dict(digit="7"))
        elif at == FRAMES // 2:
            talk.send(notice=dict(kind="answered_by", value="human"))
            # What a newer gateway may say.
            talk.send(notice=dict(kind="not-yet-invented", value="x"))
            talk.up.put(worker.say())
        elif at == 3 * FRAMES // 4:
            talk.send(played=dict(utterance=1, ms=1000, media_time_ms=20 * at))
    spoken = time.monotonic()
    heard = lambda: b"".join(piece.mulaw for piece in talk.of("audio"))
    enough = talk.wait_for(lambda _: len(heard()) >= len(mulaw) - HELD_BACK)
    check.holds("all of it is echoed", enough, f"({len(heard())} of {len(mulaw)} samples, {talk.error})")
    first = next((when for when, message in talk.seen if message.WhichOneof("message") == "audio"), math.inf)
    check.holds("the echo begins while the caller speaks", first < spoken - 1, f"({first - began:.3f} s)")
    check.equal("it is utterance 1", {piece.utterance for piece in talk.of("audio")}, {1})
    check.holds("its pieces are whole frames", {len(piece.mulaw) for piece in talk.of("audio")} == {FRAME})
    # Not where the filters of the signal path begin.
    samples = [DECODED[code] for code in heard()[2 * FRAME :]]
    share, gain = share_at(samples, [TONE_HZ]), level(samples) / level(tone(RATE))
    check.holds("it is the tone", share > 0.99, f"({share:.4f} of its energy)")
    check.holds("as loud as it was said", 0.95 < gain < 1.05, f"({gain:.3f})")
    during = worker.info()
    check.holds("GetInfo counts it", during.live >= 1 and during.opened_total > before.opened_total, repr(during))

    talk.send(instruct=dict(play_digits=dict(digits=KEY), id=42))
    check.holds("an order is answered", talk.wait_for(lambda _: talk.of("instructed")), repr(talk.error))
    check.equal("it was taken", [(answer.id, answer.outcome) for answer in talk.of("instructed")], [(42, 1)])
    is_over = lambda _: any(end.utterance > 1 for end in talk.of("utterance_end"))
    check.holds("the key is an utterance of its own", talk.wait_for(is_over), repr(talk.error))
    pressed = [DECODED[code] for piece in talk.of("audio") if piece.utterance > 1 for code in piece.mulaw]
    # Without the pause that follows.
    while pressed and abs(pressed[-1]) < 100:
        pressed.pop()
    share = share_at(pressed, KEY_HZ)
    check.holds(f"and sounds like the key {KEY}", share > 0.95, f"({share:.4f} of its energy)")

    talk.send(close=dict(reason=1))
    check.equal("Close ends it with OK", talk.end(), grpc.StatusCode.OK)


def wrong_conversations(check, worker):
    invalid, audio = grpc.StatusCode.INVALID_ARGUMENT, dict(seq=1, mulaw=b"\xff" * FRAME)
    open_ = lambda **fields: worker.say(open=dict(call_id="CA-python", **fields))
    for what, code, reason, messages in [
        ("audio before Open", invalid, "OPEN_EXPECTED", [worker.say(audio=audio)]),
        ("a codec that is not known", invalid, "UNKNOWN_CODEC", [open_(codec=99)]),
        ("a second Open", invalid, "SECOND_OPEN", [open_(), open_()]),
        ("a frame over the limit", invalid, "AUDIO_TOO_LONG", [open_(), worker.say(audio=dict(seq=1, mulaw=bytes(8001)))]),
        ("an agent that nobody knows", grpc.StatusCode.NOT_FOUND, "UNKNOWN_AGENT", [open_(agent="nobody")]),
    ]:
        check.refused(f"Converse refuses {what}", code, reason, Conversation(worker, *messages).end)


def cancelled(check, worker):
    """A client that goes away leaves nothing behind."""
    before = worker.info()
    talk = Conversation(worker, worker.say(open=dict(call_id="CA-python")))
    check.holds("another conversation begins", talk.wait_for(lambda said: said), repr(talk.error))
    talk.call.cancel()
    try:
        talk.end()
    except grpc.RpcError as error:
        check.equal("the client may cancel it", error.code(), grpc.StatusCode.CANCELLED)
    deadline = time.monotonic() + PATIENCE
    while worker.info().live > before.live and time.monotonic() < deadline:
        time.sleep(0.05)
    check.holds("its place is free again", worker.info().live <= before.live)


def every_method(check, worker):
    """Reflection names what this program knows how to ask, and nothing that it does not."""
    for service in (VOICE, AUDIO, HEALTH):
        check.holds(f"reflection names {service}", service in worker.services(), repr(worker.services()))
    check.equal("VoiceService has the methods asked here", set(worker.methods(VOICE)), {"Converse", "GetInfo"})
    check.equal("AudioService has the methods asked here", set(worker.methods(AUDIO)), {"Decode", "Encode", "Resample"})


def main():
    check = Checks()
    with grpc.insecure_channel(sys.argv[1]) as channel:
        try:
            grpc.channel_ready_future(channel).result(PATIENCE)
        except grpc.FutureTimeoutError:
            sys.exit(f"nobody answers at {sys.argv[1]}")
        worker = Worker(channel)
        for part in (every_method, unary, wrong_clips, echo, wrong_conversations, cancelled):
            try:
                part(check, worker)
            except Exception as error:
                check.holds(part.__name__, False, repr(error))
    print(f"grpcio {grpc.__version__}: {check.passed} checks passed, {check.failed} failed")
    return 1 if check.failed or not check.passed else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main())
