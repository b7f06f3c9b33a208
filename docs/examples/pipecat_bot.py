"""A pipecat bot as a remote agent: each call is a pipeline of its own between `Calls.input()` and `Calls.output()`.

    pip install grpcio grpcio-tools pipecat-ai
    python -m grpc_tools.protoc -I proto --python_out=. --grpc_python_out=. tandem/agent/v1/agent.proto
    PYTHONPATH=. AGENT_LISTEN=127.0.0.1:9000 python docs/examples/pipecat_bot.py

In the agents file: [agent.bot] with kind = "remote", url = "http://127.0.0.1:9000" and interrupt = "agent", since pipecat
decides about interruptions by itself. Put your services where `bot` has `Mirror`.
"""
import asyncio
import os

import grpc
from pipecat.audio.dtmf.types import KeypadEntry
from pipecat.frames.frames import (EndFrame, Frame, InputAudioRawFrame, InputDTMFFrame, InterruptionFrame,
                                   OutputAudioRawFrame, TTSSpeakFrame)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.transports.base_input import BaseInputTransport
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import TransportParams
from pipecat.workers.runner import WorkerRunner
from tandem.agent.v1 import agent_pb2 as pb
from tandem.agent.v1 import agent_pb2_grpc

IN_HZ, OUT_HZ = 16000, 24000


class Mirror(FrameProcessor):
    """Says what it hears. A real bot has speech-to-text, a model and text-to-speech in its place."""

    async def process_frame(self, frame: Frame, direction: FrameDirection):
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            frame = OutputAudioRawFrame(audio=frame.audio, sample_rate=frame.sample_rate, num_channels=1)
        await self.push_frame(frame, direction)


def bot(call):
    return Pipeline([call.input, Mirror(), call.output])


class Input(BaseInputTransport):
    """What the worker tells becomes frames."""

    def __init__(self, requests, params):
        super().__init__(params)
        self.requests, self.reading = requests, None

    async def start(self, frame):
        await super().start(frame)
        await self.set_transport_ready(frame)
        self.reading = self.reading or self.create_task(self.read())

    async def cleanup(self):
        await super().cleanup()
        if self.reading:
            await self.cancel_task(self.reading)
            self.reading = None

    async def read(self):
        while True:
            request = await self.requests.waiting.get()
            match request.WhichOneof("message"):
                case "audio":
                    frame = InputAudioRawFrame(audio=request.audio.sound, sample_rate=self.sample_rate, num_channels=1)
                    await self.push_audio_frame(frame)
                case "dtmf" if request.dtmf.digit in "0123456789*#":
                    await self.push_frame(InputDTMFFrame(KeypadEntry(request.dtmf.digit)))
                case "held" if request.held.held:  # what was being said is thrown away, and what comes under its number
                    await self.push_frame(InterruptionFrame())
                case "refused":
                    print(f"refused: {request.refused.what}: {request.refused.reason}")


class Output(BaseOutputTransport):
    """Sound becomes messages, at the pace at which it is played."""

    def __init__(self, answers, params):
        super().__init__(params)
        self.answers, self.utterance, self.due = answers, 1, 0.0

    async def start(self, frame):
        await super().start(frame)
        await self.set_transport_ready(frame)

    async def write_audio_frame(self, frame):
        audio = pb.AgentAudio(utterance=self.utterance, pcm=frame.audio, sample_rate=frame.sample_rate)
        await self.answers.put(pb.ConverseResponse(audio=audio))
        now = asyncio.get_running_loop().time()
        self.due = max(self.due, now) + len(frame.audio) / 2 / frame.sample_rate
        await asyncio.sleep(max(0.0, self.due - now - 0.1))  # 100 ms ahead
        return True

    async def process_frame(self, frame, direction):
        await super().process_frame(frame, direction)
        if isinstance(frame, InterruptionFrame):
            self.utterance, self.due = self.utterance + 1, 0.0
            await self.answers.put(pb.ConverseResponse(interrupt=pb.Interrupt()))
        elif isinstance(frame, EndFrame):
            await self.answers.put(pb.ConverseResponse(hangup=pb.Hangup(reason="the bot ended", after_playback=True)))


class Call:
    def __init__(self, requests):
        self.answers = asyncio.Queue(maxsize=64)
        in_hz = requests.start.sample_rate
        self.input = Input(requests, TransportParams(audio_in_enabled=True, audio_in_sample_rate=in_hz))
        self.output = Output(self.answers, TransportParams(audio_out_enabled=True, audio_out_auto_silence=False,
                                                           audio_out_end_silence_secs=0))
        params = PipelineParams(audio_in_sample_rate=in_hz, audio_out_sample_rate=OUT_HZ)
        self.worker = PipelineWorker(bot(self), params=params, cancel_on_idle_timeout=False)

    async def run(self):
        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(self.worker)
        await runner.run()


class Requests:
    """Messages of a call after `Start`. They are read until `End`, also when the bot has ended before."""

    def __init__(self, stream, start):
        self.stream, self.start, self.waiting = stream, start, asyncio.Queue(maxsize=512)

    async def read(self):
        async for request in self.stream:
            if request.WhichOneof("message") == "end":
                return
            if not self.waiting.full():  # some 10 s: nobody reads any more
                self.waiting.put_nowait(request)


class Bots(agent_pb2_grpc.AgentServiceServicer):
    async def Converse(self, stream, context):
        start = (await anext(stream)).start
        if start.encoding == pb.ENCODING_MULAW:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, 'this bot takes PCM: leave format out, or set "pcm"')
        yield pb.ConverseResponse(ready=pb.Ready(name="pipecat"))
        requests = Requests(stream, start)
        call = Call(requests)
        running, over = asyncio.create_task(call.run()), asyncio.create_task(requests.read())
        try:
            while not over.done():
                answer = asyncio.create_task(call.answers.get())
                await asyncio.wait({answer, over, running}, return_when=asyncio.FIRST_COMPLETED)
                if answer.done():
                    yield answer.result()
                else:
                    answer.cancel()
                    if running.done() and call.answers.empty():
                        await asyncio.wait({over})  # a hang-up was asked for: the worker says when it is over
        finally:
            over.cancel()
            await call.worker.cancel()
            await asyncio.wait({running, over}, timeout=2)


async def main():
    server = grpc.aio.server()
    agent_pb2_grpc.add_AgentServiceServicer_to_server(Bots(), server)
    address = os.environ.get("AGENT_LISTEN", "127.0.0.1:9000")
    server.add_insecure_port(address)
    await server.start()
    print(f"listening on {address}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
