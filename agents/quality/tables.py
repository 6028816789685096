"""The tables of a report, as rows of text: `terminal` prints them, `page` puts them into HTML. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from tapeline.agents.quality.report import QualityReport, Stretches
from tapeline.agents.quality.words import length, number, share, time_of_day


@dataclass(frozen=True, slots=True)
class Table:
    """rows: as many cells as columns, the first names the row; note: what to know about it."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def tables(report: QualityReport) -> list[Table]:
    """Return the tables that have something to say, in order."""
    every = (
        _kinds(report),
        _latency(report),
        _gaps(report),
        _listed_gaps(report),
        _outliers(report),
        _stretches(report),
        _statuses(report),
        _beside(report),
        _rules(report),
    )
    return [table for table in every if table.rows]


def _kinds(report: QualityReport) -> Table:
    order = {one.kind: one for one in report.order.by_kind}
    rows = []
    for kind in report.kinds:
        duplicates = {str(name): count for name, count in report.duplicates.by_kind.items()}.get(kind.kind, 0)
        cells = [kind.kind, f"{kind.ticks:,}", f"{kind.events:,}", f"{kind.second_mean:,.1f}"]
        if (own := order.get(kind.kind)) is None:
            cells += ["-"] * 5
        else:
            numbers = (own.event_back, own.event_same, own.sequence_back, own.late)
            cells += [f"{one:,}" for one in numbers] + ["?" if duplicates is None else f"{duplicates:,}"]
        rows.append(tuple(cells))
    columns = ("kind", "ticks", "events", "ticks/s", "time back", "same time", "number back", "late", "duplicates")
    note = (
        f"Over all kinds event time goes back {report.order.event_back:,} times, receive time "
        f"{report.order.recv_back:,} times. The busiest second has {report.rates.second_max:,} ticks"
    )
    if (busiest := report.rates.busiest) is not None:
        note += f", the busiest 100 ms {busiest.ticks:,}, at {time_of_day(busiest.start_ns)}"
    return Table("Counts and order", columns, tuple(rows), note + ".")


def _latency(report: QualityReport) -> Table:
    rows = tuple(
        (
            one.kind,
            length(one.min_ns),
            *(f"+{length(ns - one.min_ns)}" for ns in (one.p50_ns, one.p90_ns, one.p99_ns, one.p999_ns, one.max_ns)),
            length(one.resolution_ns),
        )
        for one in report.latency
    )
    columns = ("kind", "smallest", "50%", "90%", "99%", "99.9%", "largest", "venue's step")
    note = "Receive time minus event time, with our clock minus the venue's in it: the smallest, and how far above it."
    if (clock := report.clock) is not None:
        note += (
            f" Clock offset {length(clock.offset_ns)} (first minute {length(clock.first_ns)}, last "
            f"{length(clock.last_ns)}, range {length(clock.range_ns)}"
        )
        note += ")." if clock.drift_ns_an_hour is None else f", drift {length(clock.drift_ns_an_hour)} an hour)."
    return Table("Latency and clock", columns, rows, note)


def _gaps(report: QualityReport) -> Table:
    rows = tuple((one.reason, one.kind, f"{one.count:,}", f"{one.missing:,}") for one in report.gaps.by_reason)
    return Table("Gaps by reason", ("reason", "kind", "gaps", "missing messages"), rows)


def _listed_gaps(report: QualityReport) -> Table:
    rows = tuple(
        (
            time_of_day(one.recv_ns),
            one.reason,
            one.kind,
            str(one.first_missing) if one.first_missing else "-",
            f"{one.missing:,}" if one.missing else "-",
            length(one.silent_ns),
        )
        for one in report.gaps.listed
    )
    note = f"The first {len(rows):,} of {report.gaps.count:,}." if len(rows) < report.gaps.count else ""
    return Table("Gaps", ("noticed", "reason", "kind", "first number", "messages", "silent before"), rows, note)


def _outliers(report: QualityReport) -> Table:
    found = report.outliers
    rows = []
    for one in found.listed:
        # Of a quote the side that is farther off.
        prices = [price for price in (one.price, one.ask) if price is not None]
        price = max(prices, key=lambda price: abs(price - one.median), default=one.median)
        away = f"{100 * (price / one.median - 1):+.2f}%" if one.median else "-"
        rows.append((time_of_day(one.recv_ns), one.kind, number(one.price), number(one.ask), number(one.median), away))
    own = found.count - found.by_venue
    note = f"The first {len(rows):,} of {own:,}." if len(rows) < own else ""
    columns = ("received", "kind", "price or bid", "ask", "median before", "away")
    return Table("Outliers", columns, tuple(rows), note)


def _all_stretches(report: QualityReport) -> Iterator[tuple[str, Stretches | None]]:
    yield "quiet", report.rates.quiet
    yield "closed", report.sessions.closed
    yield "stale", report.stale.stretches if report.stale else None
    yield "crossed", report.quotes.crossed_stretches if report.quotes else None
    yield "locked", report.quotes.locked_stretches if report.quotes else None
    yield "one-sided", report.quotes.one_sided_stretches if report.quotes else None
    yield "book not synchronised", report.gaps.book_unsynchronised


def _stretches(report: QualityReport) -> Table:
    span_ns = (report.last_recv_ns or 0) - (report.first_recv_ns or 0)
    rows = []
    for name, found in _all_stretches(report):
        if found is None or not found.count:
            continue
        longest = found.longest[0]
        rows.append(
            (
                name,
                f"{found.count:,}",
                length(found.total_ns),
                share(found.total_ns, span_ns),
                length(longest.end_ns - longest.start_ns),
                time_of_day(longest.start_ns),
            )
        )
    return Table("Stretches", ("what", "how many", "together", "of the time", "longest", "from"), tuple(rows))


def _statuses(report: QualityReport) -> Table:
    rows = tuple((time_of_day(one.recv_ns), "open" if one.open else "closed") for one in report.sessions.listed)
    note = f"The first {len(rows):,} of {report.sessions.count:,}." if len(rows) < report.sessions.count else ""
    return Table("Sessions", ("from", "trading is"), rows, note)


def _beside(report: QualityReport) -> Table:
    left = report.left_out
    facts = (
        ("ticks of other days", left.other_days),
        ("tick frames that came again", left.repeated_frames),
        ("damaged records", left.unread_records),
        *((f"messages that could not be read: {reason}", count) for reason, count in (report.rejected or {}).items()),
    )
    return Table("Read, but not in the report", ("what", "how many"), tuple((n, f"{c:,}") for n, c in facts if c))


def _rules(report: QualityReport) -> Table:
    rules = report.rules
    rows = (
        ("outlier: window", f"{rules.outlier_window} prices"),
        ("outlier: believed if most of the last", f"{rules.outlier_confirm} prices have it"),
        ("outlier: deviations", number(rules.outlier_spreads)),
        ("outlier: at least", f"{100 * rules.outlier_share:g}% of the price"),
        ("stale: not moved by a trade for", length(rules.stale_ns)),
        ("quiet: nothing for", length(rules.quiet_ns)),
    )
    return Table("Rules", ("rule", "went by"), rows)
