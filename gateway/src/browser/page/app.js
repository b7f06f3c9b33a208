// A call from a page: a ticket for a token, a media stream as a phone call has it, and what the gateway tells beside it.

import { clearCall, clearHearing, level, showTurn, showWords } from "/call/view.js";

const element = (id) => document.getElementById(id);
const [form, token, agent, language, parameters] = ["settings", "token", "agent", "language", "parameters"].map(element);
const [callButton, callLabel, muteButton, statusLine, errorLine] = ["call", "call-label", "mute", "status", "error"].map(element);
const keys = [...document.querySelectorAll("#keypad button")];

const TOKEN_KEY = "tandem-token";
// How long the gateway may take to answer, to open the socket, and to end a call that was stopped.
const ANSWER_MS = 15_000;
const OPEN_MS = 10_000;
const ENDING_MS = 4_000;
const ENDS = {
  caller_hangup: "You ended the call.",
  agent_hangup: "The agent ended the call.",
  api_hangup: "The call was ended by the calls API.",
  max_duration: "The call reached its longest.",
};
const FAULTS = {
  caller_lost: "The connection was lost.",
  caller_silent: "Nothing came from this page any more.",
  caller_stalled: "This page did not take the sound in time.",
  start_timeout: "This page was too slow to begin.",
  ticket_missing: "The call had no ticket.",
  ticket_forged: "The ticket is not one of this gateway’s. Start again.",
  ticket_expired: "The ticket was too old. Start again.",
  ticket_reused: "The ticket was used before. Start again.",
  unsupported_media: "The gateway does not take this sound.",
  protocol_error: "This page sent something that the gateway does not understand.",
  no_worker_unreachable: "No audio-worker can be reached, so there is no agent.",
  no_worker_full: "All agents are busy. Try again in a moment.",
  no_worker_unknown_agent: "No audio-worker has this agent.",
  no_worker_failed: "The agent could not begin.",
  worker_lost: "The agent was lost in the middle of the call.",
  agent_transfer: "The agent wanted to hand the call to a number. A call from a browser cannot be handed on, so it ended.",
  gateway_drained: "The gateway is stopping. Start again in a moment.",
  panicked: "The gateway failed in this call.",
};

/** Something that can be told to whoever calls. */
class Trouble extends Error {
  /** @param {HTMLElement} [field] where it can be put right */
  constructor(words, field) {
    super(words);
    this.field = field;
  }
}

let call = null;

