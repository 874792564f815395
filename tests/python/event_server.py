"""Uses `souk events serve` as a program in Python would, with the package kurrentdbclient: appends, reads, filters,
deletes, subscribes, and goes on where it was after the server was killed.

    event_server.py PATH-OF-SOUK
"""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import uuid

from kurrentdbclient import CaughtUp, Checkpoint, KurrentDBClient, NewEvent, StreamState
from kurrentdbclient.exceptions import (
    AccessDeniedError,
    KurrentDBClientError,
    NotFoundError,
    ServiceUnavailableError,
    StreamIsDeletedError,
    WrongCurrentVersionError,
)

PATIENCE = 30


class Server:
    """`souk events serve` on one folder and, once it has one, on one address."""

    def __init__(self, program, folder):
        self.program, self.folder, self.address = program, folder, "127.0.0.1:0"
        self.start()

    def start(self):
        command = [self.program, "events", "serve", "--insecure", "--allow-append"]
        command += ["--listen", self.address, "--data-dir", self.folder]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().split()[-1]

    def end(self, how):
        self.process.send_signal(how)
        status = self.process.wait(PATIENCE)
        self.process.stdout.close()
        return status

    def client(self):
        return KurrentDBClient(f"kurrentdb://{self.address}?tls=false")


def event(number, kind="Counted", **parts):
    return NewEvent(type=kind, data=b'{"number": %d}' % number, **parts)


def refused(error, call, *arguments, **named):
    try:
        call(*arguments, **named)
    except error as refusal:
        return refusal
    raise AssertionError(f"{call.__name__} was not refused with {error.__name__}")


def appends_and_reads(client):
    first, second = event(0), event(1, metadata=b'{"actor": "python"}')
    at = client.append_to_stream("count-1", current_version=StreamState.NO_STREAM, events=[first, second])
    again = client.append_to_stream("count-1", current_version=StreamState.NO_STREAM, events=[first, second])
    assert at == again, "the same events again are the same append"
    conflict = refused(
        WrongCurrentVersionError, client.append_to_stream, "count-1", current_version=0, events=[event(9)]
    )
    assert conflict.actual_version == 1, conflict
    binary = NewEvent(type="Blob", data=b"\x00\xff", content_type="application/octet-stream")
    client.append_events("count-1", current_version=StreamState.EXISTS, events=[binary])

    events = client.get_stream("count-1")
    assert [e.data for e in events] == [first.data, second.data, binary.data]
    assert [e.id for e in events] == [first.id, second.id, binary.id]
    assert [e.metadata for e in events] == [b"", second.metadata, b""]
    assert events[2].content_type == "application/octet-stream"
    assert events[0].recorded_at is not None
    assert [e.stream_position for e in client.get_stream("count-1", backwards=True, limit=2)] == [2, 1]
    assert client.get_current_version("count-1") == 2
    assert client.get_current_version("count-2") is StreamState.NO_STREAM
    refused(NotFoundError, client.get_stream, "count-2")

    assert [e.commit_position for e in client.read_all()] == [0, 1, 2]
    assert [e.commit_position for e in client.read_all(commit_position=1)] == [1, 2]
    # Backwards, the event at the position is left out.
    assert [e.commit_position for e in client.read_all(commit_position=2, backwards=True)] == [1, 0]
    assert [e.type for e in client.read_all(filter_include=["Bl.*"])] == ["Blob"]
    assert [e.type for e in client.read_all(filter_exclude=["Bl.*"])] == ["Counted", "Counted"]
    client.append_to_stream("other-1", current_version=StreamState.ANY, events=[event(0)])
    only = client.read_all(filter_include=["count-"], filter_by_stream_name=True, filter_by_prefix=True)
    assert {e.stream_name for e in only} == {"count-1"}
    assert client.get_commit_position() == 3


def metadata_and_deletions(client):
    numbers = [event(number) for number in range(5)]
    client.append_to_stream("short-1", current_version=StreamState.NO_STREAM, events=numbers)
    client.set_stream_metadata("short-1", metadata={"$maxCount": 2})
    assert client.get_stream_metadata("short-1")[0] == {"$maxCount": 2}
    assert [e.stream_position for e in client.get_stream("short-1")] == [3, 4]
    refused(WrongCurrentVersionError, client.delete_stream, "short-1", current_version=1)
    client.delete_stream("short-1", current_version=4)
    refused(NotFoundError, client.get_stream, "short-1")
    client.append_to_stream("short-1", current_version=StreamState.NO_STREAM, events=[event(5)])
    assert [e.stream_position for e in client.get_stream("short-1")] == [5]
    client.tombstone_stream("short-1", current_version=StreamState.ANY)
    refused(StreamIsDeletedError, client.get_stream, "short-1")
    one = [event(6)]
    refused(StreamIsDeletedError, client.append_to_stream, "short-1", current_version=5, events=one)
    refused(AccessDeniedError, client.tombstone_stream, "order-1", current_version=StreamState.ANY)
    assert client.list_subscriptions() == []


