"""The page /call in a real Chromium, whose microphone plays what flite says.

    browser.py FOLDER_OF_BINARIES CHROMIUM FOLDER_OF_SCREENSHOTS

A survey is taken to its end by voice, by key and without a mouse; what the page says of it is right. What goes wrong is told.
The audio worklet is heard by the recogniser and measured. The page is looked at in four sizes and colours.
"""

import array
import base64
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import wave

from playwright.sync_api import expect, sync_playwright

from programs import free_port, pair
from speaking import EARS_RATE, LINE_RATE, Recogniser, synthesize, words
from spoken_openai import OpenAi
from travel_survey import ADULT, CALLER_RULE, DISTANCE, FAR, GOODBYE, TRANSPORT, WELCOME, defaults, survey

AUTH_TOKEN = "development-token-of-the-browser"
TOKEN = "token-of-whoever-may-call"
MICROPHONE_RATE = 48_000  # Hz
MAX_CALLS = 3
LOOKS = [(f"{name}-{scheme}", size, scheme) for name, size in
         (("desk", (1280, 800)), ("phone", (360, 740))) for scheme in ("light", "dark")]
# What may take its time: a call with all that is said in it.
LONG_MS = 60_000

LINES = ["yes please", "i come by bus"]

# From the microphone to the first word: a ticket, a socket, an agent, and its voice.
BEFORE_S = 2.5
# From the end of the caller's words to the next question: silence, recogniser, voice, and some patience.
BETWEEN_S = 3.0

# What a reader of screens and a reader of bright screens need: names, labels, one of each id, contrast, size, room.
CHECKS = """() => {
    const faults = [];
    const shown = (e) => e.checkVisibility() && !e.closest('[aria-hidden=true], svg');
    const channel = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    const parse = (color) => color.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
    const ground = (e) => {
        for (; e; e = e.parentElement) {
            const color = parse(getComputedStyle(e).backgroundColor);
            if (color.length < 4 || color[3] === 1) return color;
        }
        return [255, 255, 255];
    };
    for (const e of document.querySelectorAll('body *')) {
        const has_text = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
        const is_field = e.matches('input');
        if (!shown(e) || !(has_text || is_field) || e.matches(':disabled')) continue;
        const colors = [light(parse(getComputedStyle(e).color)), light(ground(e))].sort((a, b) => b - a);
        const contrast = (colors[0] + 0.05) / (colors[1] + 0.05);
        if (contrast < 4.5) faults.push(`${e.tagName} ${e.textContent.trim().slice(0, 20)}: contrast ${contrast.toFixed(2)}`);
    }
    for (const e of document.querySelectorAll('input')) {
        if (e.labels.length !== 1) faults.push(`#${e.id} has no label`);
    }
    for (const e of document.querySelectorAll('button')) {
        if (!(e.getAttribute('aria-label') || e.textContent.trim())) faults.push(`${e.outerHTML} has no name`);
    }
    for (const e of document.querySelectorAll('button, input')) {
        const { width, height } = e.getBoundingClientRect();
        if (shown(e) && (width < 44 || height < 44)) faults.push(`#${e.id} ${e.textContent}: ${width} x ${height} is small for a finger`);
    }
    for (const e of document.querySelectorAll('[aria-labelledby], [aria-describedby]')) {
        for (const id of `${e.getAttribute('aria-labelledby') ?? ''} ${e.getAttribute('aria-describedby') ?? ''}`.trim().split(/ +/)) {
            if (!document.getElementById(id)) faults.push(`there is no #${id}`);
        }
    }
    const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);
    if (new Set(ids).size !== ids.length) faults.push('an id is there twice');
    if (!document.documentElement.lang || !document.title) faults.push('no language or title');
    if (document.querySelectorAll('h1').length !== 1 || !document.querySelector('main')) faults.push('no h1 or main');
    if (document.documentElement.scrollWidth > innerWidth) faults.push(`wider than the screen: ${document.documentElement.scrollWidth}`);
    return faults;
}"""

# Waits until a meter shows sound.
MOVES = """(id) => new Promise((done) => {
    const meter = document.getElementById(id);
    new MutationObserver(() => Number(meter.getAttribute('aria-valuenow')) > 10 && done()).observe(meter, { attributes: true });
})"""

