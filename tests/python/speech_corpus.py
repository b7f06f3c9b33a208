"""Makes tests/corpus/speech.ulaw, speech.tsv and murmurs.ulaw, murmurs.tsv from nothing but flite and sox.

    apt-get install flite sox
    python3 tests/python/speech_corpus.py tests/corpus

The same versions of both give the same bytes (flite 2.2-5 and sox 14.4.2 of Debian 12 made what is committed).
"""

import array
import math
import pathlib
import subprocess
import sys
import tempfile

RATE = 8_000  # Hz
FRAME = RATE // 100  # samples of a frame of the labels: 10 ms

# A frame is speech when it is within this of the clip's loudest frame, dB.
WITHIN = 35
# Closures of plosives belong to the word: shorter holes are filled, frames of 10 ms.
HOLE = 12
# Shorter islands are clicks of the synthesizer, frames of 10 ms.
ISLAND = 3

# Peak levels of the lines, dBFS: callers are not equally loud.
LEVELS = (-3, -6, -9)
# Pauses after the lines, ms.
PAUSES = (700, 1500, 400, 1100, 900, 600)

VOICES = ("rms", "slt", "awb", "kal")
# Speaking rates: the duration of a sound against the voice's own.
STRETCHES = (1.0, 0.85, 1.15)

LINES = """
Hello, who is this please?
Yes.
I would like to change my appointment to Thursday afternoon.
No, thank you.
Four two seven eight.
Could you repeat the last sentence? I did not hear it.
My name is Margaret Fisher, and I live in Cambridge.
Well, it started about three weeks ago, mostly in the evening.
Yes please.
Can I speak to a person?
I have been waiting for twenty minutes.
The order number is nine one five five zero six.
That is right.
How much does it cost to send a parcel to Sweden?
Stop.
I think the red one would be better.
Not at all, I was just leaving the house.
Good bye, and thanks for your help.
She sells sea shells by the sea shore.
Six thick thistle sticks, five fresh fish.
Wait a moment, I have to look for my glasses.
On a scale from one to ten, perhaps a seven.
Nothing else.
Who told you that I was away in March?
Between eight and half past nine in the morning.
The heating in the kitchen does not work any more.
I agree.
Please call me back at home tomorrow.
We were in the middle of dinner when the lights went out.
What happens if I press the other button?
Maybe.
My doctor told me to ask for a second opinion.
""".strip().splitlines()

# What a listener says while the other one goes on talking.
MURMURS = ("Uh huh.", "Um hum.", "Hum.", "Um.", "Ah.", "Okay.")


def spoken(text, voice, stretch, peak):
    """The line as the telephone carries it: 300 to 3400 Hz, 8 kHz, 16 bit."""
    with tempfile.TemporaryDirectory() as folder:
        wide, narrow = f"{folder}/wide.wav", f"{folder}/narrow.raw"
        subprocess.run(
            ["flite", "-voice", voice, "--setf", f"duration_stretch={stretch}", "-t", text, "-o", wide], check=True)
        form = ["-r", str(RATE), "-c", "1", "-b", "16", "-e", "signed", "-L", "-t", "raw"]
        subprocess.run(["sox", "-D", wide, *form, narrow, "sinc", "300-3400", "gain", "-n", str(peak)], check=True)
        samples = array.array("h", pathlib.Path(narrow).read_bytes())
    if sys.byteorder == "big":
        samples.byteswap()
    return samples


def speech(samples):
    """Where somebody speaks, as pairs of samples."""
    frames = [samples[at:at + FRAME] for at in range(0, len(samples) - FRAME + 1, FRAME)]
    power = [sum(sample * sample for sample in frame) / FRAME for frame in frames]
    floor = max(power) / 10 ** (WITHIN / 10)
    spans = []
    for at, one in enumerate(power):
        if one < floor:
            continue
        if spans and at - spans[-1][1] <= HOLE:
            spans[-1][1] = at + 1
        else:
            spans.append([at, at + 1])
    return [(begin * FRAME, end * FRAME) for begin, end in spans if end - begin >= ISLAND]


def code(sample):
    """G.711 mu-law of one sample."""
    magnitude = min((~sample if sample < 0 else sample) >> 2, 0x1FFF - 33) + 33
    segment = magnitude.bit_length() - 6
    inverted = segment << 4 | (magnitude >> (segment + 1)) & 0x0F
    return ~inverted & 0x7F | (0 if sample < 0 else 0x80)


def write(folder, name, samples, rows):
    folder.joinpath(f"{name}.ulaw").write_bytes(bytes(map(code, samples)))
    lines = ["\t".join(map(str, row)) for row in rows]
    folder.joinpath(f"{name}.tsv").write_text("\n".join(lines) + "\n")
    print(f"{name}: {len(samples) / RATE:.1f} s, {len(rows)} spans")


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)

    stream, spans = array.array("h", [0] * RATE), []
    for number, line in enumerate(LINES):
        voice, stretch = VOICES[number % len(VOICES)], STRETCHES[number % len(STRETCHES)]
        samples = spoken(line, voice, stretch, LEVELS[number // 2 % len(LEVELS)])
        spans += [(len(stream) + begin, len(stream) + end) for begin, end in speech(samples)]
        stream += samples
        stream.extend([0] * (PAUSES[number % len(PAUSES)] * RATE // 1000))
    stream.extend([0] * (-len(stream) % (RATE // 50)))
    write(folder, "speech", stream, spans)

    stream, clips = array.array("h"), []
    for number, text in enumerate(MURMURS * 2):
        samples = spoken(text, VOICES[(number + number // len(MURMURS)) % len(VOICES)], 1.0, -12)
        spans = speech(samples)
        samples = samples[spans[0][0]:spans[-1][1]]
        clips.append((len(stream), len(stream) + len(samples), text))
        stream += samples
    write(folder, "murmurs", stream, clips)


main()
