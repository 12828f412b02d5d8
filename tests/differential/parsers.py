"""What h11 and httptools (llhttp) make of each case: JSON lines in, JSON lines out.

In: {"role", "input_b64", "method"}; the peer closes after the bytes. Out: {parser: {"bodies_b64", "end", "rest_b64"}}: the content of complete
messages; "clean" (nothing half-read, or the connection ends here), "open" (a message is not complete) or "error"; what there is of a
message that is not complete.
"""

import base64
import json
import sys

import h11
import httptools


def encode(body):
    return base64.b64encode(bytes(body)).decode()


def finish(bodies, end, rest=None):
    return {"bodies_b64": [encode(body) for body in bodies], "end": end, "rest_b64": encode(rest or b"")}


def h11_request(data):
    conn = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    bodies, rest = [], None
    try:
        conn.receive_data(data)
        while True:
            event = conn.next_event()
            if event is h11.NEED_DATA:
                return finish(bodies, "open" if rest is not None or conn.trailing_data[0] else "clean", rest)
            if event is h11.PAUSED:
                return finish(bodies, "clean")
            if isinstance(event, h11.Request):
                rest = bytearray()
            elif isinstance(event, h11.Data):
                rest += event.data
            elif isinstance(event, h11.EndOfMessage):
                bodies, rest = bodies + [rest], None
                conn.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                if conn.our_state is h11.SEND_BODY:
                    conn.send(h11.EndOfMessage())
                if conn.our_state is not h11.DONE or conn.their_state is not h11.DONE:
                    return finish(bodies, "clean")
                conn.start_next_cycle()
            else:
                return finish(bodies, "clean")
    except h11.RemoteProtocolError:
        return finish(bodies, "error")


def h11_response(data, method):
    conn = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    target = "example.com:443" if method == "CONNECT" else "/"
    conn.send(h11.Request(method=method, target=target, headers=[("host", "example.com")]))
    conn.send(h11.EndOfMessage())
    bodies, rest = [], None
    try:
        conn.receive_data(data)
        conn.receive_data(b"")
        while True:
            event = conn.next_event()
            if event is h11.NEED_DATA:
                return finish(bodies, "open", rest)
            if isinstance(event, h11.InformationalResponse):
                bodies = bodies + [b""]
            elif isinstance(event, h11.Response):
                rest = bytearray()
            elif isinstance(event, h11.Data):
                rest += event.data
            elif isinstance(event, h11.EndOfMessage):
                return finish(bodies + [rest], "clean")
            else:
                return finish(bodies + ([rest] if rest is not None else []), "clean")
    except h11.RemoteProtocolError:
        return finish(bodies, "error")


class Watch:
    def __init__(self):
        self.bodies, self.rest = [], None

    def on_message_begin(self):
        self.rest = bytearray()

    def on_body(self, body):
        self.rest += body

    def on_message_complete(self):
        self.bodies.append(self.rest)
        self.rest = None


def llhttp(data, parser_type):
    watch = Watch()
    try:
        parser_type(watch).feed_data(data)
    except httptools.HttpParserUpgrade:
        return finish(watch.bodies, "clean")
    except httptools.HttpParserError:
        return finish(watch.bodies, "error")
    return finish(watch.bodies, "open" if watch.rest is not None else "clean", watch.rest)


for line in sys.stdin:
    case = json.loads(line)
    data = base64.b64decode(case["input_b64"])
    if case["role"] == "request":
        answers = {"h11": h11_request(data), "llhttp": llhttp(data, httptools.HttpRequestParser)}
    else:
        answers = {"h11": h11_response(data, case["method"]), "llhttp": llhttp(data, httptools.HttpResponseParser)}
    print(json.dumps(answers))