def follows(client):
    """Catches up, hears so, and hears what happens then."""
    after = client.get_commit_position()
    with client.subscribe_to_all(commit_position=after, include_caught_up=True) as subscription:
        assert isinstance(next(subscription), CaughtUp)
        client.append_to_stream("live-1", current_version=StreamState.NO_STREAM, events=[event(0), event(1)])
        assert [next(subscription).stream_position for _ in range(2)] == [0, 1]
    with client.subscribe_to_stream("live-1", include_caught_up=True) as subscription:
        assert [next(subscription).stream_position for _ in range(2)] == [0, 1]
        assert isinstance(next(subscription), CaughtUp)
    noise = [event(number) for number in range(100)]
    at = client.append_to_stream("noise-1", current_version=StreamState.ANY, events=noise)
    with client.subscribe_to_all(
        commit_position=after,
        filter_include=["live-.*"],
        filter_by_stream_name=True,
        include_checkpoints=True,
        window_size=10,
        checkpoint_interval_multiplier=1,
    ) as subscription:
        heard = []
        while not heard or heard[-1].commit_position < at:
            heard.append(next(subscription))
    assert [e.stream_name for e in heard if not isinstance(e, Checkpoint)] == ["live-1", "live-1"]
    assert len(heard) > 2, "no checkpoint came"


def goes_on_after_kills(server, client, events=300, kills=3):
    """One appends, one follows, and the server is killed under both. Nothing is lost, doubled or out of order."""
    wanted = [event(number, id=uuid.uuid4()) for number in range(events)]
    begun = client.get_commit_position()
    seen, failures = [], []

    def append():
        version = StreamState.NO_STREAM
        for number, one in enumerate(wanted):
            while True:
                try:
                    client.append_to_stream("kept-1", current_version=version, events=[one])
                    break
                except KurrentDBClientError:
                    continue  # The server is away; the same event again is the same append.
            version = number

    def follow():
        reader, after = server.client(), begun
        while len(seen) < events:
            try:
                for one in reader.subscribe_to_all(commit_position=after, filter_include=["Counted"]):
                    after = one.commit_position
                    seen.append(one)
                    if len(seen) == events:
                        break
            except KurrentDBClientError:
                reader = server.client()

    def noting(work):
        def run():
            try:
                work()
            except BaseException as failure:
                failures.append(failure)

        return run

    threads = [threading.Thread(target=noting(work), daemon=True) for work in (append, follow)]
    for thread in threads:
        thread.start()
    for kill in range(kills):
        while len(seen) < events * (kill + 1) // (kills + 1) and not failures:
            threads[1].join(0.005)
        server.end(signal.SIGKILL)
        server.start()
    for thread in threads:
        thread.join(PATIENCE * 2)
    assert not failures, failures
    assert not any(thread.is_alive() for thread in threads), f"{len(seen)} of {events} were seen"
    assert [one.id for one in seen] == [one.id for one in wanted]
    assert [one.stream_position for one in seen] == list(range(events))
    assert [one.id for one in server.client().get_stream("kept-1")] == [one.id for one in wanted]


def drains(server, client):
    """Told to stop, it ends subscriptions so that clients come again, and ends well."""
    with client.subscribe_to_all(from_end=True, include_caught_up=True) as subscription:
        assert isinstance(next(subscription), CaughtUp)
        assert server.end(signal.SIGTERM) == 0
        refused(ServiceUnavailableError, next, subscription)


def main():
    program = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        server = Server(program, os.path.join(folder, "data"))
        try:
            client = server.client()
            for part in (appends_and_reads, metadata_and_deletions, follows):
                part(client)
                print(f"{part.__name__}: ok", flush=True)
            goes_on_after_kills(server, client)
            print("goes_on_after_kills: ok", flush=True)
            drains(server, server.client())
            print("drains: ok", flush=True)
        finally:
            if server.process.poll() is None:
                server.end(signal.SIGKILL)


if __name__ == "__main__":
    main()
