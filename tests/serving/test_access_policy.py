"""Which requests tokens and restrictions let in, over HTTP; and what the categories are."""

from __future__ import annotations

import re

import pytest
from starlette.routing import Match, Route

from yais.errors import PermissionDenied, Unauthenticated
from yais.protocol import kserve_pb2
from yais.serving.access import Access, AccessOptions, Restriction
from yais.serving.api_categories import CATEGORIES, category_of_path, methods_of
from yais.serving.http.routes import routes

SECRET = "s3cr3t-of-alice"


@pytest.fixture
def tokens(tmp_path):
    file = tmp_path / "tokens"
    file.write_text(f"alice {SECRET}\n")
    return file


def http(*apis, key="x-key", value="value"):
    return AccessOptions(http_restrictions=(Restriction(apis, key, value),))


# Categories


def test_every_rpc_is_in_one_category():
    service = kserve_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    every = [f"/inference.GRPCInferenceService/{method.name}" for method in service.methods]
    every += [f"/grpc.health.v1.Health/{method}" for method in ("Check", "List", "Watch")]
    assert sorted(method for api in CATEGORIES for method in methods_of(api)) == sorted(every)


@pytest.mark.parametrize(
    ("path", "category"),
    [
        ("/v2", "metadata"),
        ("/v2/", "metadata"),
        ("/v2/models/m", "metadata"),
        ("/v2/models/m/versions/1", "metadata"),
        ("/v2/models/infer", "metadata"),
        ("/v2/health/live", "health"),
        ("/v2/health/ready", "health"),
        ("/v2/models/m/ready", "health"),
        ("/v2/models/m/versions/1/ready", "health"),
        ("/v2/models/m/infer", "inference"),
        ("/v2/models/m/versions/1/infer", "inference"),
        ("/v2/models/m/generate", "inference"),
        ("/v2/models/m/versions/1/generate_stream", "inference"),
        ("/v2/models/m/config", "model-config"),
        ("/v2/models/stats", "statistics"),
        ("/v2/models/m/stats", "statistics"),
        ("/v2/models/m/versions/1/stats", "statistics"),
        ("/metrics", "statistics"),
        ("/v2/repository/index", "model-repository"),
        ("/v2/repository/models/m/load", "model-repository"),
        ("/v2/repository/r/models/m/unload", "model-repository"),
        ("/v2/systemsharedmemory/status", "shared-memory"),
        ("/v2/systemsharedmemory/region/r/register", "shared-memory"),
        ("/v2/cudasharedmemory/region/r/unregister", "shared-memory"),
        ("/v2/trace/setting", "trace"),
        ("/v2/models/m/trace/setting", "trace"),
        ("/v2/logging", "logging"),
        ("/", ""),
        ("/openapi.json", ""),
        ("", ""),
        ("/v3/models/m", ""),
    ],
)
def test_categories_of_paths(path, category):
    assert category_of_path(path) == category


@pytest.mark.parametrize(
    "path",
    [
        "//v2//models/m//infer",
        "/v2/models/m/infer/",
        "/v2/models/m\n/infer",
        "/v2/models/m/infer\n",
        "/v2/models/a/b/infer",
        "/v2/models/m/versions/1/x/infer",
    ],
)
def test_an_odd_path_is_no_way_round(path):
    with pytest.raises(PermissionDenied):
        Access(http("inference")).check_http("POST", path, [])


ODD = [(position, text) for position in range(60) for text in ("\n", "/", "\r", "\0", "\x85", "\u2028")]


def test_what_the_router_takes_has_the_category_of_its_route():
    table = [route for route in routes(None, str) if isinstance(route, Route)]
    for route in table:
        clean = re.sub(r"\{.*?\}", "x", route.path)
        for position, text in [(0, ""), *ODD]:
            path = clean[:position] + text + clean[position:]
            scope = {"type": "http", "method": min(route.methods), "path": path}
            taken = next((other for other in table if other.matches(scope)[0] is not Match.NONE), None)
            if taken is not None:
                expected = category_of_path(re.sub(r"\{.*?\}", "x", taken.path))
                assert category_of_path(path) == expected, path


# Restrictions


def test_a_restricted_api_wants_its_header():
    access = Access(http("inference", "health", key="X-Key"))
    for path in ("/v2/models/m/infer", "/v2/health/live"):
        for headers in ([], [(b"x-key", b"other")], [(b"x-other", b"value")], [(b"x-key", b"")]):
            with pytest.raises(PermissionDenied) as caught:
                access.check_http("POST", path, headers)
            assert str(caught.value) == "This API is restricted, expecting header 'X-Key'"
        access.check_http("POST", path, [(b"host", b"a"), (b"x-key", b"value")])
    access.check_http("GET", "/v2", [])


