"""TLS and tokens, and what is counted, through frontends."""

from __future__ import annotations

import sys
from pathlib import Path

import grpc
import numpy as np
from frontend_servers import frontends_serving
from onnx_models import EXAMPLES
from scraping import scrape
from serving_models import SOON, Wire, eventually, infer_request

from yais.rpc.tls import Tls
from yais.serving.access import AccessOptions

sys.path.append(str(Path(__file__).parents[2] / "rpc"))  # an authority for certificates

from authority import Authority

SECRET = "s3cr3t-of-alice"

ONES = np.ones((1, 16), np.int32)
REQUEST = infer_request("simple", {"INPUT0": ONES, "INPUT1": ONES})


def test_tls_and_tokens(tmp_path: Path) -> None:
    authority = Authority()
    tokens = tmp_path / "tokens"
    tokens.write_text(f"alice {SECRET}\n")
    tls = Tls(*authority.certify("server", "localhost").write(tmp_path))
    credentials = grpc.ssl_channel_credentials(authority.certificate)
    with frontends_serving(EXAMPLES, tls=tls, access=AccessOptions(tokens), http=None) as server:
        for token, code in ((SECRET, grpc.StatusCode.OK), ("of-mallory", grpc.StatusCode.UNAUTHENTICATED)):
            for _ in range(4):  # connections, to both
                with grpc.secure_channel(f"localhost:{server.port}", credentials) as channel:
                    infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
                    metadata = [("authorization", f"Bearer {token}")]
                    call = infer.future(REQUEST.SerializeToString(), metadata=metadata, timeout=SOON)
                    assert call.code() is code


def test_what_is_counted_is_what_was_sent() -> None:
    with frontends_serving(EXAMPLES, metrics_port=0) as server:
        for _ in range(6):
            with Wire(server.port) as wire:
                infer = wire.method("ModelInfer")
                for call in [infer.future(REQUEST, timeout=SOON) for _ in range(50)]:
                    call.result()

        def total(name: str) -> float:
            return sum(value for (each, _), value in scrape(server).items() if each == name)

        assert total("nv_inference_request_success_total") == 300
        assert total("yais_inference_request_seconds_count") == total("yais_inference_items_total") == 300
        eventually(lambda: total("yais_frontend_requests_total") == 300)
