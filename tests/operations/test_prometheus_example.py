"""examples/91_prometheus: what its README says to run does what it says, with a real Prometheus."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_session import ROOT, SOON, Session, eventually

README = ROOT / "examples/91_prometheus/README.md"

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Session, dict[str, str]]]:
    """Run the README; yield the session, and what each command printed."""
    session = Session(tmp_path_factory.mktemp("prometheus"))
    printed: dict[str, str] = {}
    try:
        for command in re.findall("^    (.*)$", README.read_text(), re.MULTILINE):
            if command.endswith(" &"):
                session.start(command.removesuffix(" &"))
                session.ready(session.metrics if "serve" in command else f"{session.prometheus}/-/ready")
            else:
                if command.startswith("promtool query"):
                    settled(session)
                printed[command] = session.run(command)
        yield session, printed
    finally:
        session.close()


def settled(session: Session) -> None:
    """Wait until Prometheus has scraped what siege did, and evaluated all rules since."""
    eventually(lambda: float(value(session, 'sum(yais_inference_requests_total{model="simple"})')) == 500)
    eventually(lambda: session.query("yais:load_ratio:mean1m")["result"])


def value(session: Session, expression: str) -> str:
    result = session.query(expression)["result"]
    text: str = result[0]["value"][1] if result else "0"
    return text


def printed_by(printed: dict[str, str], pattern: str) -> str:
    (text,) = [text for command, text in printed.items() if re.search(pattern, command)]
    return text


def test_promtool_is_content(ran: tuple[Session, dict[str, str]]) -> None:
    _, printed = ran
    assert "SUCCESS: 16 rules found" in printed_by(printed, "check config")
    assert "SUCCESS" in printed_by(printed, "test rules")


def test_a_query_returns_what_siege_drove(ran: tuple[Session, dict[str, str]]) -> None:
    _, printed = ran
    assert re.search(r"requests +500 +500 +500 +0", printed_by(printed, "siege"))
    answers = printed_by(printed, "requests_total").splitlines()
    assert [answer.partition(" @")[0] for answer in sorted(answers)] == [
        '{outcome="failure"} => 0',
        '{outcome="success"} => 500',
    ]


def test_the_load_ratio_is_recorded_and_nothing_fires(ran: tuple[Session, dict[str, str]]) -> None:
    session, printed = ran
    recorded = re.search(r"=> ([0-9.e+]+) @", printed_by(printed, "load_ratio"))
    assert recorded is not None and float(recorded[1]) >= 1
    assert printed_by(printed, "ALERTS").strip() == ""
    # A scrape that a busy machine did not end in time leaves a gap.
    eventually(lambda: float(value(session, "sum(yais_inference_load_ratio_count)")) == 500)


def test_every_rule_is_evaluated(ran: tuple[Session, dict[str, str]]) -> None:
    session, _ = ran

    def health() -> set[str]:
        with urllib.request.urlopen(f"{session.prometheus}/api/v1/rules", timeout=SOON) as response:
            groups = json.load(response)["data"]["groups"]
        return {rule["health"] for group in groups for rule in group["rules"]}

    eventually(lambda: "unknown" not in health())
    assert health() == {"ok"}


def test_a_rule_that_is_wrong_is_found(ran: tuple[Session, dict[str, str]]) -> None:
    """What tests the alerts would not pass whatever they were."""
    session, _ = ran
    rules, tests = session.directory / "rules.yml", session.directory / "alerts_test.yml"
    text = rules.read_text()
    for right, wrong in (("_ratio_sum[1m]", "_ratio_count[1m]"), ("> 10", "> 30"), ("> 0.95", "> 1")):
        assert right in text
        try:
            rules.write_text(text.replace(right, wrong))
            tested = subprocess.run(
                ["promtool", "test", "rules", tests], capture_output=True, timeout=SOON, check=False
            )
        finally:
            rules.write_text(text)
        assert tested.returncode != 0, right


def test_the_metrics_are_as_prometheus_wants_them(ran: tuple[Session, dict[str, str]]) -> None:
    session, _ = ran
    with urllib.request.urlopen(session.metrics, timeout=SOON) as response:
        page = response.read()
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=page, capture_output=True, timeout=SOON, check=False
    )
    complaints = [line for line in checked.stderr.decode().splitlines() if not line.startswith("nv_")]
    assert complaints == []
