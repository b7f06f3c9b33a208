"""A complete remote agent: it greets, says what it hears, answers keys and hangs up on #. Start from it.

    pip install grpcio grpcio-tools
    python -m grpc_tools.protoc -I proto --python_out=. --grpc_python_out=. tandem/agent/v1/agent.proto
    PYTHONPATH=. AGENT_LISTEN=127.0.0.1:9000 python docs/examples/agent.py

In the agents file: [agent.mirror] with kind = "remote", url = "http://127.0.0.1:9000" and interrupt = "agent".
"""
import array
import asyncio
import math
import os

import grpc
from tandem.agent.v1 import agent_pb2 as pb
from tandem.agent.v1 import agent_pb2_grpc

TONE_HZ = 24000  # any common rate will do


def tone(utterance, hz, seconds):
    wave = (int(8000 * math.sin(math.tau * hz * n / TONE_HZ)) for n in range(int(seconds * TONE_HZ)))
    audio = pb.AgentAudio(utterance=utterance, pcm=array.array("h", wave).tobytes(), sample_rate=TONE_HZ)
    return [pb.ConverseResponse(audio=audio), pb.ConverseResponse(end_utterance=pb.EndUtterance())]


def greeting(start):
    if not start.can_say:
        return tone(1, 660, 0.5)
    text = "Hello. Say something, and I will say it too."
    return [pb.ConverseResponse(say=pb.Say(utterance=1, text=text)), pb.ConverseResponse(end_utterance=pb.EndUtterance())]


class Mirror(agent_pb2_grpc.AgentServiceServicer):
    async def Converse(self, requests, context):
        newest, busy_with, is_mulaw = 1, 1, False  # utterances are counted; the greeting is the first
        async for request in requests:
            match request.WhichOneof("message"):
                case "start":
                    is_mulaw = request.start.encoding == pb.ENCODING_MULAW
                    yield pb.ConverseResponse(ready=pb.Ready(name="mirror in Python"))
                    for message in greeting(request.start):
                        yield message
                case "audio" if busy_with is None:
                    sound = {"mulaw" if is_mulaw else "pcm": request.audio.sound}
                    yield pb.ConverseResponse(audio=pb.AgentAudio(utterance=newest, **sound))
                case "dtmf" if request.dtmf.digit == "#":
                    yield pb.ConverseResponse(hangup=pb.Hangup(reason="the caller pressed #", after_playback=True))
                case "dtmf":
                    newest = busy_with = newest + 1
                    yield pb.ConverseResponse(interrupt=pb.Interrupt())
                    digit = request.dtmf.digit
                    for message in tone(newest, 400 + 100 * int(digit) if digit.isdigit() else 1400, 0.5):
                        yield message
                case "played" if request.played.utterance == busy_with:
                    if request.played.cleared or request.played.ms >= 480:  # the greeting or the tone was heard
                        newest, busy_with = newest + 1, None
                case "held" if request.held.held:  # what was being said is thrown away, and what comes under its number
                    newest, busy_with = newest + 1, None
                case "refused" if busy_with == 1:  # the greeting has no voice, and will not be heard
                    newest, busy_with = newest + 1, None
                case "end":
                    return


async def main():
    server = grpc.aio.server()
    agent_pb2_grpc.add_AgentServiceServicer_to_server(Mirror(), server)
    address = os.environ.get("AGENT_LISTEN", "127.0.0.1:9000")
    server.add_insecure_port(address)
    await server.start()
    print(f"listening on {address}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
