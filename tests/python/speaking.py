"""The one voice and the one recogniser behind all stand-ins and tests that really speak and hear: flite, and pocketsphinx with
small grammars. Sound is 16-bit samples, or the telephone's mu-law of 8 kHz."""

import array
import functools
import math
import os
import re
import subprocess
import sys
import tempfile
import threading

from pocketsphinx import Decoder

EARS_RATE, LINE_RATE = 16_000, 8_000  # Hz
# What a recogniser tells the time in.
FRAMES_A_SECOND = 100
# What a recogniser has heard before a stream begins, so that it knows how loud voices are.
FIRST_HEARD = "Good morning, may I have a table for four at seven please?"


def words(text):
    """The words alone, as a grammar and its recogniser write them."""
    return " ".join(re.findall(r"[a-z']+", text.lower()))


def synthesize(text, rate, *effects):
    """What flite says, as samples of this rate."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "said.wav")
        subprocess.run(["flite", "-voice", "rms", "-t", text, "-o", path], check=True, timeout=30)
        command = ["sox", "-D", path, "-r", str(rate), "-c", "1", "-b", "16", "-e", "signed", "-L", "-t", "raw", "-"]
        return subprocess.run([*command, *effects], check=True, timeout=30, stdout=subprocess.PIPE).stdout


@functools.cache
def voice(text, rate):
    """The same, made once."""
    return synthesize(text, rate)


def samples_of(pcm):
    """The numbers in samples of the wire's byte order."""
    samples = array.array("h", pcm)
    if sys.byteorder == "big":
        samples.byteswap()
    return samples


def bytes_of(samples):
    """The bytes of numbers in the wire's byte order."""
    if sys.byteorder == "big":
        samples = samples[:]
        samples.byteswap()
    return samples.tobytes()


def _of_mulaw(code):
    """ITU-T G.711."""
    code = ~code & 0xFF
    size = ((((code & 0x0F) << 3) + 0x84) << ((code & 0x70) >> 4)) - 0x84
    return -size if code & 0x80 else size


OF_MULAW = [_of_mulaw(code) for code in range(256)]


def to_mulaw(pcm):
    """Samples of 8 kHz as mu-law."""
    raw = ["-t", "raw", "-r", str(LINE_RATE), "-c", "1"]
    command = ["sox", "-D", *raw, "-b", "16", "-e", "signed", "-L", "-", *raw, "-b", "8", "-e", "mu-law", "-"]
    return subprocess.run(command, input=pcm, check=True, timeout=30, stdout=subprocess.PIPE).stdout


def _tap(far):
    """Of a half-band filter with Hann's window, so far from the middle."""
    angle = math.pi * (far - 0.5)
    return math.sin(angle) / angle * math.cos(angle / (2 * REACH)) ** 2


# Samples on each side that the one between two of them is made of.
REACH = 8
TAPS = [(far, _tap(far)) for far in range(1, REACH + 1)]


class FromLine:
    """Mu-law in pieces as samples for the recogniser, twice as many."""

    def __init__(self):
        self.past = [0] * (2 * REACH)

    def push(self, codes):
        """Comes 1 ms late."""
        line = self.past + [OF_MULAW[code] for code in codes]
        self.past = line[len(line) - 2 * REACH :]
        made = array.array("h")
        for at in range(REACH, REACH + len(codes)):
            between = sum(tap * (line[at + 1 - far] + line[at + far]) for far, tap in TAPS)
            made.append(line[at])
            made.append(max(-32768, min(32767, round(between))))
        return bytes_of(made)


def from_line(codes):
    """A whole recording for the recogniser."""
    return FromLine().push(codes + b"\xff" * REACH)


class Recogniser:
    """Understands what fits the grammar, and nothing else."""

    def __init__(self, rule):
        self.rule, self.decoder, self.lock = rule, _decoder(rule), threading.Lock()

    def understand(self, pcm):
        """The words in samples for the recogniser; none when nothing fits."""
        silence = bytes(EARS_RATE)
        with self.lock:
            self.decoder.start_utt()
            self.decoder.process_raw(silence + pcm + silence, full_utt=True)
            self.decoder.end_utt()
            found = self.decoder.hyp()
            return found.hypstr if found else ""

    def listen(self):
        """The same grammar for one who listens while somebody speaks."""
        return Hearing(_decoder(self.rule))


class Hearing:
    """One voice after the other, each understood while it is spoken."""

    def __init__(self, decoder):
        self.decoder = decoder
        decoder.start_utt()
        decoder.process_raw(from_line(to_mulaw(voice(FIRST_HEARD, LINE_RATE))), full_utt=True)
        decoder.end_utt()
        self.level = decoder.get_cmn(False)

    def begin(self):
        """Another voice; what was understood before is gone."""
        self.decoder.set_cmn(self.level)
        self.decoder.start_utt()

    def hear(self, pcm):
        self.decoder.process_raw(pcm)

    def so_far(self):
        """The words by now, each with its times in seconds since the beginning; the newest ones may still change."""
        return _timed(self.decoder)

    def end(self):
        """All words; none when they are no whole sentence of the grammar."""
        self.decoder.end_utt()
        return _timed(self.decoder)


class Aligner:
    """Finds out when a voice says which word."""

    def __init__(self):
        self.decoder, self.lock = Decoder(lm=None, samprate=EARS_RATE, loglevel="FATAL"), threading.Lock()

    def times(self, text):
        """The times in seconds of each word that `voice` says."""
        with self.lock:
            self.decoder.set_align_text(words(text))
            self.decoder.start_utt()
            self.decoder.process_raw(voice(text, EARS_RATE), full_utt=True)
            self.decoder.end_utt()
            found = _timed(self.decoder)
        assert [word for word, _, _ in found] == words(text).split(), (text, found)
        return [(begin, end) for _, begin, end in found]


def _decoder(rule):
    with tempfile.NamedTemporaryFile("w", suffix=".gram") as file:
        file.write(f"#JSGF V1.0;\ngrammar words;\npublic <words> = {rule};\n")
        file.flush()
        return Decoder(jsgf=file.name, samprate=EARS_RATE, loglevel="FATAL")


def _timed(decoder):
    """Without silences and marks, and without the number of a pronunciation."""
    found = decoder.hyp() and decoder.seg()
    named = [(re.sub(r"\(\d+\)$", "", part.word), part) for part in found or ()]
    return [
        (word, part.start_frame / FRAMES_A_SECOND, (part.end_frame + 1) / FRAMES_A_SECOND)
        for word, part in named
        if word[0] not in "<[+("
    ]
