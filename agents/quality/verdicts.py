"""What to make of a report, topic by topic: ok, look, or unknown, each with the limit that it was held against.

There is no score: what matters depends on what the ticks are for. `summary` calls it; the limits are in `LIMITS`.
"""

from dataclasses import dataclass

from tapeline.agents.quality.report import Finding, QualityReport, Topic, Verdict
from tapeline.agents.quality.rules import SECOND_NS
from tapeline.agents.quality.words import length, many, share

MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """Up to which a topic is ok. Shares: of the ticks or of the time that they are about."""

    event_back_share: float = 0.001
    outlier_share: float = 0.0001
    crossed_share: float = 0.001
    locked_share: float = 0.05
    one_sided_share: float = 0.01
    stale_time_share: float = 0.01
    delay_ns: int = SECOND_NS
    """The latency of 99% above the smallest."""
    behind_ns: int = 10 * MS
    """The smallest latency may be below 0 by so much: our clock is behind."""
    ahead_ns: int = SECOND_NS
    """The smallest latency may be above 0 by so much: our clock is ahead, or everything came late."""
    range_ns: int = 100 * MS
    """By so much the smallest latency may differ from minute to minute."""
    quiet_time_share: float = 0.05
    quiet_ns: int = 60 * SECOND_NS
    """The longest quiet stretch."""


LIMITS = Limits()


def verdicts(report: QualityReport, limits: Limits = LIMITS) -> list[Verdict]:
    """Return a verdict on each topic, always all of them and in the same order."""
    return [
        _gaps(report),
        _duplicates(report),
        _order(report, limits),
        _outliers(report, limits),
        _quotes(report, limits),
        _stale(report, limits),
        _latency(report, limits),
        _clock(report, limits),
        _rates(report, limits),
        _sessions(report),
    ]


def _verdict(topic: Topic, look: bool, text: str, limit: str) -> Verdict:
    finding: Finding = "look" if look else "ok"
    return Verdict(topic=topic, finding=finding, text=text, limit=limit)


def _unknown(topic: Topic, text: str, limit: str) -> Verdict:
    return Verdict(topic=topic, finding="unknown", text=text, limit=limit)


def _over(part: int, whole: int, most: float) -> bool:
    return part > most * whole


def _span_ns(report: QualityReport) -> int:
    return (report.last_recv_ns or 0) - (report.first_recv_ns or 0)


def _gaps(report: QualityReport) -> Verdict:
    gaps = report.gaps
    reasons: dict[str, int] = {}
    for one in gaps.by_reason:
        reasons[one.reason] = reasons.get(one.reason, 0) + one.count
    text = many(gaps.count, "gap")
    if gaps.count:
        text += f" ({', '.join(f'{count:,} {reason}' for reason, count in reasons.items())})"
        text += f", {many(gaps.missing, 'message')} missing as far as they know"
    if report.rejected:
        text += f"; {many(sum(report.rejected.values()), 'message')} could not be read"
    if report.damage is not None:
        text += f"; {report.damage}"
    look = gaps.count > 0 or bool(report.rejected) or report.damage is not None
    return _verdict("gaps", look, text, "none")


def _duplicates(report: QualityReport) -> Verdict:
    found = report.duplicates
    if not [one for one in found.by_kind.values() if one is not None]:
        text = f"cannot be decided: {found.reason}" if found.reason else "no trades, quotes or book"
        return _unknown("duplicates", text, "none")
    text = many(found.count, "duplicate") + (f"; {found.reason}" if found.reason else "")
    return _verdict("duplicates", found.count > 0, text, "none")


def _order(report: QualityReport, limits: Limits) -> Verdict:
    back = sum(one.event_back for one in report.order.by_kind)
    late = sum(one.late for one in report.order.by_kind)
    events = sum(one.events for one in report.kinds if one.kind in ("trade", "quote", "book"))
    text = f"event time goes back {many(back, 'time')} within a kind, {report.order.event_back:,} over all kinds"
    text += f"; {many(late, 'tick')} late by {'its' if late == 1 else 'their'} sequence"
    if report.order.recv_back:
        text += f"; receive time goes back {many(report.order.recv_back, 'time')}"
    limit = f"within a kind {limits.event_back_share:.1%} of the events, none late"
    return _verdict("order", late > 0 or _over(back, events, limits.event_back_share), text, limit)


