"""Twilio's own Python library against the simulated Twilio and against the gateway.

    twilio_library.py FOLDER_OF_BINARIES

What the library sends must be taken, what it reads must be right, and the signatures of both sides must agree with its
own. Prints a line for each check that fails and one with the sum; the exit code says the same.
"""

import datetime
import http.client
import os
import re
import secrets
import sys
import time
import urllib.parse
import uuid
import xml.etree.ElementTree as ElementTree

import requests
import twilio
from listener import Listener
from programs import pair, simulated_twilio
from twilio.base.exceptions import TwilioRestException
from twilio.http.http_client import TwilioHttpClient
from twilio.request_validator import RequestValidator
from twilio.rest import Client
from twilio.twiml.voice_response import Connect, VoiceResponse

HOST = "voice.tandem.example"
PUBLIC_URL = f"https://{HOST}"
ACCOUNT = "AC" + "0" * 32
KEY, KEY_SECRET = "SK" + "1" * 32, "secret-of-the-key"
NUMBER, OTHER_NUMBER, CALLEE = "+15550199", "+15550198", "+15550100"
WAITING = '<Response><Pause length="30"/></Response>'
PATIENCE = 20.0


class Checks:
    """Counts what holds, and says what does not."""

    def __init__(self):
        self.passed, self.failed = 0, 0

    def holds(self, what, condition, detail=""):
        if condition:
            self.passed += 1
        else:
            self.failed += 1
            print(f"FAILED: {what} {detail}")

    def equal(self, what, left, right):
        self.holds(what, left == right, f"({left!r} is not {right!r})")

    def refused(self, what, code, status, action):
        """The library must raise its own exception with this code."""
        try:
            result = action()
        except TwilioRestException as error:
            self.equal(what, (error.code, error.status), (code, status))
        else:
            self.holds(what, False, f"(went through: {result!r})")


class LocalClient(TwilioHttpClient):
    """The library's HTTP client, led to another address than https://api.twilio.com."""

    def __init__(self, address):
        super().__init__(timeout=PATIENCE)
        self.address = address

    def request(self, method, url, *arguments, **more):
        return super().request(method, url.replace("https://api.twilio.com", self.address), *arguments, **more)


def client(address, user=ACCOUNT, password="", account=None):
    return Client(user, password, account_sid=account, http_client=LocalClient(address))


def eventually(condition):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        result = condition()
        if result:
            return result
        time.sleep(0.05)
    return None


def every_parameter(url):
    """What `calls.create` takes, but for those that exclude each other."""
    return dict(
        to=CALLEE,
        from_=NUMBER,
        url=url,
        method="POST",
        fallback_url=f"{PUBLIC_URL}/fallback",
        fallback_method="POST",
        status_callback=f"{PUBLIC_URL}/status?of=this%20call",
        status_callback_event=["initiated", "ringing", "answered", "completed"],
        status_callback_method="POST",
        timeout=30,
        record=True,
        recording_channels="dual",
        recording_track="both",
        recording_status_callback=f"{PUBLIC_URL}/recording",
        recording_status_callback_method="POST",
        recording_status_callback_event=["in-progress", "completed"],
        trim="trim-silence",
        sip_auth_username="user",
        sip_auth_password="password",
        machine_detection="DetectMessageEnd",
        machine_detection_timeout=30,
        machine_detection_speech_threshold=2400,
        machine_detection_speech_end_threshold=1200,
        machine_detection_silence_timeout=5000,
        async_amd="true",
        async_amd_status_callback=f"{PUBLIC_URL}/detected",
        async_amd_status_callback_method="POST",
        byoc="BY" + "0" * 32,
        call_reason="A test",
        call_token="token",
        caller_id=NUMBER,
        client_notification_url=f"{PUBLIC_URL}/notification",
        time_limit=600,
        # Newer than the published schema.
        recording_configuration_id="configuration",
        passports="passports",
    )


