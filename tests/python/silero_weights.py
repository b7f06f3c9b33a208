"""Makes weights.bin and reference.bin of audio-worker/src/ears/silero from the wheel of Silero VAD.

    pip install onnx onnxruntime
    pip download --no-deps silero-vad==6.2.3
    python3 tests/python/silero_weights.py silero_vad-6.2.3-py3-none-any.whl

weights.bin is little-endian f32, each layer as its matrix (a row for each output) and then its bias:

    layer     outputs  inputs of a row
    encoder1  128      3 x 129: taps (earlier, now, later) of all channels
    encoder2  64       3 x 128: the same, stride 2
    encoder3  64       2 x 64: taps (now, later); there is nothing earlier
    encoder4  128      64: tap (now); there is nothing else
    lstm      4 x 128  128 of the encoder, 128 of the last output; gates (input, forget, cell, output)
    output    1        128

The transform in front is a plain one of 256 samples under a Hann window, which this checks, so it needs no weights.

reference.bin holds what onnxruntime answers for the beginning of tests/corpus/speech.ulaw: little-endian f32, one for
each window of 512 samples. Each sample of the clip is taken twice, so that 16 kHz need no filter to agree on.
"""

import pathlib
import sys
import zipfile

import numpy
import onnx
import onnxruntime

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / "audio-worker/src/ears/silero"
CLIP = ROOT / "tests/corpus/speech.ulaw"
# Not the 16 kHz safetensors file of the same wheel: those are other weights, and false alarms in noise are more.
MODEL = "silero_vad/data/silero_vad.onnx"
RATE = 16_000  # Hz
WINDOW, CONTEXT = 512, 64  # samples
REFERENCE = 625  # windows: 20 s
LENGTH, BINS = 256, 129


def tensors(data):
    """The constants of the branch for 16 kHz, by their names."""
    (choice,) = [node for node in onnx.load_from_string(data).graph.node if node.op_type == "If"]
    (branch,) = [one.g for one in choice.attribute if one.name == "then_branch"]
    found = {}
    for node in branch.node:
        for one in node.attribute:
            if node.op_type == "Constant" and one.name == "value":
                found[node.output[0].split("__")[-1]] = onnx.numpy_helper.to_array(one.t)
    return found


def check_transform(basis):
    at, bins = numpy.arange(LENGTH), numpy.arange(BINS)[:, None]
    window = 0.5 - 0.5 * numpy.cos(2 * numpy.pi * at / LENGTH)
    angles = 2 * numpy.pi * bins * at / LENGTH
    expected = numpy.concatenate([window * numpy.cos(angles), -window * numpy.sin(angles)])
    assert basis.shape == (2 * BINS, 1, LENGTH) and numpy.abs(basis[:, 0] - expected).max() < 1e-6


def layers(model):
    for number, taps in enumerate(((0, 1, 2), (0, 1, 2), (1, 2), (1,))):
        weight = model[f"encoder.{number}.reparam_conv.weight"]
        yield numpy.concatenate([weight[:, :, tap] for tap in taps], axis=1)
        yield model[f"encoder.{number}.reparam_conv.bias"]
    yield numpy.concatenate([model["decoder.rnn.weight_ih"], model["decoder.rnn.weight_hh"]], axis=1)
    yield model["decoder.rnn.bias_ih"] + model["decoder.rnn.bias_hh"]
    yield model["decoder.decoder.2.weight"]
    yield model["decoder.decoder.2.bias"]


def decoded(codes):
    """G.711 mu-law to samples."""
    inverted = ~codes
    segment, step = (inverted >> 4) & 7, (inverted & 15).astype(numpy.int32)
    magnitude = (((step << 3) + 0x84) << segment) - 0x84
    return numpy.where(codes & 0x80, magnitude, -magnitude)


def reference(data):
    session = onnxruntime.InferenceSession(data)
    codes = numpy.frombuffer(CLIP.read_bytes()[:REFERENCE * WINDOW // 2], numpy.uint8)
    samples = (numpy.repeat(decoded(codes), 2) / 32_768).astype("float32")
    samples = numpy.concatenate([numpy.zeros(CONTEXT, "float32"), samples])
    state = numpy.zeros((2, 1, 128), "float32")
    for at in range(0, REFERENCE * WINDOW, WINDOW):
        window = samples[None, at:at + CONTEXT + WINDOW]
        voice, state = session.run(None, {"input": window, "state": state, "sr": numpy.array(RATE)})
        yield voice[0, 0]


def main():
    with zipfile.ZipFile(sys.argv[1]) as archive:
        data = archive.read(MODEL)
        (licence,) = [name for name in archive.namelist() if name.endswith("licenses/LICENSE")]
        FOLDER.joinpath("LICENSE").write_bytes(archive.read(licence))
    model = tensors(data)
    check_transform(model["stft.forward_basis_buffer"])
    weights = numpy.concatenate([part.ravel() for part in layers(model)]).astype("<f4")
    FOLDER.joinpath("weights.bin").write_bytes(weights.tobytes())
    print(f"{len(weights)} weights")
    voices = numpy.array(list(reference(data)), "<f4")
    FOLDER.joinpath("reference.bin").write_bytes(voices.tobytes())
    print(f"{len(voices)} windows, {(voices >= 0.5).sum()} of them voice")


main()
