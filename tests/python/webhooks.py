#!/usr/bin/env python3
"""Takes webhooks as a partner would who knows nothing of Souk: with the library `standardwebhooks`, which verifies them. All events
of a market come, those of a stream in order, also under a secret that is being replaced; what was tampered with is refused.

    webhooks.py SOUK
"""

import shutil
import sys
import tempfile
import threading
import time
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from shop import Invoices, Souk


class Partner(ThreadingHTTPServer):
    """Refuses what is not genuine, and notes what is, in the order in which it came."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Request)
        self.known = threading.Event()
        self.secrets, self.taken, self.refused = [], [], []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return "http://%s:%d/souk" % self.server_address

    def trust(self, *secrets):
        """Every one of them has to have signed."""
        self.secrets = [Webhook(secret) for secret in secrets]
        self.known.set()

    def take(self, body, headers):
        self.known.wait(10)
        try:
            events = [secret.verify(body, headers) for secret in self.secrets]
        except WebhookVerificationError as error:
            self.refused.append(str(error))
            return 401
        assert events[0]["id"] == headers["webhook-id"]
        self.taken.append((time.monotonic(), events[0], body, headers))
        return 204


class Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.send_response(self.server.take(body, {name.lower(): value for name, value in self.headers.items()}))
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def all_come(souk, analyst, partner):
    """Every event since the beginning. Answers the consumer's address and its secret."""
    wanted = {"name": "partner", "after": "start", "webhook": {"url": partner.url}}
    made = souk.post("/v1/consumers", wanted, analyst, expect=201)
    consumer, secret = f"/v1/consumers/{made['consumerId']}", made["webhook"]["secret"]
    partner.trust(secret)
    souk.until(lambda: souk.get(consumer, None, analyst)["lag"] == 0, patience=120)
    assert not partner.refused, partner.refused
    streams, positions = defaultdict(int), set()
    for _, event, _, _ in partner.taken:
        assert event["revision"] <= streams[event["stream"]], event
        streams[event["stream"]] = max(streams[event["stream"]], event["revision"] + 1)
        positions.add(event["position"])
    events = souk.get(consumer, None, analyst)["position"] + 1
    assert positions == set(range(events)) and events > 2000, (len(positions), events)
    took = partner.taken[-1][0] - partner.taken[0][0]
    print(f"all_come: ok, {events} events verified, {len(partner.taken) / took:.0f} deliveries a second")
    return consumer, secret


def what_is_not_genuine_is_refused(partner, secret):
    _, _, body, headers = partner.taken[-1]
    Webhook(secret).verify(body, headers)
    other = Webhook("whsec_" + "A" * 43 + "=")
    for verifier, body, headers in [
        (other, body, headers),
        (Webhook(secret), body.replace(b'"position"', b'"Position"'), headers),
        (Webhook(secret), body, headers | {"webhook-id": "another"}),
        (Webhook(secret), body, headers | {"webhook-timestamp": str(int(headers["webhook-timestamp"]) - 1)}),
    ]:
        try:
            verifier.verify(body, headers)
        except WebhookVerificationError:
            continue
        raise AssertionError("it was taken for genuine")
    print("what_is_not_genuine_is_refused: ok")


def a_new_secret_signs_beside_the_former(souk, analyst, partner, consumer, former):
    new = souk.post(f"{consumer}/rotate-secret", {}, analyst)["secret"]
    before = len(partner.taken)
    partner.trust(former, new)
    last = souk.get(consumer, None, analyst)["position"]
    souk.post(f"{consumer}/replay", {"after": last - 10}, analyst)
    souk.until(lambda: len({event["id"] for _, event, _, _ in partner.taken[before:]}) == 10)
    assert not partner.refused, partner.refused
    print("a_new_secret_signs_beside_the_former: ok")


def main(binary):
    folder = Path(tempfile.mkdtemp(prefix="souk-webhooks-"))
    folder.chmod(0o755)  # PostgreSQL runs as another user where we are root
    souk, partner = Souk(binary, str(folder / "data")), Partner()
    try:
        Invoices(folder / "invoices.csv")
        souk.run("import", "invoices", folder / "invoices.csv")
        souk.serve("--webhook-allow-private")
        analyst = souk.appoint("ana", "analyst")
        consumer, secret = all_come(souk, analyst, partner)
        what_is_not_genuine_is_refused(partner, secret)
        a_new_secret_signs_beside_the_former(souk, analyst, partner, consumer, secret)
    finally:
        try:
            souk.stop()
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