def _outliers(report: QualityReport, limits: Limits) -> Verdict:
    found = report.outliers
    limit = f"{limits.outlier_share:.2%} of trades and quotes"
    if not found.tested:
        return _unknown("outliers", "no trades and no quotes", limit)
    text = f"{many(found.count, 'outlier')} ({share(found.count, found.tested)})"
    if found.by_venue:
        text += f", {found.by_venue:,} flagged by the venue"
    return _verdict("outliers", _over(found.count, found.tested, limits.outlier_share), text, limit)


def _quotes(report: QualityReport, limits: Limits) -> Verdict:
    found = report.quotes
    limit = (
        f"crossed {limits.crossed_share:.1%}, locked {limits.locked_share:.0%}, one-sided {limits.one_sided_share:.0%}"
    )
    if found is None:
        return _unknown("quotes", "no quotes", limit)
    parts = [
        ("crossed", found.crossed, limits.crossed_share),
        ("locked", found.locked, limits.locked_share),
        ("one-sided", found.one_sided, limits.one_sided_share),
    ]
    text = ", ".join(f"{count:,} {name} ({share(count, found.count)})" for name, count, _ in parts)
    return _verdict("quotes", any(_over(count, found.count, most) for _, count, most in parts), text, limit)


def _stale(report: QualityReport, limits: Limits) -> Verdict:
    found, limit = report.stale, f"{limits.stale_time_share:.0%} of the time"
    if found is None:
        return _unknown("stale", "needs trades beside quotes or a book", limit)
    total_ns = found.stretches.total_ns
    text = f"{many(found.ticks, 'tick')} in {many(found.stretches.count, 'stretch', 'stretches')}, {length(total_ns)}"
    return _verdict("stale", _over(total_ns, _span_ns(report), limits.stale_time_share), text, limit)


def _latency(report: QualityReport, limits: Limits) -> Verdict:
    limit = f"99% within {length(limits.delay_ns)} of the fastest"
    if not report.latency:
        return _unknown("latency", "the venue's times are not known apart from ours", limit)
    names = {"trade": "trades", "quote": "quotes", "book": "book updates"}
    text = ", ".join(f"{names[one.kind]} {length(one.p99_ns - one.min_ns)}" for one in report.latency)
    look = any(one.p99_ns - one.min_ns > limits.delay_ns for one in report.latency)
    return _verdict("latency", look, f"99% are at most so much behind the fastest: {text}", limit)


def _clock(report: QualityReport, limits: Limits) -> Verdict:
    found = report.clock
    limit = f"-{length(limits.behind_ns)} to {length(limits.ahead_ns)}, range {length(limits.range_ns)}"
    if found is None:
        return _unknown("clock", "the venue's times are not known apart from ours", limit)
    if found.offset_ns < 0:
        text = f"our clock is behind the venue's by at least {length(-found.offset_ns)}"
    else:
        text = f"our clock is ahead of the venue's by at most {length(found.offset_ns)}"
    text += f"; range over the minutes {length(found.range_ns)}"
    if found.drift_ns_an_hour is not None:
        text += f", drift {length(found.drift_ns_an_hour)} an hour"
    inside = -limits.behind_ns <= found.offset_ns <= limits.ahead_ns and found.range_ns <= limits.range_ns
    return _verdict("clock", not inside, text, limit)


def _rates(report: QualityReport, limits: Limits) -> Verdict:
    rates = report.rates
    limit = f"quiet {limits.quiet_time_share:.0%} of the time, {length(limits.quiet_ns)} at once"
    if rates.busiest is None:
        return _unknown("rates", "no ticks", limit)
    quiet = rates.quiet
    text = f"{rates.second_mean:,.1f} ticks/s, {rates.busiest.ticks:,} in the busiest 100 ms; "
    text += f"{many(quiet.count, 'quiet stretch', 'quiet stretches')} of {length(report.rules.quiet_ns)} and more"
    look = _over(quiet.total_ns, _span_ns(report), limits.quiet_time_share)
    if quiet.longest:
        longest_ns = quiet.longest[0].end_ns - quiet.longest[0].start_ns
        text += f", the longest {length(longest_ns)}"
        look = look or longest_ns > limits.quiet_ns
    return _verdict("rates", look, text, limit)


def _sessions(report: QualityReport) -> Verdict:
    found = report.sessions
    limit = "no ticks while closed"
    if not found.count:
        return _unknown("sessions", "the venue says nothing about sessions", limit)
    text = f"{many(found.count, 'change')}, closed {length(found.closed.total_ns)}; "
    text += f"{many(found.ticks_while_closed, 'tick')} while closed"
    return _verdict("sessions", found.ticks_while_closed > 0, text, limit)
