"""Bearer tokens: who gets in, under which name, and that no token gets out."""

from __future__ import annotations

import os

import grpc
import pytest
from echoing import SOON
from every_kind import CONTEXTS, PATHS, every_kind
from grpc_health.v1 import health_pb2, health_pb2_grpc
from incoming import begun, incoming

import yais
from yais.rpc.interceptors.bearer_token import BearerToken

SECRET = "s3cr3t-of-alice"
TOKENS = {"alice": SECRET, "bob": "s3cr3t-of-bob"}


def identity(interceptor, *authorizations, **options):
    call = incoming(metadata=[("authorization", value) for value in authorizations], **options)
    begun(interceptor, call)
    return call.identity


def refusal(interceptor, *authorizations):
    with pytest.raises(yais.Unauthenticated) as caught:
        identity(interceptor, *authorizations)
    return str(caught.value)


def rewrite(path, text, step=[0]):  # noqa: B006 - each write gets a moment of its own
    path.write_text(text)
    step[0] += 1
    os.utime(path, (step[0], step[0]))


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_known_token_names_its_owner(scheme):
    bearer = BearerToken(TOKENS)
    assert identity(bearer, f"{scheme} {SECRET}") == "alice"
    assert identity(bearer, f"{scheme}   {TOKENS['bob']} ") == "bob"


@pytest.mark.parametrize(
    "authorization",
    [
        f"Bearer {SECRET}x",
        f"Bearer {SECRET[:-1]}",
        f"Bearer {SECRET.upper()}",
        f"Bearer {SECRET} {SECRET}",
        "Bearer alice",
        "Bearer ünknown",
        "Bearer \ud800",
        SECRET,
        f"Basic {SECRET}",
        f"Bearer{SECRET}",
        "Bearer",
        "Bearer ",
        "",
    ],
)
def test_anything_else_is_refused_without_repeating_it(authorization):
    message = refusal(BearerToken(TOKENS), authorization)
    assert SECRET not in message and SECRET.upper() not in message
    assert "got" in message


def test_a_missing_and_a_second_authorization_are_refused():
    expected = "expected 'authorization: Bearer <token>'"
    bearer = BearerToken(TOKENS)
    assert refusal(bearer) == f"got no authorization headers, {expected}"
    twice = refusal(bearer, f"Bearer {SECRET}", f"Bearer {SECRET}")
    assert twice == f"got 2 authorization headers, {expected}"


def test_a_refused_call_is_not_named():
    call = incoming(metadata=[("authorization", "Bearer wrong")])
    with pytest.raises(yais.Unauthenticated):
        begun(BearerToken(TOKENS), call)
    assert call.identity is None


def test_health_needs_no_token_by_default():
    bearer = BearerToken(TOKENS)
    assert identity(bearer, method="/grpc.health.v1.Health/Check") is None
    assert identity(bearer, "Bearer wrong", method="/grpc.health.v1.Health/Watch") is None
    with pytest.raises(yais.Unauthenticated):
        identity(bearer, method="/grpc.health.v1.HealthX/Check")
    with pytest.raises(yais.Unauthenticated):
        identity(BearerToken(TOKENS, exempt=()), method="/grpc.health.v1.Health/Check")


def test_single_methods_can_be_exempt():
    bearer = BearerToken(TOKENS, exempt=["/a.B/C"])
    assert identity(bearer, method="/a.B/C") is None
    for method in ("/a.B/CD", "/a.B/D", "/a.B/", "/grpc.health.v1.Health/Check"):
        with pytest.raises(yais.Unauthenticated):
            identity(bearer, method=method)


@pytest.mark.parametrize("name", ["", "/", "//", "a.B/C", "/a.B", "a"])
def test_an_exemption_of_another_form_is_refused(name):
    with pytest.raises(ValueError, match=r"expected '/package\.Service/'"):
        BearerToken(TOKENS, exempt=[name])


def test_one_string_is_no_sequence_of_exemptions():
    with pytest.raises(TypeError, match="expected a sequence"):
        BearerToken(TOKENS, exempt="/a.B/C")


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ({}, "got no tokens"),
        ({"alice": ""}, "'alice' with an empty"),
        ({"alice": " x"}, "blanks"),
        ({"": "x"}, "'' with an empty"),
        ({"alice": SECRET, "bob": SECRET}, "the same token for 'alice' and 'bob'"),
    ],
)
def test_unusable_tokens_are_refused_without_repeating_them(tokens, message):
    with pytest.raises(ValueError, match=message) as caught:
        BearerToken(tokens)
    assert SECRET not in str(caught.value)


def test_the_mapping_is_copied():
    tokens = dict(TOKENS)
    bearer = BearerToken(tokens)
    tokens.clear()
    assert identity(bearer, f"Bearer {SECRET}") == "alice"


def test_a_function_decides():
    bearer = BearerToken({SECRET: "alice"}.get)
    assert identity(bearer, f"Bearer {SECRET}") == "alice"
    assert SECRET not in refusal(bearer, f"Bearer {SECRET}x")