# Renders the worklet: `mulaw` is what the agent says, `input` what the microphone hears. A graph that renders offline
# does so faster than its messages come, so it waits for them.
RENDER = """async ({ rate, mulaw, frequency, amplitude, seconds }) => {
    const context = new OfflineAudioContext(1, rate * seconds, rate);
    await context.audioWorklet.addModule('/call/worklet.js');
    const line = new AudioWorkletNode(context, 'line', { outputChannelCount: [1] });
    const sent = [], marks = [];
    line.port.onmessage = ({ data }) => {
        if (data.media) sent.push(...data.media);
        if (data.mark) marks.push(data.mark);
    };
    if (frequency) {
        const tone = new OscillatorNode(context, { frequency });
        const gain = new GainNode(context, { gain: amplitude });
        tone.connect(gain).connect(line);
        tone.start();
    }
    line.connect(context.destination);
    const all = Uint8Array.from(atob(mulaw), (c) => c.charCodeAt(0));
    for (let at = 0; at < all.length; at += 160) line.port.postMessage({ media: all.slice(at, at + 160) });
    if (all.length) line.port.postMessage({ mark: 'u1:end' });
    await new Promise((done) => setTimeout(done, 300));
    const rendered = (await context.startRendering()).getChannelData(0);
    await new Promise((done) => setTimeout(done, 300));
    const text = (bytes) => { let s = ''; for (const b of bytes) s += String.fromCharCode(b); return btoa(s); };
    const pcm = Int16Array.from(rendered, (x) => Math.max(-32768, Math.min(32767, Math.round(x * 32768))));
    return { sent: text(sent), heard: text(new Uint8Array(pcm.buffer)), marks };
}"""


def equal(found, expected, what):
    if found != expected:
        raise AssertionError(f"{what}: expected {expected!r}, found {found!r}")


def tell(text):
    print(f"ok: {text}", flush=True)


def sox(samples, source, target):
    """16-bit samples of one rate at another; `ulaw` is a form as well."""
    def form(rate):
        return ["-t", "ul", "-r", "8000", "-c", "1"] if rate == "ulaw" else \
            ["-t", "raw", "-r", str(rate), "-c", "1", "-b", "16", "-e", "signed", "-L"]
    command = ["sox", "-D", *form(source), "-", *form(target), "-"]
    return subprocess.run(command, input=samples, check=True, timeout=30, stdout=subprocess.PIPE).stdout


def microphone(path):
    """A file of the caller's lines, each after the question that it answers has been heard."""
    def silence(seconds):
        return bytes(2 * int(seconds * MICROPHONE_RATE))

    def lasts(text):
        return len(synthesize(text, LINE_RATE)) / 2 / LINE_RATE

    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(MICROPHONE_RATE)
        for pause, question, line in zip((BEFORE_S, BETWEEN_S), (f"{WELCOME} {ADULT}", TRANSPORT), LINES):
            file.writeframes(silence(pause + lasts(question)) + synthesize(line, MICROPHONE_RATE, "gain", "-3"))
        file.writeframes(silence(60))


class Pages:
    """Pages of one browser; what a page logs as an error is a fault."""

    def __init__(self, browser, address, shots):
        self.browser, self.address, self.shots, self.faults = browser, address, shots, []

    def open(self, allowed=("Failed to load resource", "WebSocket connection")):
        context = self.browser.new_context(viewport={"width": 1280, "height": 800})
        context.set_default_timeout(20_000)
        page = context.new_page()

        def note(message):
            if message.type in ("error", "warning") and not message.text.startswith(allowed):
                self.faults.append(message.text)

        page.on("console", note)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.goto(f"{self.address}/call")
        return page

    def look(self, page, name):
        """A picture in each size and colour, and the checks of what can be computed."""
        for look, (width, height), scheme in LOOKS:
            page.set_viewport_size({"width": width, "height": height})
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            page.screenshot(path=str(self.shots / f"{name}-{look}.png"), full_page=True)
            equal(page.evaluate(CHECKS), [], f"what is wrong with {name} in {look}")
        page.set_viewport_size({"width": 1280, "height": 800})


def status(page):
    return page.locator("#status")


def transcript(page):
    lines = page.locator("#log p").evaluate_all("all => all.map((p) => [p.dataset.by, p.querySelector('span').textContent])")
    return [tuple(line) for line in lines]


def sign_in(page, agent=""):
    page.fill("#token", TOKEN)
    page.fill("#agent", agent)


