"""The server's side of WebSockets on the connection of an HTTP request: as much of RFC 6455 as tests need."""

import base64
import hashlib

MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def accept(request):
    """Answers the handshake."""
    key = request.headers["Sec-WebSocket-Key"].encode()
    request.send_response(101)
    request.send_header("Upgrade", "websocket")
    request.send_header("Connection", "Upgrade")
    request.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key + MAGIC).digest()).decode())
    request.end_headers()
    request.close_connection = True


def read(request):
    """The kind and the bytes of the next message; a connection that has ended counts as closed. Messages in several frames
    are not expected."""
    head = request.rfile.read(2)
    if len(head) < 2:
        return CLOSE, b""
    assert head[0] & 0x80, "half a message"
    length = head[1] & 0x7F
    if length >= 126:
        length = int.from_bytes(request.rfile.read(2 if length == 126 else 8), "big")
    mask, data = request.rfile.read(4), request.rfile.read(length)
    stretched = (mask * (length // 4 + 1))[:length]
    data = (int.from_bytes(data, "big") ^ int.from_bytes(stretched, "big")).to_bytes(length, "big")
    return head[0] & 0x0F, data


def write(request, kind, data):
    """One message in one frame."""
    size = len(data)
    length = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big") if size < 1 << 16 else \
        b"\x7f" + size.to_bytes(8, "big")
    request.wfile.write(bytes([0x80 | kind]) + length + data)


def close(request, code, reason=""):
    """Says goodbye and waits until the other side does so."""
    write(request, CLOSE, code.to_bytes(2, "big") + reason.encode())
    while read(request)[0] != CLOSE:
        pass
