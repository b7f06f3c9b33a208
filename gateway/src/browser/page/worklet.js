// The line of a call, in the audio thread: the microphone becomes mu-law at 8 kHz in frames of 20 ms, and what the agent
// says becomes sound at the rate of this machine, behind a small buffer.

const LINE_RATE = 8000;
const FRAME = 160;
// Sound that is gathered before a pause ends, so that a late message is not heard as a gap.
const LEAD_SECONDS = 0.06;
// More than the gateway ever sends ahead; a line that plays nothing does not grow beyond it.
const MAX_SECONDS = 30;
// How often levels are told.
const LEVELS_SECONDS = 0.05;

// ITU-T G.711.
const BIAS = 33;
const SILENCE = 0xff;

function toMulaw(sample) {
  const linear = Math.max(-8158, Math.min(8158, Math.round(sample * 8159)));
  const magnitude = Math.abs(linear) + BIAS;
  const exponent = Math.max(0, 31 - Math.clz32(magnitude) - 5);
  const mantissa = (magnitude >> (exponent + 1)) & 0x0f;
  return ~((linear < 0 ? 0x80 : 0) | (exponent << 4) | mantissa) & 0xff;
}

const FROM_MULAW = Float32Array.from({ length: 256 }, (_, code) => {
  const bits = ~code & 0xff;
  const magnitude = ((((bits & 0x0f) << 1) + BIAS) << ((bits >> 4) & 7)) - BIAS;
  return ((bits & 0x80 ? -1 : 1) * magnitude) / 8159;
});

// Any rate to any other by a windowed sinc: a low-pass at 90 % of half the lower rate, 24 zero crossings to each side.
const CROSSINGS = 24;
const CUTOFF = 0.9;
const KAISER_BETA = 8;
// Points of the filter between two crossings; what lies between is interpolated.
const POINTS = 128;

function bessel(x) {
  let sum = 1, term = 1;
  for (let k = 1; k < 40; k += 1) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}

const FILTER = Float32Array.from({ length: CROSSINGS * POINTS + 2 }, (_, at) => {
  const x = at / POINTS;
  if (x >= CROSSINGS) return 0;
  const sinc = x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
  return (sinc * bessel(KAISER_BETA * Math.sqrt(1 - (x / CROSSINGS) ** 2))) / bessel(KAISER_BETA);
});

class Resampler {
  constructor(from, to) {
    this.step = from / to;
    this.scale = CUTOFF * Math.min(1, to / from);
    this.reach = Math.ceil(CROSSINGS / this.scale);
    this.reset();
  }

  reset() {
    // Silence before the first sample; `at` is the next output's place in `held`.
    this.held = new Float32Array(this.reach);
    this.at = this.reach;
  }

  // What can be said after these samples; the last few milliseconds wait for what follows them.
  push(samples) {
    const held = new Float32Array(this.held.length + samples.length);
    held.set(this.held);
    held.set(samples, this.held.length);
    const made = [];
    for (; this.at + this.reach < held.length; this.at += this.step) {
      const first = Math.max(0, Math.ceil(this.at - this.reach)), last = Math.floor(this.at + this.reach);
      let sum = 0;
      for (let n = first; n <= last; n += 1) {
        const x = Math.min(CROSSINGS * POINTS, Math.abs(this.at - n) * this.scale * POINTS);
        const whole = Math.floor(x);
        sum += held[n] * (FILTER[whole] + (x - whole) * (FILTER[whole + 1] - FILTER[whole]));
      }
      made.push(sum * this.scale);
    }
    const used = Math.max(0, Math.floor(this.at) - this.reach);
    this.held = held.slice(used);
    this.at -= used;
    return made;
  }

  // The rest, and then as at the beginning.
  finish() {
    const made = this.push(new Float32Array(this.reach + 1));
    this.reset();
    return made;
  }
}

class Line extends AudioWorkletProcessor {
  constructor() {
    super();
    // Samples from here to the ear.
    this.delay = 0;
    this.muted = false;
    this.open = true;

    this.down = new Resampler(sampleRate, LINE_RATE);
    this.frame = new Uint8Array(FRAME);
    this.filled = 0;

    this.up = new Resampler(LINE_RATE, sampleRate);
    // Pieces of sound, and marks between them.
    this.queue = [];
    this.offset = 0;
    this.waiting = 0;
    this.dropped = 0;
    // While it is at rest, sound is gathered until there is enough or it has waited long enough.
    this.resting = true;
    this.rested = 0;
    // The filter has given its last, since there was no more to say.
    this.flushed = false;
    // Marks that were passed, and when they will have been heard.
    this.passed = [];
    this.now = 0;

    this.levels = { you: 0, agent: 0, samples: 0 };
    this.port.onmessage = ({ data }) => this.told(data);
  }

