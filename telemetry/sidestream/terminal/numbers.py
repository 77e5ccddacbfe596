"""Short formats of numbers, durations and money, for console, commands, pages and demo.

An unknown value (None) is the empty string, never a zero.
"""

from __future__ import annotations


def plural(number: int, noun: str) -> str:
    """`run` or `runs`, `retry` or `retries`."""
    if number == 1:
        return noun
    return noun[:-1] + "ies" if noun.endswith("ry") else noun + "s"


def counted(number: int | None, noun: str) -> str:
    """Number and noun: `1 run`, `1,200 runs`."""
    return "" if number is None else f"{number:,} {plural(number, noun)}"


def humanize_seconds(seconds: float | None) -> str:
    """Duration: 0.25ms, 5.3ms, 42ms, 3.20s, 12.3s, 4m05s, 2h03m."""
    if seconds is None:
        return ""
    if seconds < 0.9995:
        return _milliseconds(seconds * 1000)
    if seconds < 9.995:
        return f"{seconds:.2f}s"
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02}s" if minutes < 60 else f"{minutes // 60:,}h{minutes % 60:02}m"


def _milliseconds(value: float) -> str:
    if value == 0 or value >= 9.95:
        return f"{value:.0f}ms"
    if value < 0.01:
        return "<0.01ms"
    return f"{value:.1f}ms" if value >= 0.995 else f"{value:.2f}ms"


def humanize_count(number: int | None) -> str:
    """Count, abbreviated from 1,000 on: 86, 1.2k, 12k, 1.2M, 1.2G."""
    if number is None:
        return ""
    if number < 1_000:
        return str(number)
    for size, unit in ((1e3, "k"), (1e6, "M")):
        if number < 9.95 * size:
            return f"{number / size:.1f}{unit}"
        if number < 999.5 * size:
            return f"{number / size:.0f}{unit}"
    return f"{number / 1e9:.1f}G"


def humanize_bytes(size: int | None) -> str:
    """Bytes: 86 B, 6.3 kB, 12 MB."""
    text = humanize_count(size)
    return text and (f"{text[:-1]} {text[-1]}B" if text[-1].isalpha() else f"{text} B")


def humanize_usd(cost: float | None) -> str:
    """US dollars to the cent, or to three significant digits: $12.30, $0.42, $0.0421, $0.00067, <$0.000001."""
    if cost is None:
        return ""
    if cost == 0:
        return "$0"
    sign, cost = ("-", -cost) if cost < 0 else ("", cost)
    if cost < 0.0000005:
        return f"{sign}<$0.000001"
    digits = 2
    while digits < 6 and cost < 0.9995 * 10 ** (2 - digits):
        digits += 1
    whole, _, part = f"{cost:,.{digits}f}".partition(".")
    return f"{sign}${whole}.{part.rstrip('0'):0<2}"


def humanize_score(value: bool | float | None) -> str:
    """Value of a score: `0.8`, `true`; empty for None."""
    return "" if value is None else str(value).lower() if isinstance(value, bool) else f"{value:g}"