def calls(check, address, listener, token):
    """A call with everything, from making it to the last callback."""
    twilio_client = client(address, password=token)
    made = twilio_client.calls.create(**every_parameter(f"{PUBLIC_URL}/voice"))
    check.equal("a new call is queued", made.status, "queued")
    check.holds("it has a SID", re.fullmatch("CA[0-9a-f]{32}", made.sid))
    check.equal("it is outbound", (made.direction, made.to, made._from), ("outbound-api", CALLEE, NUMBER))
    check.holds("dates are read", isinstance(made.date_created, datetime.datetime))
    ended = eventually(lambda: (lambda call: call if call.status == "completed" else None)(made.fetch()))
    check.holds("it is completed in the end", ended)
    if ended:
        check.holds("times are read", isinstance(ended.end_time, datetime.datetime) and int(ended.duration) >= 1)
        check.equal("who answered", ended.answered_by, "machine_end_beep")
    last = listener.wait_for(lambda seen: seen.fields.get("CallStatus") == "completed")
    check.holds("the end is told", last)
    statuses = [seen.fields["CallStatus"] for seen in listener.seen if seen.kind == "status"]
    check.equal("all four events are told", statuses, ["initiated", "ringing", "in-progress", "completed"])
    detected = listener.wait_for(lambda seen: seen.kind == "detected")
    check.equal("detection is told", detected and detected.fields.get("AnsweredBy"), "machine_end_beep")
    for kind in ["voice", "media", "status", "detected", "stream-status"]:
        check.holds(f"there was a request to /{kind}", any(seen.kind == kind for seen in listener.seen))
    for seen in listener.seen:
        check.holds(f"the library takes the signature of {seen.method} {seen.path}", seen.is_signed)
    by_get = {**every_parameter(f"{PUBLIC_URL}/voice?a=b"), "method": "GET", "status_callback_method": "GET"}
    before = len(listener.seen)
    other = twilio_client.calls.create(**by_get)
    listener.wait_for(lambda seen: seen.method == "GET" and seen.fields.get("CallStatus") == "completed")
    asked = [seen for seen in listener.seen[before:] if seen.method == "GET"]
    check.equal("GET is used where it is set", {seen.kind for seen in asked}, {"voice", "status"})
    check.holds("and signed over the whole query", asked and all(seen.is_signed for seen in asked))
    check.holds("the query that was given is kept", any(seen.fields.get("a") == "b" for seen in asked))
    check.holds("a call that is over can be deleted", eventually(lambda: _delete(other)))
    check.refused("and is gone", 20404, 404, other.fetch)


def _delete(call):
    try:
        return call.delete()
    except TwilioRestException:
        return False


def lists_and_changes(check, address, token):
    """Pages, filters, hanging up, other TwiML."""
    twilio_client = client(address, password=token)
    made = [twilio_client.calls.create(to=f"+1555020{n}", from_=NUMBER, twiml=WAITING) for n in range(7)]
    sids = [call.sid for call in made]
    listed = [call.sid for call in twilio_client.calls.list(page_size=2) if call.sid in sids]
    check.equal("all pages together hold every call once, newest first", listed, sids[::-1])
    check.equal("a limit cuts", len(twilio_client.calls.list(limit=3)), 3)
    page = twilio_client.calls.page(page_size=3)
    check.equal("a page by hand", len(list(page)), 3)
    after = page.next_page()
    check.equal("the next one goes on", [call.sid for call in after], sids[::-1][3:6])
    check.equal("the filter To", [call.sid for call in twilio_client.calls.list(to="+15550203")], [sids[3]])
    today = datetime.datetime.now(datetime.timezone.utc).date()
    found = eventually(lambda: len(twilio_client.calls.list(status="in-progress", start_time_after=today)) >= 7)
    check.holds("filters by status and day", found)
    check.equal("nothing was before", twilio_client.calls.list(start_time_before=datetime.date(2020, 1, 1)), [])
    check.equal("hanging up", twilio_client.calls(sids[0]).update(status="completed").status, "completed")
    check.refused("only once", 21220, 400, lambda: twilio_client.calls(sids[0]).update(status="completed"))
    check.refused("canceling is for before", 21220, 400, lambda: twilio_client.calls(sids[1]).update(status="canceled"))
    changed = twilio_client.calls(sids[1]).update(twiml="<Response><Hangup/></Response>")
    check.equal("other TwiML is taken", changed.sid, sids[1])
    check.holds("and run", eventually(lambda: twilio_client.calls(sids[1]).fetch().status == "completed"))
    for sid in sids[2:]:
        twilio_client.calls(sid).update(status="completed")
    live = [call.sid for call in twilio_client.calls.list(status="in-progress") if call.sid in sids]
    check.equal("nothing of it is left", live, [])