def api(address, method, path, body=None):
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{address}{path}", data, headers, method=method)
    with urllib.request.urlopen(request, timeout=10) as reply:
        text = reply.read()
    return json.loads(text) if text else None


def focused(page):
    return page.evaluate("document.activeElement.id || document.activeElement.dataset.key || document.activeElement.tagName")


def tab_to(page, target, limit=20):
    """Tabs until there; everything on the way must show that it has the focus."""
    way = []
    for _ in range(limit):
        page.keyboard.press("Tab")
        way.append(focused(page))
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none" or way[-1] == "BODY", f"{way[-1]} does not show the focus"
        if way[-1] == target:
            return way
    raise AssertionError(f"no way to {target} by Tab: {way}")


def survey_by_keyboard(pages, server):
    """The whole survey without a mouse: two answers by voice, one by keys."""
    page = pages.open()
    equal(tab_to(page, "token"), ["token"], "the first stop of Tab")
    page.keyboard.type(TOKEN)
    equal(tab_to(page, "call"), ["agent", "language", "parameters", "call"], "the way of Tab to the call")
    equal(tab_to(page, "turns-scroll"), ["log", "turns-scroll"], "the rest of the way of Tab")
    for _ in range(2):
        page.keyboard.press("Shift+Tab")
    equal(focused(page), "call", "the way back")
    page.keyboard.press("Space")
    expect(status(page)).to_contain_text("In a call", timeout=20_000)
    line = page.locator("#log p")
    expect(line).to_have_count(1, timeout=LONG_MS)
    assert float(page.locator("#agent-meter").get_attribute("aria-valuemax")) == 100
    expect(line).to_have_count(5, timeout=LONG_MS)
    pages.look(page, "live")
    # Keys: the first by its button and Enter, the next by its button and Space, the last as it is.
    tab_to(page, "4")
    page.keyboard.press("Enter")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    equal(focused(page), "2", "the key beside")
    page.keyboard.press("Space")
    page.keyboard.press("#")
    expect(status(page)).to_contain_text("The agent ended the call.", timeout=LONG_MS)
    # Keys are no words, so there is no line of them.
    expected = [("agent", f"{WELCOME} {ADULT}"), ("caller", LINES[0]), ("agent", TRANSPORT), ("caller", LINES[1]),
                ("agent", DISTANCE), ("agent", f"{FAR} {GOODBYE}")]
    found = [line for line in transcript(page) if not re.fullmatch(r"[\d #*]+", line[1])]
    equal(found, expected, "the transcript")
    tell(f"a survey was taken to its end by voice, keys and keyboard; the transcript has {len(expected)} lines")
    # The agent listens more than once while somebody speaks.
    understood = [text for text, before in zip(server.transcribed, [None, *server.transcribed]) if text and text != before]
    equal(understood, LINES, "what was understood")
    rows = page.locator("#turn-rows tr").evaluate_all("rows => rows.map((row) => [...row.cells].map((c) => c.textContent))")
    assert len(rows) >= 2, rows
    for number, endpoint, heard, _, sound, sent in rows[:2]:
        assert 100 <= int(endpoint) <= int(sent) < 5000 and int(heard) > 0 and int(sound) <= int(sent), (number, rows)
    tell(f"the latencies of {len(rows)} turns are shown, the first {' / '.join(rows[0][1:])} ms")
    expect(page.locator("#error")).to_be_hidden()
    equal(focused(page), "call", "where the keyboard is after the call")
    kept = page.evaluate("[sessionStorage.length, sessionStorage.getItem('tandem-token'), localStorage.length, document.cookie]")
    equal(kept, [1, TOKEN, 0, ""], "what the page keeps")
    pages.look(page, "ended")
    page.context.close()


