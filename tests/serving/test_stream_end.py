"""The end of a stream of inference, while one request ends and the next begins."""

from __future__ import annotations

import threading

from infer_streams import Conversation, fill_streams, gate, item
from serving_models import SOON, Wire, one_process, serving_models

from yais.rpc.stream import Stream
from yais.serving.stream_infer import ModelStreamInferContext

pytestmark = one_process


def test_a_request_that_begins_while_the_one_before_ends(tmp_path, monkeypatch):
    """Its responses arrive, although it was not there when the one before looked whether it is the last."""
    ending, go_on, half_closed, ended = (threading.Event() for _ in range(4))
    original_end, original_go_on = ModelStreamInferContext.end, Stream.go_on
    original_done = ModelStreamInferContext.on_requests_done

    def held_up(stream):
        original_go_on(stream)
        if not ending.is_set():
            ending.set()
            assert go_on.wait(SOON)

    def end(context, request, reply):
        original_end(context, request, reply)
        ended.set()

    def done(context, stream):
        original_done(context, stream)
        half_closed.set()

    monkeypatch.setattr(Stream, "go_on", held_up)
    monkeypatch.setattr(ModelStreamInferContext, "end", end)
    monkeypatch.setattr(ModelStreamInferContext, "on_requests_done", done)
    with serving_models(fill_streams(tmp_path)) as server, Wire(server.port) as wire:
        repeat = gate("repeat")
        with Conversation(wire.channel) as stream:
            with repeat.shut():
                stream.send(item("flood", "no responses", 0, 0))
                assert ending.wait(SOON)
                stream.send(item("repeat", "one", 5))
                repeat.wait_for(1)
                stream.half_close()
                assert half_closed.wait(SOON)
                go_on.set()
                assert ended.wait(SOON)
            assert stream.rest() == [("one", [5.0])]