def numbers(check, address, token):
    twilio_client = client(address, password=token)
    found = twilio_client.incoming_phone_numbers.list(phone_number=NUMBER)
    check.equal("a number is found", [number.phone_number for number in found], [NUMBER])
    check.equal("all of them", len(twilio_client.incoming_phone_numbers.list()), 2)
    if found:
        check.equal("its webhook", (found[0].voice_url, found[0].voice_method), (f"{PUBLIC_URL}/voice", "POST"))
        changed = found[0].update(voice_url=f"{PUBLIC_URL}/voice/incoming", status_callback=f"{PUBLIC_URL}/ended")
        again = twilio_client.incoming_phone_numbers(found[0].sid).fetch()
        check.equal("it is changed", (again.voice_url, again.status_callback), (changed.voice_url, f"{PUBLIC_URL}/ended"))
        check.refused("nonsense is refused", 21402, 400, lambda: found[0].update(voice_url="nowhere"))
    check.equal("the account is active", twilio_client.api.accounts(ACCOUNT).fetch().status, "active")


def refusals(check, address, token):
    """Each refusal must come out of the library as its own exception."""
    twilio_client = client(address, password=token)
    create = twilio_client.calls.create
    url = f"{PUBLIC_URL}/voice"
    cases = [
        (21211, dict(to="12", from_=NUMBER, url=url)),
        (21212, dict(to=CALLEE, from_="me", url=url)),
        (21210, dict(to=CALLEE, from_="+15550111", url=url)),
        (21205, dict(to=CALLEE, from_=NUMBER)),
        (21205, dict(to=CALLEE, from_=NUMBER, url="/voice")),
        (21609, dict(to=CALLEE, from_=NUMBER, url=url, status_callback="https://my_host.example/")),
        (21208, dict(to=CALLEE, from_=NUMBER, url=url, timeout=601)),
        (21206, dict(to=CALLEE, from_=NUMBER, url=url, send_digits="12x")),
        (21217, dict(to="+15005550001", from_=NUMBER, url=url)),
        (21215, dict(to="+15005550003", from_=NUMBER, url=url)),
    ]
    for code, arguments in cases:
        check.refused(f"{code} for {sorted(arguments)}", code, 400, lambda: create(**arguments))
    check.refused("an unknown call", 20404, 404, twilio_client.calls("CA" + "0" * 32).fetch)
    for user, password, account in [(ACCOUNT, "wrong", None), (KEY, "wrong", ACCOUNT), ("AC" + "9" * 32, token, None)]:
        wrong = client(address, user, password, account)
        check.refused("wrong credentials", 20003, 401, wrong.calls("CA" + "0" * 32).fetch)
    by_key = client(address, KEY, KEY_SECRET, ACCOUNT)
    check.equal("a key does as well", by_key.api.accounts(ACCOUNT).fetch().sid, ACCOUNT)
    check.holds("and makes calls", by_key.calls.create(to=CALLEE, from_=NUMBER, twiml=WAITING).update(status="completed"))


def mishaps(check, binaries, token):
    """What the network does: the library's exceptions, and what has become of the call."""
    flags = ["--calls-per-second", "0", "--ring", "30s", "--fault", "429+3=2", "--fault", "500", "--fault", "502"]
    server, address = simulated_twilio(binaries, token, *flags, "--fault", "lost", "--fault", "account:401")
    try:
        twilio_client = client(address, password=token)

        def create():
            return twilio_client.calls.create(to=CALLEE, from_=NUMBER, twiml=WAITING)

        for _ in range(2):
            check.refused("too many", 20429, 429, create)
        check.refused("a fault of the server", 20500, 500, create)
        try:
            create()
            check.holds("a page in HTML is no answer", False)
        except Exception as error:  # Which one is the library's affair.
            check.holds("a page in HTML is no answer", not isinstance(error, AssertionError))
        try:
            create()
            check.holds("a lost answer is none", False)
        except requests.exceptions.ConnectionError:
            check.holds("a lost answer is none", True)
        check.refused("credentials refused for once", 20003, 401, twilio_client.api.accounts(ACCOUNT).fetch)
        made = twilio_client.calls.list(limit=5)
        check.equal("the call whose answer was lost was made, the others were not", len(made), 1)
        ringing = create()
        check.holds("it rings", eventually(lambda: ringing.fetch().status == "ringing"))
        check.refused("what rings takes no TwiML", 21220, 400, lambda: ringing.update(twiml=WAITING))
        check.equal("what rings is canceled", ringing.update(status="canceled").status, "canceled")
        check.equal("and stays so", ringing.fetch().status, "canceled")
    finally:
        server.stop()