def what_goes_wrong(pages):
    page = pages.open()
    error = page.locator("#error")
    pages.look(page, "idle")
    page.click("#call")
    expect(error).to_have_text("An access token is needed.")
    equal(focused(page), "token", "where the keyboard is")
    page.fill("#token", "token-of-nobody-at-all")
    page.click("#call")
    expect(error).to_have_text("The gateway does not know this token.")
    expect(status(page)).to_have_text("Not in a call")
    equal(focused(page), "token", "where the keyboard is after a wrong token")
    equal(page.evaluate("sessionStorage.length"), 0, "a wrong token is kept")
    pages.look(page, "refused")
    sign_in(page, "no-such-agent")
    page.click("#call")
    expect(error).to_contain_text("no worker has the agent")
    for name, words_of_it in (("NotFoundError", "There is no microphone."), ("NotAllowedError", "may not be used")):
        refusal = f"() => Promise.reject(new DOMException('', '{name}'))"
        page.evaluate(f"() => {{ navigator.mediaDevices.getUserMedia = {refusal}; }}")
        page.click("#call")
        expect(error).to_contain_text(words_of_it)
    for text, mistake in (("order=1\n17", "Line 2 of the parameters is not"), ("a=1\na=2", "Line 2 of the parameters has a name")):
        page.fill("#parameters", text)
        page.click("#call")
        expect(error).to_contain_text(mistake)
        equal(focused(page), "parameters", "where the keyboard is after wrong parameters")
    page.context.close()
    tell("no token, a wrong one, an unknown agent, wrong parameters, no microphone and a forbidden one are told")

    page = pages.open()
    held = [api(pages.address, "POST", "/v1/browser-calls", {}) for _ in range(MAX_CALLS)]
    sign_in(page, "echo")
    page.click("#call")
    expect(page.locator("#error")).to_contain_text("no room for another call")
    for call in held:
        api(pages.address, "DELETE", f"/v1/calls/{call['call']['id']}")
    # A ticket that was spent by somebody else.
    asked = []

    def answer(route):
        asked.append(route.request.post_data_json)
        route.fulfill(json={**held[0], "call": held[0]["call"]}, status=201)

    page.route("**/v1/browser-calls", answer)
    # By keys, since Enter begins a line here and no call.
    page.locator("#parameters").press_sequentially("order=17\n\n note = a = b ")
    page.click("#call")
    expect(page.locator("#error")).to_contain_text("did not take the call")
    equal(asked, [{"agent": "echo", "language": None, "parameters": {"order": "17", "note": "a = b"}}], "what was asked for")
    page.context.close()
    tell("a gateway that is full and a ticket that is over are told")