def test_a_function_is_not_asked_about_no_token():
    refusal(BearerToken(lambda token: "anybody"), "Bearer ")


def test_a_function_may_refuse_with_its_own_status():
    def expired(token):
        raise yais.PermissionDenied("expired")

    with pytest.raises(yais.PermissionDenied, match="expired"):
        identity(BearerToken(expired), f"Bearer {SECRET}")


@pytest.mark.parametrize("function", [{}.__getitem__, lambda token: 17, lambda token: f"{token}"[99]])
def test_a_function_that_fails_lets_nobody_in_and_tells_no_token(function, caplog):
    call = incoming(metadata=[("authorization", f"Bearer {SECRET}")])
    with pytest.raises(
        yais.Internal, match=r"could not be looked up: (KeyError|TypeError|IndexError)"
    ) as caught:
        begun(BearerToken(function), call)
    assert call.identity is None
    assert SECRET not in str(caught.value) and caught.value.__cause__ is None
    (record,) = caplog.records
    assert record.levelname == "ERROR" and SECRET not in caplog.text and "bearer_token.py" in caplog.text


def test_repr_tells_no_token():
    class Tokens:
        def __call__(self, token):
            return None

        def __repr__(self):
            return SECRET

    assert repr(BearerToken(TOKENS)) == "<BearerToken by table>"
    assert repr(BearerToken(Tokens())) == "<BearerToken by tokens>"


def test_a_file_of_tokens(tmp_path):
    path = tmp_path / "tokens"
    path.write_text(f"# who  token\n\nalice {SECRET}\n  bob\tsecond\nalice third\n")
    bearer = BearerToken.from_file(path)
    assert identity(bearer, f"Bearer {SECRET}") == "alice"
    assert identity(bearer, "Bearer second") == "bob"
    assert identity(bearer, "Bearer third") == "alice"
    refusal(bearer, "Bearer who")
    assert identity(BearerToken.from_file(path, exempt=["/a.B/"]), method="/a.B/C") is None


def test_a_file_is_read_again_when_it_changes(tmp_path):
    path = tmp_path / "tokens"
    rewrite(path, "alice first")
    bearer = BearerToken.from_file(path)
    assert identity(bearer, "Bearer first") == "alice"
    rewrite(path, "alice other")  # of the same size
    assert identity(bearer, "Bearer other") == "alice"
    refusal(bearer, "Bearer first")


def test_a_link_that_is_swapped_is_followed(tmp_path):
    for name in ("old", "new"):
        (tmp_path / name).write_text(f"alice {name}")
        os.utime(tmp_path / name, (1, 1))
    link, other = tmp_path / "tokens", tmp_path / "..data"
    link.symlink_to("old")
    bearer = BearerToken.from_file(link)
    other.symlink_to("new")
    other.replace(link)
    assert identity(bearer, "Bearer new") == "alice"


@pytest.mark.parametrize(
    "content", [None, "", f"alice\nbob {SECRET}", "alice x y", f"a {SECRET}\nb {SECRET}"]
)
def test_a_file_that_becomes_unusable_changes_nothing_and_is_reported_once(tmp_path, caplog, content):
    path = tmp_path / "tokens"
    rewrite(path, "alice first")
    bearer = BearerToken.from_file(path)
    if content is None:
        path.unlink()
    else:
        rewrite(path, content)
    for _ in range(3):
        assert identity(bearer, "Bearer first") == "alice"
    refusal(bearer, f"Bearer {SECRET}")
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("yais.rpc", "ERROR") and str(path) in record.getMessage()
    assert SECRET not in caplog.text
    rewrite(path, "alice second")
    assert identity(bearer, "Bearer second") == "alice"


def test_a_file_must_be_usable_at_first(tmp_path):
    path = tmp_path / "tokens"
    with pytest.raises(FileNotFoundError):
        BearerToken.from_file(path)
    path.write_text(f"\nalice {SECRET} more")
    with pytest.raises(ValueError, match="tokens, line 2: got 3 words, expected") as caught:
        BearerToken.from_file(path)
    assert SECRET not in str(caught.value)
    path.write_text("# nothing")
    with pytest.raises(ValueError, match="tokens: got no tokens"):
        BearerToken.from_file(path)


def test_every_kind_of_rpc_is_guarded():
    executed = []

    def probe(context):
        executed.append(context)
        return getattr(context, "identity", "mounted").encode()

    with every_kind(probe, BearerToken(TOKENS)) as every:
        for kind in PATHS:
            assert every.fail(kind).code() is grpc.StatusCode.UNAUTHENTICATED, kind
            call = every.fail(kind, [("authorization", f"Bearer {SECRET}x")])
            assert call.code() is grpc.StatusCode.UNAUTHENTICATED and SECRET not in call.details(), kind
        assert executed == []
        for kind in PATHS:
            answers = every.call(kind, [("authorization", f"Bearer {SECRET}")])
            assert answers == {b"alice" if kind in CONTEXTS else b"mounted"}, kind
        health = health_pb2_grpc.HealthStub(every.channel)
        answer = health.Check(health_pb2.HealthCheckRequest(), timeout=SOON)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