def test_each_group_has_its_own_header():
    options = AccessOptions(
        http_restrictions=(Restriction(("inference",), "a", "1"), Restriction(("logging",), "b", "2"))
    )
    access = Access(options)
    access.check_http("POST", "/v2/models/m/infer", [(b"a", b"1")])
    access.check_http("POST", "/v2/logging", [(b"b", b"2")])
    with pytest.raises(PermissionDenied):
        access.check_http("POST", "/v2/logging", [(b"a", b"1")])


@pytest.mark.parametrize(
    ("restrictions", "text"),
    [
        ([Restriction(("infer",), "k", "v")], "unknown restricted api 'infer', expected one of health, inf"),
        ([Restriction(("",), "k", "v")], "unknown restricted api ''"),
        (
            [Restriction(("health", "health"), "k", "v")],
            "restricted api 'health' can not be specified in multiple config groups",
        ),
        (
            [Restriction(("health",), "k", "v"), Restriction(("health",), "k", "v")],
            "restricted api 'health' can not be specified in multiple config groups",
        ),
        ([Restriction(("health",), "k:", "v")], "got the key 'k:', expected the name of a header"),
        ([Restriction(("health",), "k", "s3cret\n")], "got the key 'k', expected the name of a header"),
        ([Restriction(("health",), "k", "s3crét")], "got the key 'k', expected the name of a header"),
    ],
)
def test_what_cannot_be_restricted(restrictions, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}") as caught:
        AccessOptions(http_restrictions=tuple(restrictions))
    assert "s3cr" not in str(caught.value)


def test_a_header_that_no_client_of_grpc_can_send():
    over_http = Restriction(("health",), "a*b", "v")
    AccessOptions(http_restrictions=(over_http,))
    with pytest.raises(ValueError, match=r"^got the key 'a\*b', expected the name of a header"):
        AccessOptions(grpc_restrictions=(over_http,))


# Tokens


def bearer(token):
    return [(b"authorization", f"Bearer {token}".encode())]


def test_a_token_is_asked_for(tokens):
    access = Access(AccessOptions(tokens))
    for path in ("/v2", "/v2/models/m/infer", "/metrics", "/openapi.json", "//", "/v2/models/m/ready"):
        for headers in (
            [],
            bearer("other"),
            bearer(SECRET) * 2,
            [(b"x-authorization", b"Bearer " + SECRET.encode())],
        ):
            with pytest.raises(Unauthenticated) as caught:
                access.check_http("GET", path, headers)
            assert SECRET not in str(caught.value)
        access.check_http("GET", path, bearer(SECRET))


def test_probes_have_no_token(tokens):
    access = Access(AccessOptions(tokens))
    for path in ("/v2/health/live", "/v2/health/ready"):
        access.check_http("GET", path, [])


def test_a_token_and_a_header(tokens):
    options = AccessOptions(tokens, http_restrictions=http("logging", "health").http_restrictions)
    access = Access(options)
    key = [(b"x-key", b"value")]
    access.check_http("POST", "/v2/logging", key + bearer(SECRET))
    access.check_http("GET", "/v2/health/live", key)
    with pytest.raises(Unauthenticated):
        access.check_http("POST", "/v2/logging", key)
    with pytest.raises(PermissionDenied):
        access.check_http("POST", "/v2/logging", bearer(SECRET))
    with pytest.raises(PermissionDenied):
        access.check_http("GET", "/v2/health/live", [])


def test_tokens_are_read_again(tokens):
    access = Access(AccessOptions(tokens))
    tokens.write_text("alice another-secret-of-hers\n")
    access.check_http("GET", "/v2", bearer("another-secret-of-hers"))
    with pytest.raises(Unauthenticated):
        access.check_http("GET", "/v2", bearer(SECRET))


def test_tokens_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError):
        Access(AccessOptions(tmp_path / "nothing"))


def test_nothing_is_checked_where_nothing_is_asked():
    access = Access(AccessOptions())
    assert not access.checks_http
    assert access.grpc_interceptors() == []
    access.check_http("POST", "/v2/models/m/infer", [])
    only_grpc = Access(AccessOptions(grpc_restrictions=(Restriction(("health",), "k", "v"),)))
    assert not only_grpc.checks_http
    assert len(only_grpc.grpc_interceptors()) == 1


def test_repr(tokens):
    assert repr(Access(AccessOptions())) == "<Access without tokens, 0 RPCs and 0 HTTP APIs restricted>"
    options = AccessOptions(
        tokens, (Restriction(("inference",), "a", "b"),), http("logging").http_restrictions
    )
    assert repr(Access(options)) == "<Access with tokens, 2 RPCs and 1 HTTP APIs restricted>"