def request(address, method, path, fields=None, headers=None):
    """To the gateway, as a proxy would hand it on: status, headers, body."""
    connection = http.client.HTTPConnection(address, timeout=PATIENCE)
    try:
        body = urllib.parse.urlencode(fields) if fields is not None else None
        form = {"Content-Type": "application/x-www-form-urlencoded"} if body is not None else {}
        connection.request(method, path, body, {"Host": HOST, **form, **(headers or {})})
        reply = connection.getresponse()
        is_upgraded = reply.status == 101
        return reply.status, dict(reply.getheaders()), "" if is_upgraded else reply.read().decode()
    finally:
        connection.close()


def call_fields(**more):
    fields = {
        "AccountSid": ACCOUNT,
        "ApiVersion": "2010-04-01",
        "CallSid": "CA" + uuid.uuid4().hex,
        "CallStatus": "ringing",
        "Called": NUMBER,
        "Caller": CALLEE,
        "CallerName": "Zoë & Søn + 1",
        "Direction": "inbound",
        "From": CALLEE,
        "FromCity": "",
        "To": NUMBER,
    }
    return {**fields, **more}


def gateway_signatures(check, address, token):
    """The gateway takes what the library signs, and nothing else."""
    validator = RequestValidator(token)

    def signed(path, fields, scheme="https", key=validator):
        return {"X-Twilio-Signature": key.compute_signature(f"{scheme}://{HOST}{path}", fields)}

    # A call that the gateway knows from then on; with anything but its webhook it would know none.
    known = call_fields()
    ended = {**known, "CallStatus": "completed", "CallDuration": "3", "SequenceNumber": "4"}
    unknown_id = "call_" + "0" * 32
    # Path, fields, and what the gateway answers when it believes them: it looks for the call only then.
    posts = [
        ("/voice/incoming", known, 200),
        ("/voice/incoming?line=1&name=a%20b", call_fields(), 200),
        ("/voice/after", known, 200),
        ("/voice/dialled", {**known, "DialCallStatus": "completed", "DialCallSid": "CA" + "d" * 32}, 200),
        ("/voice/stream-status", {**known, "StreamEvent": "stream-error", "StreamError": "31920 - Zoë"}, 204),
        ("/voice/amd", {**known, "AnsweredBy": "machine_start", "MachineDetectionDuration": "3200"}, 204),
        ("/voice/status", ended, 204),
        ("/voice/status?again=1", ended, 204),
        (f"/voice/outbound/{unknown_id}", call_fields(Direction="outbound-api"), 200),
        (f"/voice/amd/{unknown_id}", {**call_fields(), "AnsweredBy": "human"}, 404),
        (f"/voice/status/{unknown_id}", {**call_fields(), "CallStatus": "ringing", "SequenceNumber": "1"}, 404),
    ]
    for path, fields, believed in posts:
        status, _, _ = request(address, "POST", path, fields, signed(path, fields))
        check.equal(f"{path}, signed by the library, is believed", status, believed)
        other = RequestValidator(token + "x")
        refused = [{}, signed(path, fields, key=other), signed(path, {**fields, "To": CALLEE}), signed(path, fields, "http")]
        for headers in refused:
            status, _, _ = request(address, "POST", path, fields, headers)
            check.equal(f"{path}, wrongly signed, is refused", status, 403)
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    path = "/voice/stream"
    status, _, _ = request(address, "GET", path, None, {**upgrade, **signed(path, {}, "wss")})
    check.equal("the handshake, signed by the library over the wss address, is taken", status, 101)
    for headers in [{}, signed(path, {}, "https")]:
        status, _, _ = request(address, "GET", path, None, {**upgrade, **headers})
        check.equal("the handshake, wrongly signed, is refused", status, 403)


def snake(name):
    return re.sub("([A-Z])", lambda found: "_" + found.group(1).lower(), name)


def known(function, element):
    """The element's attributes as the library's arguments; those that it does not name are told apart."""
    arguments = {snake(name): value for name, value in element.attrib.items()}
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    return arguments, sorted(set(arguments) - set(names))


def shape(element):
    text = (element.text or "").strip()
    return element.tag, sorted(element.attrib.items()), text, [shape(child) for child in element]


