"""An HTTP server in the place of a provider, on a free port of this machine; each family of providers is a class of its own."""

import http.server
import json
import threading
import urllib.parse


class StandIn:
    """Subclasses answer in `get` and `post`: both take the request, `post` its body as well, and say whether there is such a
    thing. Requests without `key` are refused, where a family has one: a header, and what stands before the key in there."""

    KEY_HEADER, BEFORE_KEY = None, ""

    def __init__(self, key=None):
        stand_in = self

        class Handler(Request):
            def answered_by(self, body):
                expected = f"{stand_in.BEFORE_KEY}{key}"
                if stand_in.KEY_HEADER and self.headers.get(stand_in.KEY_HEADER) != expected:
                    return self.answer(401, stand_in.refusal("a wrong key"))
                found = stand_in.get(self) if body is None else stand_in.post(self, body)
                return found or self.answer(404, stand_in.refusal("there is no such thing"))

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.base = "http://127.0.0.1:%d/v1" % self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def get(self, request):
        return False

    def post(self, request, body):
        return False

    def refusal(self, why):
        """An error in the family's own form."""
        return {"error": {"message": why}}

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class Request(http.server.BaseHTTPRequestHandler):
    """A request, and the ways to answer it. Who has given it up closes the connection."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answered_by(None)

    def do_POST(self):
        self.answered_by(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def place(self):
        """The path, and the parameters behind it."""
        place = urllib.parse.urlsplit(self.path)
        return place.path, urllib.parse.parse_qs(place.query)

    def answer(self, status, value):
        """JSON, at once."""
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        try:
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            self.close_connection = True
        return True

    def begin(self, content_type):
        """Chunks follow."""
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def chunk(self, data):
        """An empty one is the last."""
        try:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        except OSError:
            self.close_connection = True
        return True

    def log_message(self, *_):
        pass