def everyday(pages, started):
    """Mute, end, the end by others, and what is lost."""
    page = pages.open()
    sign_in(page, "echo")
    page.click("#call")
    expect(status(page)).to_contain_text("In a call")
    page.click("#mute")
    expect(page.locator("#mute")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#mute")).to_have_text("Unmute")
    page.click("#mute")
    # The echo of the caller's first words is heard, so the meters of both sides move.
    for side in ("you", "agent"):
        page.evaluate(MOVES, f"{side}-meter")
    page.click("#call")
    expect(status(page)).to_contain_text("You ended the call.")
    expect(page.locator("#error")).to_be_hidden()
    calls = api(pages.address, "GET", "/v1/calls?limit=1")["calls"]
    equal((calls[0]["from"], calls[0]["end_reason"]), ("client:browser", "caller_hangup"), "the call in the list")
    assert calls[0]["counters"]["malformed"] == 0 and calls[0]["counters"]["gaps"] == 0, calls[0]
    assert calls[0]["counters"]["marks_played"] > 0, calls[0]

    page.click("#call")
    expect(status(page)).to_contain_text("In a call")
    live = api(pages.address, "GET", "/v1/calls?state=live")["calls"][0]["id"]
    api(pages.address, "DELETE", f"/v1/calls/{live}")
    expect(status(page)).to_contain_text("ended by the calls API")
    tell("both sides are heard; the call is muted, ended by its button and by the calls API")

    worker, gateway = started
    page.click("#call")
    expect(status(page)).to_contain_text("In a call")
    # It has begun for sure once it is heard.
    page.evaluate(MOVES, "agent-meter")
    worker.process.kill()
    expect(page.locator("#error")).to_contain_text("The agent was lost")
    page.click("#call")
    expect(page.locator("#error")).to_contain_text("no audio-worker can be reached")
    page.context.close()
    tell("an agent that is lost is told, and that there is none")
    return gateway


def lost_gateway(pages, gateway):
    page = pages.open()
    # Without a worker nothing is announced, so the page is given what it would have got, and a socket of its own.
    page.route("**/v1/browser-calls", lambda route: route.fulfill(status=201, json={
        "call": {"call_sid": "BC1"}, "ticket": "x", "websocket_url": pages.address.replace("http", "ws") + "/call/stream/BC1"}))
    page.route_web_socket("**/call/stream/*", lambda socket: socket.on_message(
        lambda message: socket.close() if '"start"' in message else None))
    sign_in(page)
    page.click("#call")
    expect(page.locator("#error")).to_contain_text("connection to the gateway was lost")
    page.unroute("**/v1/browser-calls")
    gateway.process.kill()
    page.click("#call")
    expect(page.locator("#error")).to_contain_text("does not answer")
    page.context.close()
    tell("a socket that is lost and a gateway that is gone are told")


def worklet(pages):
    """What leaves the worklet in either direction, by ear and by measure."""
    page = pages.open()

    def render(rate, mulaw=b"", frequency=0, amplitude=0.0, seconds=1.0):
        told = page.evaluate(RENDER, {"rate": rate, "mulaw": base64.b64encode(mulaw).decode(), "frequency": frequency,
                                      "amplitude": amplitude, "seconds": seconds})
        return base64.b64decode(told["sent"]), base64.b64decode(told["heard"]), told["marks"]

    def level(mulaw):
        samples = array.array("h", sox(mulaw, "ulaw", LINE_RATE))[1600:]
        return (sum(x * x for x in samples) / len(samples)) ** 0.5 / 32768

    listener = Recogniser(" | ".join(map(words, (TRANSPORT, DISTANCE, FAR))))
    for rate in (48_000, 44_100, 16_000):
        spoken = sox(synthesize(TRANSPORT, LINE_RATE), LINE_RATE, "ulaw")
        _, heard, marks = render(rate, spoken, seconds=len(spoken) / LINE_RATE + 0.5)
        equal(listener.understand(sox(heard, rate, EARS_RATE)), words(TRANSPORT), f"what is heard at {rate} Hz")
        equal(marks, ["u1:end"], "the mark that was passed")
        found = {}
        for frequency in (300, 1000, 3000):
            sent, _, _ = render(rate, frequency=frequency, amplitude=0.5)
            assert LINE_RATE - 320 <= len(sent) <= LINE_RATE, len(sent)
            found[frequency] = level(sent) / (0.5 / 2**0.5)
            assert 0.97 < found[frequency] < 1.03, (rate, found)
        for frequency in (4600, 7000):
            if frequency * 2 < rate:
                sent, _, _ = render(rate, frequency=frequency, amplitude=0.5)
                # 50 dB below; mu-law has no less than that of loud sound.
                assert level(sent) < 0.5 / 2**0.5 / 300, (rate, frequency, level(sent))
    page.context.close()
    tell("the worklet was understood at 48, 44.1 and 16 kHz; its band is flat to 3 kHz and closed from 4.6 kHz")


def main(binaries, chromium, shots):
    began, cleanup = time.monotonic(), []
    shots = pathlib.Path(shots)
    shots.mkdir(parents=True, exist_ok=True)
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = pathlib.Path(name)
        spoken = folder / "caller.wav"
        microphone(spoken)
        flags = ["--no-sandbox", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
                 f"--use-file-for-fake-audio-capture={spoken}%noloop", "--autoplay-policy=user-gesture-required"]
        try:
            server = OpenAi({"callers": Recogniser(CALLER_RULE)}, {})
            cleanup.append(server)
            agents = folder / "agents.toml"
            agents.write_text(defaults(server.base) + survey("poll"))
            settings = {"API_TOKENS": TOKEN, "BROWSER_CALLS": "on", "DEFAULT_AGENT": "poll", "MAX_CALLS": str(MAX_CALLS)}
            started, _ = pair(binaries, AUTH_TOKEN, address, port, settings, {"AGENTS_FILE": str(agents)})
            cleanup += started
            browser = playwright.chromium.launch(executable_path=chromium, headless=True, args=flags)
            try:
                pages = Pages(browser, address, shots)
                worklet(pages)
                what_goes_wrong(pages)
                survey_by_keyboard(pages, server)
                gateway = everyday(pages, started)
                lost_gateway(pages, gateway)
                equal(pages.faults, [], "what the pages logged")
            except BaseException:
                print("the callers were understood as", server.transcribed)
                print("asked to speak", server.spoken)
                for program in started:
                    print("\n".join(program.lines[-20:]))
                for context in browser.contexts:
                    for at, page in enumerate(context.pages):
                        print(page.locator("body").inner_text())
                        page.screenshot(path=str(shots / f"failed-{at}.png"), full_page=True)
                raise
            finally:
                browser.close()
        finally:
            for part in reversed(cleanup):
                part.stop()
    print(f"{time.monotonic() - began:.0f} s; screenshots are in {shots}")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