def gateway_twiml(check, address, token):
    """The gateway's TwiML is what the library builds of the same words."""
    fields = call_fields()
    signature = RequestValidator(token).compute_signature(f"{PUBLIC_URL}/voice/incoming", fields)
    status, headers, body = request(address, "POST", "/voice/incoming", fields, {"X-Twilio-Signature": signature})
    check.equal("the webhook is answered", status, 200)
    kind = {name.lower(): value for name, value in headers.items()}.get("content-type", "")
    check.holds("as XML", kind.split(";")[0] in ("text/xml", "application/xml"), f"({kind})")
    theirs = ElementTree.fromstring(body)
    connect, stream = theirs.find("Connect"), theirs.find("Connect/Stream")
    check.holds("it connects a stream", connect is not None and stream is not None, f"({body})")
    if connect is None or stream is None:
        return
    response = VoiceResponse()
    connect_arguments, unknown = known(VoiceResponse.connect, connect)
    check.equal("the library knows every attribute of <Connect>", unknown, [])
    stream_arguments, unknown = known(Connect.stream, stream)
    check.equal("the library knows every attribute of <Stream>", unknown, [])
    built = response.connect(**connect_arguments).stream(**stream_arguments)
    for parameter in stream:
        built.parameter(**parameter.attrib)
    # What follows the stream is repeated as it is: verbs that the library must have.
    for verb in list(theirs)[1:]:
        builder = getattr(response, snake(verb.tag).lstrip("_"), None)
        check.holds(f"the library has <{verb.tag}>", builder is not None)
        if builder:
            words = [verb.text] if (verb.text or "").strip() else []
            arguments, unknown = known(builder, verb)
            check.equal(f"the library knows every attribute of <{verb.tag}>", unknown, [])
            builder(*words, **arguments)
    check.equal("the library builds the same", shape(ElementTree.fromstring(str(response))), shape(theirs))


def through_the_pair(check, binaries, gateway, token):
    """A call made by the library goes through the simulated Twilio, the gateway and the worker."""
    flags = ["--gateway", gateway, "--public-url", PUBLIC_URL, "--calls-per-second", "0", "--hangup-after", "2s"]
    server, address = simulated_twilio(binaries, token, *flags)
    try:
        twilio_client = client(address, password=token)
        call = twilio_client.calls.create(to=CALLEE, from_=NUMBER, url=f"{PUBLIC_URL}/voice/incoming")
        line = server.wait_for_line(call.sid)
        check.holds("the call goes through the pair", re.search(r" completed, 1 streams in 2\.[0-9] s", line), f"({line})")
        check.holds("without an error", " error " not in line, f"({line})")
    finally:
        server.stop()


def main(binaries):
    check, token = Checks(), secrets.token_hex(16)
    documents = {
        "/voice": f'<Response><Connect action="{PUBLIC_URL}/voice/after"><Stream url="wss://{HOST}/media" '
        f'statusCallback="{PUBLIC_URL}/stream-status"/></Connect></Response>',
    }
    listener = Listener(HOST, token, documents)
    running = [listener]
    try:
        flags = ["--gateway", listener.address, "--public-url", PUBLIC_URL, "--calls-per-second", "0"]
        flags += ["--number", NUMBER, "--number", OTHER_NUMBER, "--voice-url", f"{PUBLIC_URL}/voice"]
        flags += ["--api-key", f"{KEY}={KEY_SECRET}", "--answered-by", "machine_start"]
        flags += ["--detected-after", "300ms", "--hangup-after", "1500ms"]
        server, address = simulated_twilio(binaries, token, *flags)
        running.append(server)
        calls(check, address, listener, token)
        lists_and_changes(check, address, token)
        numbers(check, address, token)
        refusals(check, address, token)
        mishaps(check, binaries, token)
        programs, gateway = pair(binaries, token, PUBLIC_URL)
        running.extend(programs)
        gateway_signatures(check, gateway, token)
        gateway_twiml(check, gateway, token)
        through_the_pair(check, binaries, gateway, token)
    finally:
        for program in reversed(running):
            program.stop()
    print(f"twilio-python {twilio.__version__}: {check.passed} checks passed, {check.failed} failed")
    return 1 if check.failed else 0


if __name__ == "__main__":
    sys.exit(main(os.path.abspath(sys.argv[1])))
