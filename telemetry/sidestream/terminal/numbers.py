"""Numbers, durations and money in the few characters that a person reads at a glance."""

from __future__ import annotations


def plural(number: int, noun: str) -> str:
    """`run` or `runs`, `retry` or `retries`."""
    if number == 1:
        return noun
    return noun[:-1] + "ies" if noun.endswith("ry") else noun + "s"


def counted(number: int | None, noun: str) -> str:
    """1 run, 2 runs; empty where nobody knows."""
    return "" if number is None else f"{number} {plural(number, noun)}"


def humanize_seconds(seconds: float | None) -> str:
    """<1ms, 42ms, 3.20s, 4m05s, 2h03m; empty where nobody knows."""
    if seconds is None:
        return ""
    if 0 < seconds < 0.0005:
        return "<1ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 9.995:
        return f"{seconds:.2f}s"
    if seconds < 99.95:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02}m"


def humanize_count(number: int | None) -> str:
    """86, 1.2k, 12k, 1.2M; ? where nobody knows."""
    if number is None:
        return "?"
    if number < 1_000:
        return str(number)
    if number < 9_950:
        return f"{number / 1_000:.1f}k"
    if number < 999_500:
        return f"{number / 1_000:.0f}k"
    return f"{number / 1_000_000:.1f}M"


def humanize_usd(cost: float) -> str:
    """US dollars, with as many digits as say something: $12.30, $0.0420, $0.00067."""
    if cost == 0:
        return "$0"
    if cost < 0.00001:
        return "<$.00001"
    digits = 5 if cost < 0.001 else 4 if cost < 1 else 2
    return f"${cost:.{digits}f}"