  told(data) {
    if (data.media) this.take(data.media);
    else if (data.mark) this.queue.push(data.mark);
    else if (data.clear) this.clear();
    else if ("muted" in data) this.muted = data.muted;
    else if ("latency" in data) this.delay = Math.round(data.latency * sampleRate);
    else if (data.close) this.open = false;
  }

  take(mulaw) {
    if (this.waiting > MAX_SECONDS * sampleRate) {
      this.dropped += 1;
      return;
    }
    this.flushed = false;
    const samples = Float32Array.from(this.up.push(Float32Array.from(mulaw, (code) => FROM_MULAW[code])));
    this.queue.push(samples);
    this.waiting += samples.length;
  }

  // All that was not heard is worthless; its marks go back at once, as Twilio's do.
  clear() {
    for (const { mark } of this.passed) this.port.postMessage({ mark });
    for (const mark of this.queue) if (typeof mark === "string") this.port.postMessage({ mark });
    this.passed = [];
    this.queue = [];
    this.offset = this.waiting = this.rested = 0;
    this.resting = true;
    this.flushed = false;
    this.up.reset();
  }

  process([input], [output]) {
    const length = output[0].length;
    this.listen(input[0], length);
    this.play(output[0]);
    for (let channel = 1; channel < output.length; channel += 1) output[channel].set(output[0]);
    this.measure(input[0], output[0], length);
    this.now += length;
    while (this.passed.length > 0 && this.passed[0].heard <= this.now) {
      this.port.postMessage({ mark: this.passed.shift().mark });
    }
    return this.open;
  }

  listen(samples, length) {
    // A microphone that gives nothing is silent; time goes on.
    for (const sample of this.down.push(samples ?? new Float32Array(length))) {
      this.frame[this.filled] = this.muted ? SILENCE : toMulaw(sample);
      this.filled += 1;
      if (this.filled === FRAME) {
        this.port.postMessage({ media: this.frame.slice() });
        this.filled = 0;
      }
    }
  }

  play(output) {
    let at = 0;
    if (this.resting) {
      this.pass();
      if (this.waiting === 0) return;
      this.rested += output.length;
      if (Math.max(this.waiting, this.rested) < LEAD_SECONDS * sampleRate) return;
      this.resting = false;
    }
    while (at < output.length) {
      this.pass();
      if (this.queue.length === 0) {
        const rest = Float32Array.from(this.up.finish());
        if (this.flushed || rest.length === 0) {
          this.resting = true;
          this.rested = 0;
          this.flushed = false;
          return;
        }
        this.flushed = true;
        this.queue.push(rest);
        this.waiting += rest.length;
        continue;
      }
      const piece = this.queue[0];
      const taken = Math.min(piece.length - this.offset, output.length - at);
      output.set(piece.subarray(this.offset, this.offset + taken), at);
      at += taken;
      this.offset += taken;
      this.waiting -= taken;
      if (this.offset === piece.length) {
        this.queue.shift();
        this.offset = 0;
      }
    }
  }

  // Notes marks that nothing waits before.
  pass() {
    while (typeof this.queue[0] === "string" || this.queue[0]?.length === 0) {
      const mark = this.queue.shift();
      if (typeof mark === "string") this.passed.push({ mark, heard: this.now + this.delay });
    }
  }

  measure(input, output, length) {
    const { levels } = this;
    if (input && !this.muted) for (const sample of input) levels.you = Math.max(levels.you, Math.abs(sample));
    for (const sample of output) levels.agent = Math.max(levels.agent, Math.abs(sample));
    levels.samples += length;
    if (levels.samples >= LEVELS_SECONDS * sampleRate) {
      this.port.postMessage({ levels: { you: levels.you, agent: levels.agent } });
      this.levels = { you: 0, agent: 0, samples: 0 };
    }
  }
}

registerProcessor("line", Line);
