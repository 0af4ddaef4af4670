"""What the options of `yais serve` say to the server, however they are given."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from yais.repository.loader import ConfigDefaults
from yais.repository.repository import ControlMode
from yais.rpc.transport import Transport
from yais.serving.access import AccessOptions, Restriction
from yais.serving.http.options import HttpOptions
from yais.serving.log_settings import LogOptions
from yais.serving.metrics import MetricsOptions
from yais.serving.server import ServerOptions
from yais.serving.trace_settings import TraceOptions
from yais.tools.main import main
from yais.tools.option_groups import GroupedCommand, GroupedOption
from yais.tools.serve import serve
from yais.tools.serve_options import server_options, with_server_options


def said(*arguments, **env):
    """Return what options say, and warnings; or the error."""
    result = []

    @click.command(context_settings={"auto_envvar_prefix": "YAIS_SERVE"})
    @with_server_options
    def command(**given):
        result.extend(server_options(given))

    done = CliRunner().invoke(command, [*map(str, arguments)], env=env)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    if done.exit_code:
        assert done.exit_code == 2
        return " ".join(done.output.split("Error: ")[1].split())
    options, warnings = result
    options.logging.handler.close()
    return options, warnings


@pytest.fixture
def options_of(tmp_path):
    """Return the options of a command line, which warns of nothing, for a repository."""

    def options_of(*arguments):
        answer = said("--model-repository", tmp_path, *arguments)
        assert not isinstance(answer, str), answer
        options, warnings = answer
        assert warnings == []
        return options

    return options_of


@pytest.fixture
def answer_to(tmp_path):
    """Return the answer to a command line for a repository."""
    return lambda *arguments: said("--model-repository", tmp_path, *arguments)


def test_defaults(options_of, tmp_path):
    """They are those of the server itself, but that HTTP is on."""
    assert options_of() == ServerOptions((tmp_path,), http=HttpOptions())


def test_of_models(options_of):
    options = options_of(
        "--set=first.max_batch_size=2",
        "--set=first.dynamic_batching={}",
        "--set=second.parameters.a.string_value=b=c",
        "--disable-auto-complete-config",
        "--backend-config=onnxruntime,default-max-batch-size=16",
        "--cache-config=local,size=1048576",
        "--rate-limit=execution_count",
        "--rate-limit-resource=R1:4",
        "--rate-limit-resource=R2:5:0",
        "--model-control-mode=explicit",
        "--load-model=*",
    )
    assert options.defaults == ConfigDefaults(
        {
            "first": ("max_batch_size=2", "dynamic_batching={}"),
            "second": ("parameters.a.string_value=b=c",),
        },
        auto_complete=False,
        max_batch=16,
    )
    assert (options.cache_size, options.rate_limit) == (1048576, {"R1": 4, ("R2", "0"): 5})
    assert (options.control, options.load) == (ControlMode.EXPLICIT, ("*",))


@pytest.mark.parametrize(("value", "complete"), [("true", False), ("false", True), ("0", True)])
def test_the_older_name_of_auto_complete(options_of, value, complete):
    assert options_of(f"--strict-model-config={value}").defaults.auto_complete is complete


def test_of_connections(options_of):
    transport = options_of(
        "--grpc-keepalive-time=5000",
        "--grpc-keepalive-timeout=1500",
        "--grpc-keepalive-permit-without-calls=1",
        "--grpc-http2-min-recv-ping-interval-without-data=10",
        "--grpc-http2-max-ping-strikes=7",
        "--grpc-max-connection-age=300000",
        "--grpc-max-connection-age-grace=250",
        "--reuse-grpc-port=true",
    ).transport
    assert transport == Transport(
        keepalive=5.0,
        keepalive_timeout=1.5,
        keepalive_without_calls=True,
        min_ping_interval=0.01,
        max_ping_strikes=7,
        max_connection_age=300.0,
        max_connection_age_grace=0.25,
        reuse_port=True,
    )


def test_of_connections_without_limits(options_of):
    transport = options_of("--grpc-keepalive-time", 2**31 - 1, "--grpc-http2-max-ping-strikes", 0).transport
    assert (transport.keepalive, transport.max_ping_strikes) == (None, None)


def test_of_http(options_of):
    options = options_of(
        "--http-address=::1",
        "--http-port=0",
        "--http-max-input-size=5",
        "--http-header-forward-pattern=x-.*",
        "--reuse-http-port=true",
    )
    assert options.http == HttpOptions(
        "::1", 0, max_input_bytes=5, header_forward_pattern="x-.*", reuse_port=True
    )
    assert options_of("--allow-http=false", "--http-port=1").http is None


def test_of_grpc(options_of):
    options = options_of(
        "--grpc-header-forward-pattern=(?-i)A.*", "--grpc-infer-response-compression-level=medium"
    )
    assert (options.header_forward_pattern, options.compression) == ("(?-i)A.*", "medium")


def test_of_metrics(options_of):
    options = options_of(
        "--metrics-config=counter_latencies=false",
        "--metrics-config=histogram_latencies=true",
        "--metrics-config",
        "summary_latencies=TRUE",
        "--metrics-config=summary_quantiles=0.5:0.05,0.9:0.01",
    )
    assert options.metrics == MetricsOptions(
        counters=False, histograms=True, summaries=True, quantiles=((0.5, 0.05), (0.9, 0.01))
    )
    assert options_of("--allow-metrics=0").metrics_port is None
    options = options_of("--allow-cpu-metrics=0", "--metrics-interval-ms=500")
    assert options.metrics == MetricsOptions(cpu=False, interval=0.5)
    assert options_of("--allow-gpu-metrics=0").metrics == MetricsOptions(gpu=False)


def test_of_traces(options_of):
    options = options_of(
        "--trace-config=triton,file=/tmp/trace.json",
        "--trace-config=triton,log-frequency=50",
        "--trace-config=level=TIMESTAMPS",
        "--trace-config=level=TENSORS",
        "--trace-config=rate=100",
        "--trace-config=count=-1",
    )
    assert options.trace == TraceOptions(
        file="/tmp/trace.json", level=("TIMESTAMPS", "TENSORS"), rate=100, count=-1, log_frequency=50
    )


def test_of_spans(options_of):
    options = options_of(
        "--trace-config=mode=opentelemetry",
        "--trace-config=opentelemetry,url=http://localhost:4318/v1/traces",
        "--trace-config=opentelemetry,resource=service.name=mine",
        "--trace-config=opentelemetry,resource=a=b=c",
        "--trace-config=level=TIMESTAMPS",
        "--trace-config=level=OFF",
    )
    assert options.trace == TraceOptions(
        mode="opentelemetry",
        level=("OFF",),
        otel={
            "url": "http://localhost:4318/v1/traces",
            "resource.service.name": "mine",
            "resource.a": "b=c",
        },
    )


def test_of_logs(options_of, tmp_path):
    file = tmp_path / "log"
    options = options_of(
        "--log-verbose=2", "--log-info=0", "--log-warning=off", "--log-error=FALSE", "--log-format=ISO8601"
    )
    assert options.logging == LogOptions(info=False, warning=False, error=False, verbose=2, format="ISO8601")
    assert options_of("--log-verbose=true", f"--log-file={file}").logging == LogOptions(
        verbose=1, file=str(file)
    )
    assert file.read_bytes() == b""


def test_of_access(options_of, tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text("alice secret\n")
    options = options_of(
        f"--token-file={tokens}",
        "--grpc-restricted-protocol=health,metadata:k1=v1",
        "--grpc-restricted-protocol=inference:k2=v=2",
        "--http-restricted-api=health:k3=v3",
        "--allow-client-shm=true",
    )
    assert options.access == AccessOptions(
        tokens,
        (Restriction(("health", "metadata"), "k1", "v1"), Restriction(("inference",), "k2", "v=2")),
        (Restriction(("health",), "k3", "v3"),),
    )
    assert options.allow_client_shm is True
    assert options_of("--allow-client-shm=0").allow_client_shm is False


def test_the_last_of_two_counts(options_of):
    assert options_of("--grpc-port=1", "--grpc-port=2").grpc_port == 2
    assert options_of("--trace-config=rate=1", "--trace-config=rate=2").trace.rate == 2


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--grpc-header-forward-pattern=(",), "got '(', expected a regular expression: missing )"),
        (("--http-max-input-size=-1",), "-1 is not in the range x>=0"),
        (("--grpc-keepalive-time=0",), "0 is not in the range 1<=x<=2147483647"),
        (("--grpc-infer-response-compression-level=max",), "'max' is not one of 'none', 'low', 'medium'"),
        (
            (
                "--grpc-restricted-protocol=model-repository,health:k1=v1",
                "--grpc-restricted-protocol=metadata,health:k2=v2",
            ),
            "restricted protocol 'health' can not be specified in multiple config groups",
        ),
        (
            (
                "--http-restricted-api=model-repository,health:k1=v1",
                "--http-restricted-api=metadata,health:k2=v2",
            ),
            "restricted api 'health' can not be specified in multiple config groups",
        ),
        (
            ("--grpc-restricted-protocol=model-reposit,health:k1=v1",),
            "unknown restricted protocol 'model-reposit'",
        ),
        (("--http-restricted-api=model-reposit,health:k1=v1",), "unknown restricted api 'model-reposit'"),
        (("--http-restricted-api=health:s3cret",), "got 'health' and more, expected API,...:KEY=VALUE"),
        (("--http-restricted-api=health:a b=s3cret",), "got the key 'a b', expected the name of a header"),
        (("--grpc-use-ssl=true",), "--grpc-use-ssl wants --grpc-server-cert"),
        (("--grpc-server-cert", __file__), "--grpc-server-cert wants --grpc-use-ssl=true"),
        (("--http-server-cert", __file__), "TLS for HTTP wants --http-server-key"),
        (("--http-root-cert", __file__), "TLS for HTTP wants --http-server-cert"),
        (("--allow-http=0", "--http-server-cert", __file__), "certificates for HTTP want --allow-http=true"),
        (
            ("--http-server-cert", __file__, "--http-server-key", __file__),
            "expected certificates in PEM format",
        ),
        (("--token-file", "/nowhere/at/all"), "File '/nowhere/at/all' does not exist"),
        (("--token-file", __file__), "expected an identity and a token"),
        (("--metrics-config=x=1",), "got 'x=1', expected SETTING=VALUE with one of counter_latencies, "),
        (
            ("--metrics-config=counter_latencies=yes",),
            "expected counter_latencies=true or counter_latencies=false",
        ),
        (("--metrics-config=summary_quantiles=0.5",), "expected QUANTILE:ERROR,... with numbers from 0 to 1"),
        (("--metrics-config=summary_quantiles=1.5:0.1",), "expected QUANTILE:ERROR,... with numbers"),
        (("--metrics-config=summary_quantiles=nan:0.1",), "expected QUANTILE:ERROR,... with numbers"),
        (("--trace-config=level=ALL",), "got 'level=ALL', expected level=OFF|TIMESTAMPS|TENSORS"),
        (("--trace-config=mode=jaeger",), "got 'mode=jaeger', expected mode=triton|opentelemetry"),
        (("--trace-config=rate=-1",), "got 'rate=-1', expected a whole number of at least 0"),
        (("--trace-config=count=-2",), "got 'count=-2', expected a whole number of at least -1"),
        (("--trace-config=jaeger,url=x",), "expected [MODE,]SETTING=VALUE with triton or opentelemetry"),
        (("--trace-config=triton",), "expected [MODE,]SETTING=VALUE with triton or opentelemetry"),
        (("--trace-config=triton,url=x",), "expected triton,file=FILE or triton,log-frequency=N"),
        (("--trace-config=opentelemetry,resource=x",), "expected opentelemetry,resource=KEY=VALUE"),
        (("--trace-config=opentelemetry,url=",), "expected opentelemetry,SETTING=VALUE"),
        (
            ("--trace-config=opentelemetry,urls=http://a",),
            "SETTING=VALUE with one of url, bsp_max_queue_size, ",
        ),
        (("--trace-config=file=x",), "expected level, rate, count or mode, or a MODE before it"),
        (("--log-verbose=-1",), "got '-1', expected 0 or more"),
        (("--log-format=xml",), "'xml' is not one of 'default', 'ISO8601', 'json'"),
        (("--log-file=/nowhere/at/all",), "cannot write --log-file: [Errno 2]"),
        (
            ("--disable-auto-complete-config", "--strict-model-config=false"),
            "--disable-auto-complete-config contradicts --strict-model-config=false",
        ),
        (("--allow-grpc=false",), "--allow-grpc=false is not supported: gRPC is always served"),
        (("--allow-sagemaker=true",), "--allow-sagemaker=true is not supported"),
        (("--trace-rate=1",), "--trace-rate is not supported, use --trace-config=rate=N"),
    ],
)
def test_what_is_refused(answer_to, arguments, text):
    answer = answer_to(*arguments)
    assert isinstance(answer, str)
    assert text in answer
    assert "s3cret" not in answer


@pytest.mark.parametrize(
    ("argument", "warning"),
    [
        (
            "--pinned-memory-pool-byte-size=268435456",
            "has no effect: lanes have the pinned memory that models",
        ),
        ("--http-thread-count=8", "has no effect: one thread serves HTTP"),
        ("--backend-directory=/opt", "has no effect: backends are part of yais"),
    ],
)
def test_what_has_no_effect_is_said(answer_to, argument, warning):
    _, [said_of_it] = answer_to(argument)
    assert said_of_it.startswith(argument.partition("=")[0] + " " + warning)


@pytest.mark.parametrize("argument", ["--allow-grpc=true", "--model-namespacing=0"])
def test_what_is_so_anyway_needs_no_word(options_of, argument):
    assert options_of(argument)


def test_every_option_in_the_environment(tmp_path):
    """And it says the same there, however it is written on the command line."""
    tokens = tmp_path / "tokens"
    tokens.write_text("alice secret\n")
    values = {
        "model-repository": str(tmp_path),
        "model-control-mode": "explicit",
        "repository-poll-secs": "2.5",
        "load-model": "first second",
        "model-load-thread-count": "3",
        "set": "first.max_batch_size=2 second.parameters.a.string_value=b",
        "disable-auto-complete-config": "true",
        "strict-model-config": "true",
        "backend-config": "onnxruntime,default-max-batch-size=16",
        "gpu-executions": "3",
        "gpu-lanes": "5",
        "cache-config": "local,size=1024",
        "rate-limit": "execution_count",
        "rate-limit-resource": "R1:4 R2:5:0",
        "frontends": "2",
        "id": "mine",
        "strict-readiness": "0",
        "exit-timeout-secs": "7",
        "drain-delay-secs": "0.5",
        "grpc-address": "::1",
        "grpc-port": "9001",
        "grpc-header-forward-pattern": "a.*",
        "grpc-infer-response-compression-level": "high",
        "grpc-keepalive-time": "1",
        "grpc-keepalive-timeout": "2",
        "grpc-keepalive-permit-without-calls": "true",
        "grpc-http2-min-recv-ping-interval-without-data": "3",
        "grpc-http2-max-ping-strikes": "4",
        "grpc-max-connection-age": "5",
        "grpc-max-connection-age-grace": "6",
        "reuse-grpc-port": "1",
        "allow-http": "on",
        "http-address": "::1",
        "http-port": "9000",
        "reuse-http-port": "1",
        "http-max-input-size": "7",
        "http-header-forward-pattern": "b.*",
        "token-file": str(tokens),
        "grpc-restricted-protocol": "health:a=b inference:c=d",
        "http-restricted-api": "metadata:e=f",
        "allow-client-shm": "false",
        "allow-metrics": "TRUE",
        "metrics-address": "127.0.0.1",
        "metrics-port": "9002",
        "allow-cpu-metrics": "0",
        "allow-gpu-metrics": "0",
        "metrics-interval-ms": "10.5",
        "metrics-config": "counter_latencies=false summary_latencies=true",
        "log-verbose": "1",
        "log-info": "false",
        "log-warning": "false",
        "log-error": "false",
        "log-format": "ISO8601",
        "log-file": str(tmp_path / "log"),
        "trace-config": "level=TIMESTAMPS rate=5",
    }
    alone = {"exit-on-error"}  # the command's own
    with_files = {
        name for name in map(_name, serve.params) if name.endswith(("-cert", "-key", "-ssl", "-ssl-mutual"))
    }
    ours = {_name(option) for option in serve.params if "Triton" not in getattr(option, "heading", "")}
    assert set(values) == ours - alone - with_files
    env = {"YAIS_SERVE_" + name.upper().replace("-", "_"): value for name, value in values.items()}
    flag = values.pop("disable-auto-complete-config") and "--disable-auto-complete-config"
    multiple = {_name(option) for option in serve.params if option.multiple} - {"model-repository"}
    pairs = [
        (name, value)
        for name, text in values.items()
        for value in (text.split() if name in multiple else [text])
    ]
    joined = [f"--{name}={value}" for name, value in pairs]
    apart = [word for name, value in pairs for word in (f"--{name}", value)]
    assert said(**env) == said(flag, *joined) == said(*apart, flag)
    options, warnings = said(**env)
    assert warnings == []
    assert options.load == ("first", "second")
    assert (options.gpu_executions, options.gpu_lanes) == (3, 5)
    assert (options.metrics_port, options.strict_readiness, options.drain_delay) == (9002, False, 0.5)
    assert options.access.grpc_restrictions == (
        Restriction(("health",), "a", "b"),
        Restriction(("inference",), "c", "d"),
    )
    default, _ = said("--model-repository", tmp_path)
    same = [name for name in ServerOptions.__slots__ if getattr(options, name) == getattr(default, name)]
    assert set(same) <= {
        "repositories",
        "infer_contexts",
        "gpus",
        "tls",
    }  # what has no option, or needs a certificate


def _name(option):
    return option.opts[0].removeprefix("--")


# Help

HEADINGS = [
    "Models",
    "GPUs",
    "Cache and rate limits",
    "Server",
    "gRPC",
    "HTTP",
    "Security",
    "Metrics",
    "Logging",
    "Tracing",
    "Of Triton, without effect here",
    "Other",
]


def test_help_groups_options():
    lines = CliRunner().invoke(main, ["serve", "--help"]).output.splitlines()
    assert [line.rstrip(":") for line in lines if line and not line.startswith((" ", "Usage"))] == HEADINGS
    assert max(map(len, lines)) <= 80
    under = {heading: "\n".join(lines[lines.index(f"{heading}:") :]).split("\n\n")[0] for heading in HEADINGS}
    assert (
        "  --http-port INTEGER RANGE       Port for HTTP; 0 takes a free one.  [default:\n" in under["HTTP"]
    )
    assert "--grpc-restricted-protocol LIST:KEY=VALUE\n" in under["Security"]
    assert "--model-repository, --model-store DIRECTORY\n" in under["Models"]


def test_an_option_without_a_heading_is_among_the_others():
    @click.command(cls=GroupedCommand)
    @click.option("--plain", help="Said.")
    @click.option("--headed", cls=GroupedOption, heading="First", help="Said, too.")
    def command(plain, headed):
        """Do nothing."""

    lines = CliRunner().invoke(command, ["--help"]).output.splitlines()
    assert lines.index("Other:") + 1 == next(n for n, line in enumerate(lines) if "--plain" in line)
    assert lines.index("First:") + 1 == next(n for n, line in enumerate(lines) if "--headed" in line)
