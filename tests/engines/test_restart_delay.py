"""How long a process that ended has to wait."""

from yais.engines.restart_delay import RestartDelay

SECOND = 1_000_000_000


def test_it_doubles_up_to_half_a_minute():
    delay = RestartDelay()
    waits = [delay.after(0, SECOND) for _ in range(12)]
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0, 30.0]


def test_a_process_that_lived_for_a_minute_starts_afresh():
    delay = RestartDelay()
    assert [delay.after(0, 59 * SECOND) for _ in range(3)] == [0.1, 0.2, 0.4]
    assert delay.after(5 * SECOND, 65 * SECOND) == 0.1
    assert delay.after(0, SECOND) == 0.2
