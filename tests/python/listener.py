"""A server in the place of a gateway that checks every signature with Twilio's own library."""

import http.server
import threading
import urllib.parse

from twilio.request_validator import RequestValidator

import socket_frames


class Seen:
    """A request, and what the library says of its signature."""

    def __init__(self, kind, method, path, fields, is_signed):
        self.kind, self.method, self.path, self.fields, self.is_signed = kind, method, path, fields, is_signed


class Listener:
    """Answers TwiML by path, takes callbacks, and reads media streams to their end."""

    def __init__(self, public_host, token, documents):
        self.seen = []
        self.changed = threading.Condition()
        validator, listener = RequestValidator(token), self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                length = int(self.headers.get("Content-Length", 0))
                body = self.rfile.read(length).decode()
                fields = dict(urllib.parse.parse_qsl(body, keep_blank_values=True))
                self.take("POST", "https", fields, fields)
                self.answer()

            def do_GET(self):
                query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query, keep_blank_values=True))
                if self.headers.get("Upgrade", "").lower() == "websocket":
                    self.take("WEBSOCKET", "wss", query, {})
                    self.stream()
                else:
                    self.take("GET", "https", query, {})
                    self.answer()

            def take(self, method, scheme, fields, signed):
                signature = self.headers.get("X-Twilio-Signature", "")
                path = urllib.parse.urlsplit(self.path).path
                is_signed = validator.validate(f"{scheme}://{public_host}{self.path}", signed, signature)
                # One changed value must spoil it.
                is_signed = is_signed and not validator.validate(
                    f"{scheme}://{public_host}{self.path}", {**signed, "Extra": "1"}, signature
                )
                with listener.changed:
                    listener.seen.append(Seen(path.split("/")[1], method, path, fields, is_signed))
                    listener.changed.notify_all()

            def answer(self):
                body = documents.get(urllib.parse.urlsplit(self.path).path, "").encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/xml")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def stream(self):
                socket_frames.accept(self)
                while socket_frames.read(self)[0] != socket_frames.CLOSE:
                    pass

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = "127.0.0.1:%d" % self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def wait_for(self, wanted, seconds=20):
        """The first request that is as wanted, or none."""
        with self.changed:
            self.changed.wait_for(lambda: any(wanted(seen) for seen in self.seen), seconds)
            return next((seen for seen in self.seen if wanted(seen)), None)

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