token.value = sessionStorage.getItem(TOKEN_KEY) ?? "";
callButton.addEventListener("click", () => (call ? call.stop() : start()));
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.target !== parameters && !call) start();
});
muteButton.addEventListener("click", () => call?.mute(muteButton.getAttribute("aria-pressed") !== "true"));
for (const key of keys) key.addEventListener("click", () => call?.press(key.dataset.key));
document.addEventListener("keydown", (event) => {
  const isText = event.target.matches?.("input, textarea") || event.ctrlKey || event.metaKey || event.altKey;
  if (call?.live && !isText && /^[0-9*#]$/.test(event.key)) call.press(event.key);
});
addEventListener("pagehide", () => call?.hangUp());

async function start() {
  for (const field of [token, agent, language]) {
    field.value = field.value.trim();
    if (!field.checkValidity()) {
      const needed = field === token && !field.value;
      showError(needed ? "An access token is needed." : `The ${field.id} is not in a form that the gateway takes.`);
      field.setAttribute("aria-invalid", "true");
      field.focus();
      return;
    }
    field.removeAttribute("aria-invalid");
  }
  parameters.removeAttribute("aria-invalid");
  const [given, mistake] = readParameters(parameters.value);
  if (mistake) {
    showError(mistake);
    parameters.setAttribute("aria-invalid", "true");
    parameters.focus();
    return;
  }
  const mine = new Call(given);
  call = mine;
  try {
    showError("");
    show("starting", "Starting …");
    clearCall();
    await mine.begin();
  } catch (error) {
    mine.finish(error instanceof Trouble ? error.message : `The call could not be started: ${error.message}`);
    error.field?.focus();
  }
}

/** The parameters in these lines, and what is wrong with them. What a name or a value may be, the gateway says. */
function readParameters(text) {
  const given = new Map();
  for (const [at, line] of text.split("\n").entries()) {
    if (!line.trim()) continue;
    const equals = line.indexOf("=");
    const name = line.slice(0, Math.max(0, equals)).trim();
    if (!name) return [null, `Line ${at + 1} of the parameters is not of the form name=value.`];
    if (given.has(name)) return [null, `Line ${at + 1} of the parameters has a name that was there before.`];
    given.set(name, line.slice(equals + 1).trim());
  }
  return [Object.fromEntries(given), ""];
}

class Call {
  live = false;
  over = false;
  stopped = false;
  chunk = 0;
  sequence = 0;
  streamSid = "MZ" + [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

  constructor(given) {
    this.given = given;
  }

  async begin() {
    // Made while the click is fresh: browsers let nothing sound that nobody asked for.
    const context = window.AudioContext && window.isSecureContext ? new AudioContext({ latencyHint: "interactive" }) : null;
    this.context = context;
    if (!context?.audioWorklet || !navigator.mediaDevices?.getUserMedia) {
      throw new Trouble("This page has no microphone: it must be opened over https, or on this very machine.");
    }
    show("starting", "Waiting for the microphone …");
    this.microphone = await microphone();
    if (this.over) return this.release();
    await context.audioWorklet.addModule("/call/worklet.js").catch(() => {
      throw new Trouble("The gateway does not answer.");
    });
    await context.resume();
    show("starting", "Asking for a call …");
    this.invitation = await ask(this.given);
    if (this.over) return this.release();
    show("starting", "Connecting …");
    this.connect();
  }

  connect() {
    const { websocket_url } = this.invitation;
    const socket = new WebSocket(websocket_url);
    this.socket = socket;
    const late = setTimeout(() => socket.close(), OPEN_MS);
    socket.addEventListener("open", () => {
      clearTimeout(late);
      if (!this.over) this.opened();
    });
    socket.addEventListener("message", ({ data }) => {
      if (typeof data === "string" && !this.over) this.heard(JSON.parse(data));
    });
    socket.addEventListener("close", () => {
      clearTimeout(late);
      if (this.over) return;
      if (!this.live) {
        this.finish("The gateway did not take the call: the ticket was too old or used, this is not the page of its public address, or it is full.");
      } else {
        this.finish(this.stopped ? "" : "The connection to the gateway was lost. The call is over; start a new one.");
      }
    });
  }

  opened() {
    const { ticket, call: { call_sid } } = this.invitation;
    const { context } = this;
    this.live = true;
    this.send({ event: "connected", protocol: "Call", version: "1.0.0" });
    this.send({
      event: "start",
      start: {
        callSid: call_sid,
        streamSid: this.streamSid,
        tracks: ["inbound"],
        mediaFormat: { encoding: "audio/x-mulaw", sampleRate: 8000, channels: 1 },
        customParameters: { ticket },
      },
    });
    this.line = new AudioWorkletNode(context, "line", { numberOfInputs: 1, numberOfOutputs: 1, outputChannelCount: [1] });
    this.line.port.onmessage = ({ data }) => this.fromLine(data);
    this.source = context.createMediaStreamSource(this.microphone);
    this.source.connect(this.line).connect(context.destination);
    context.addEventListener("statechange", () => {
      if (this.live && context.state !== "running") {
        showError("The browser has paused the sound; it goes on when this page is used again.");
        context.resume().then(() => this.live && showError(""), () => {});
      }
    });
    for (const track of this.microphone.getAudioTracks()) {
      track.addEventListener("ended", () => {
        if (this.live) showError("The microphone is gone. The agent hears silence.");
      });
    }
    this.began = performance.now();
    this.clock = setInterval(() => this.tick(), 500);
    show("live", "In a call");
    this.tick();
  }

  fromLine({ media, mark, levels }) {
    if (media) {
      this.chunk += 1;
      const timestamp = String((this.chunk - 1) * 20);
      const payload = btoa(String.fromCharCode(...media));
      this.send({ event: "media", media: { track: "inbound", chunk: String(this.chunk), timestamp, payload } });
    } else if (mark) {
      this.send({ event: "mark", mark: { name: mark } });
    } else if (levels) {
      level("you", levels.you);
      level("agent", levels.agent);
    }
  }

  heard(message) {
    switch (message.event) {
      case "media":
        this.line.port.postMessage({ media: Uint8Array.from(atob(message.media.payload), (c) => c.charCodeAt(0)) });
        break;
      case "mark":
        this.line.port.postMessage({ mark: message.mark.name });
        break;
      case "clear":
        this.line.port.postMessage({ clear: true });
        break;
      case "transcript":
        showWords(message);
        break;
      case "turn":
        showTurn(message);
        break;
      case "ended":
        this.ended = ENDS[message.reason];
        this.finish(this.ended ? "" : FAULTS[message.reason] ?? `The call ended: ${message.reason}.`);
        break;
    }
  }

  press(digit) {
    if (!this.live || this.stopped) return;
    this.send({ event: "dtmf", dtmf: { track: "inbound_track", digit } });
    const button = keys.find((key) => key.dataset.key === digit);
    button.dataset.pressed = "true";
    setTimeout(() => delete button.dataset.pressed, 150);
  }

  mute(muted) {
    this.line?.port.postMessage({ muted });
    muteButton.setAttribute("aria-pressed", String(muted));
    muteButton.textContent = muted ? "Unmute" : "Mute";
  }

  /** The caller wants the end; the gateway still tells what was heard last. */
  stop() {
    if (!this.live) return this.finish("");
    if (this.stopped) return;
    this.stopped = true;
    this.ended = ENDS.caller_hangup;
    this.send({ event: "stop", stop: { callSid: this.invitation.call.call_sid } });
    this.line.port.postMessage({ clear: true });
    show("ending", "Ending …");
    setTimeout(() => this.finish(""), ENDING_MS);
  }

  /** The page goes away. */
  hangUp() {
    if (this.live) this.send({ event: "stop", stop: { callSid: this.invitation.call.call_sid } });
    this.cancel();
    this.socket?.close(1000);
  }

  /** What was announced and never began would take a place of the gateway's until its ticket is too old. */
  cancel() {
    if (this.began || !this.invitation) return;
    const { bearer, call: { call_sid } } = this.invitation;
    this.invitation = null;
    const asked = { method: "DELETE", headers: { Authorization: `Bearer ${bearer}` }, keepalive: true };
    fetch(`/v1/calls/${call_sid}`, asked).catch(() => {});
  }

  finish(error) {
    if (this.over) return;
    this.over = true;
    this.release();
    if (call === this) call = null;
    const lasted = this.began ? ` It lasted ${duration(performance.now() - this.began)}.` : "";
    const end = this.ended ?? (this.began ? "The call is over." : "Not in a call");
    show("idle", end + lasted);
    showError(error);
  }

  release() {
    this.live = false;
    this.cancel();
    clearInterval(this.clock);
    this.line?.port.postMessage({ close: true });
    this.source?.disconnect();
    this.line?.disconnect();
    for (const track of this.microphone?.getTracks() ?? []) track.stop();
    if (this.context && this.context.state !== "closed") this.context.close();
    this.socket?.close(1000);
    level("you", 0);
    level("agent", 0);
  }

  tick() {
    // Known only once sound flows, and other with other loudspeakers.
    const { outputLatency, baseLatency } = this.context;
    this.line.port.postMessage({ latency: (outputLatency || 0) + (baseLatency || 0) });
    if (!this.stopped) statusLine.textContent = `In a call, ${duration(performance.now() - this.began)}`;
  }

  send(message) {
    if (this.socket.readyState !== WebSocket.OPEN) return;
    this.sequence += 1;
    this.socket.send(JSON.stringify({ ...message, sequenceNumber: String(this.sequence), streamSid: this.streamSid }));
  }
}

async function microphone() {
  try {
    return await navigator.mediaDevices.getUserMedia({
      audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: 1 },
    });
  } catch (error) {
    const why = {
      NotAllowedError: "The microphone may not be used. Allow it for this page in the browser, then start again.",
      NotFoundError: "There is no microphone.",
      NotReadableError: "The microphone is used by another program.",
    };
    throw new Trouble(why[error.name] ?? `The microphone cannot be used: ${error.name}.`);
  }
}

/** A ticket for one call. */
async function ask(given) {
  const bearer = token.value;
  let response;
  try {
    response = await fetch("/v1/browser-calls", {
      method: "POST",
      headers: { Authorization: `Bearer ${bearer}`, "Content-Type": "application/json" },
      body: JSON.stringify({ agent: agent.value || null, language: language.value || null, parameters: given }),
      signal: AbortSignal.timeout(ANSWER_MS),
    });
  } catch {
    throw new Trouble("The gateway does not answer.");
  }
  const answer = await response.json().catch(() => ({}));
  if (response.status === 401) {
    sessionStorage.removeItem(TOKEN_KEY);
    token.setAttribute("aria-invalid", "true");
    throw new Trouble("The gateway does not know this token.", token);
  }
  if (!response.ok) {
    const words = answer.detail ?? `it answered ${response.status}`;
    throw new Trouble(`The gateway does not take the call: ${words}.`);
  }
  sessionStorage.setItem(TOKEN_KEY, bearer);
  return { ...answer, bearer };
}

function show(state, words) {
  const inUse = document.activeElement;
  document.body.dataset.state = callButton.dataset.state = state;
  callLabel.textContent = { idle: "Start call", starting: "Cancel", live: "End call", ending: "Ending" }[state];
  statusLine.textContent = words;
  const isIdle = state === "idle";
  for (const field of [token, agent, language, parameters]) field.disabled = !isIdle;
  for (const button of [muteButton, ...keys]) button.disabled = state !== "live";
  if (isIdle) {
    muteButton.setAttribute("aria-pressed", "false");
    muteButton.textContent = "Mute";
    clearHearing();
  }
  // What was in use and is disabled now would leave the keyboard nowhere.
  if (inUse?.disabled) callButton.focus();
}

function showError(words) {
  errorLine.textContent = words;
  errorLine.hidden = !words;
}

function duration(ms) {
  const seconds = Math.floor(ms / 1000);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}
