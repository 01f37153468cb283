"""Frames survive any cutting of the byte stream; records and errors come back as they were."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfuse import errors, wire
from perfuse.requests import (
    Attribution,
    EmbedRequest,
    EmbedResult,
    Goal,
    Request,
    ScoreRequest,
    ScoreResult,
    TextOutput,
    TextRequest,
    TextResult,
    TrajectoryRequest,
    Uncertainty,
)

SUBMIT = wire.Submit(
    id=3, modality="text", request=wire.pack(TextRequest(prompt="add two", steps=8)), deadline_seconds=1.5
)
MESSAGES: list[wire.Message] = [
    SUBMIT,
    wire.Cancel(id=3),
    wire.PreviewSeen(id=3),
    wire.Drain(),
]


@given(st.lists(st.integers(0, 200), max_size=30))
def test_frames_come_out_whole_however_the_stream_is_cut(cuts: list[int]) -> None:
    stream = b"".join(wire.frame(message) for message in MESSAGES)
    reader = wire.FrameReader()
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    bodies = [body for a, b in pairwise(edges) for body in reader.feed(stream[a:b])]
    assert [wire.decode_front(body) for body in bodies] == MESSAGES


def test_a_frame_longer_than_the_limit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^a frame of 101 bytes came; at most 100 are allowed$"):
        wire.FrameReader(100).feed(b"\x00\x00\x00\x65")


def test_a_message_of_the_other_direction_is_refused() -> None:
    body = wire.FrameReader().feed(wire.frame(wire.Cancel(id=1)))[0]
    with pytest.raises(msgspec.ValidationError):
        wire.decode_engine(body)


def test_engine_messages_come_back() -> None:
    message = wire.Heartbeat(last_step_age=0.1, busy=True, backlog=2.5, counters={"rows": 3.0})
    assert wire.decode_engine(wire.FrameReader().feed(wire.frame(message))[0]) == message


@pytest.mark.parametrize(
    ("modality", "request_"),
    [
        ("text", TextRequest(prompt="é\r\n\t🙂", n=2, seed=-5)),
        (
            "trajectory",
            TrajectoryRequest(environment="maze2d-umaze", state=(1.0, 1.0, 0.0, 0.0), goal=Goal(position=(3.0, 1.0))),
        ),
        ("embedding", EmbedRequest(prompts=("a", "b"))),
        ("score", ScoreRequest(prompt="a", text="b", adaptation="none")),
    ],
)
def test_requests_come_back_as_they_were(modality: wire.Modality, request_: Request) -> None:
    body = wire.FrameReader().feed(wire.frame(wire.Submit(id=1, modality=modality, request=wire.pack(request_))))[0]
    message = wire.decode_front(body)
    assert isinstance(message, wire.Submit)
    assert wire.unpack_request(message.modality, message.request) == request_


def test_results_come_back_as_they_were() -> None:
    output = TextOutput(
        text="ab", fill="b", finish_reason="complete", confidence=0.5, steps_done=1, forwards=2, token_ids=(1, 2),
        p_correct=0.25,
        uncertainty=Uncertainty(
            confidence_quantile=0.5, novelty_quantile=0.25, combined=0.5, p_value=0.5, threshold=0.96, novel=False,
            should_evolve=False, calibrated_on="c",
        ),
    )  # fmt: skip
    learned = Attribution(id="ad", cluster="c", state="canary", distance=0.5, weight=1.0, gain=None, dataset="d")
    result = TextResult(model="m@1", outputs=(output,), attribution=(learned,))
    assert wire.unpack_result("text", wire.pack(result)) == result
    vectors = EmbedResult(model="m@1", embedder="e", vectors=(b"\0\0\x80?",))
    assert wire.unpack_result("embedding", wire.pack(vectors)) == vectors
    bits = ScoreResult(model="m@1", bits=1.5, tokens=2)
    assert wire.unpack_result("score", wire.pack(bits)) == bits


def test_every_error_crosses_the_wire_as_itself() -> None:
    for code, kind in wire.error_classes().items():
        error = kind("what happened", field="/x", hint="do that", retry_after=2.0)
        back = wire.error_of(wire.problem_of(1, error))
        assert type(back) is kind, code
        assert (back.detail, back.field, back.hint, back.retry_after) == ("what happened", "/x", "do that", 2.0)


def test_an_error_of_a_newer_build_becomes_a_failed_generation() -> None:
    back = wire.error_of(wire.Problem(id=1, code="from_the_future", detail="?"))
    assert type(back) is errors.GenerationFailed
