"""From an `Analysis` to its `QualityReport`. Pure; `command` calls it when the ticks are at an end."""

from collections.abc import Mapping
from dataclasses import asdict

import numpy as np
import numpy.typing as npt

from tapeline.agents.quality import analysis as of
from tapeline.agents.quality import counting, report
from tapeline.agents.quality.analysis import Analysis
from tapeline.agents.quality.histogram import quantile_ns
from tapeline.agents.quality.report import DataKind, QualityReport
from tapeline.agents.quality.rules import SECOND_NS
from tapeline.agents.quality.verdicts import verdicts
from tapeline.schemas import GapReason, Kind

OWN_NUMBERS = ("lean",)
"""Venues whose recordings have no numbers: the parser's `sequence` is its own, so a duplicate would have another."""
BINS_MAX = 300
BINS_SECONDS = (1, 2, 5, 10, 15, 30, 60, 120, 300)
"""Lengths of a bin of the timeline: the first with which BINS_MAX are enough."""
MINUTES_MIN = 5
DATA: tuple[tuple[Kind, DataKind], ...] = ((Kind.TRADE, "trade"), (Kind.QUOTE, "quote"), (Kind.BOOK, "book"))


def summarise(
    found: Analysis,
    instrument: str,
    source: str,
    *,
    rejected: Mapping[str, int] | None = None,
    damage: str | None = None,
    repeated_frames: int = 0,
    unread_records: int = 0,
) -> QualityReport:
    """Return the report of what was analysed so far.

    source: where the ticks were read, in words; rejected: messages that could not be read, by reason (None: not known);
    damage: why reading ended early, if it did; repeated_frames, unread_records: what the topic's reader left out.
    """
    any_ticks = bool(found.counts["ticks"].sum())
    stretches = {name: _stretches(one) for name, one in found.stretches().items()}
    whole = QualityReport(
        version=1,
        instrument=instrument,
        day=found.day,
        source=source,
        rules=report.RulesUsed(**asdict(found.rules)),
        ticks=int(found.counts["ticks"].sum()),
        first_recv_ns=int(found.course["first_recv_ns"][0]) if any_ticks else None,
        last_recv_ns=int(found.course["clock_ns"][0]) if any_ticks else None,
        left_out=report.LeftOut(
            other_days=found.outside, repeated_frames=repeated_frames, unread_records=unread_records
        ),
        damage=damage,
        rejected=None if rejected is None else dict(sorted(rejected.items())),
        kinds=_kinds(found),
        rates=_rates(found, stretches["quiet"]),
        gaps=_gaps(found, stretches["unsynchronised"]),
        duplicates=_duplicates(found, instrument),
        order=_order(found),
        outliers=_outliers(found),
        quotes=_quotes(found, stretches),
        stale=_stale(found, stretches["stale"]),
        latency=_latency(found),
        clock=_clock(found),
        sessions=_sessions(found, stretches["closed"]),
        timeline=_timeline(found) if any_ticks else None,
        verdicts=[],
    )
    return whole.model_copy(update={"verdicts": verdicts(whole)})


def _stretches(found: of.Stretches) -> report.Stretches:
    longest = [report.Stretch(start_ns=start, end_ns=end) for start, end in found.longest]
    return report.Stretches(count=found.count, total_ns=found.total_ns, longest=longest)


def _kind_name(number: int) -> str:
    try:
        return Kind(number).name.lower()
    except ValueError:
        return "other"


def _span_ns(found: Analysis) -> int:
    return int(found.course["clock_ns"][0] - found.course["first_recv_ns"][0])


def _a_second(ticks: int, span_ns: int) -> float:
    return round(ticks * SECOND_NS / span_ns, 3) if span_ns > 0 else float(ticks)


def _kinds(found: Analysis) -> list[report.KindCount]:
    rows = []
    for number in np.flatnonzero(found.counts["ticks"]).tolist():
        ticks, events = int(found.counts["ticks"][number]), int(found.counts["events"][number])
        mean = _a_second(ticks, _span_ns(found))
        rows.append(report.KindCount(kind=_kind_name(number), ticks=ticks, events=events, second_mean=mean))
    return rows


def _rates(found: Analysis, quiet: report.Stretches) -> report.Rates:
    ticks = int(found.counts["ticks"].sum())
    a_second = sum(found.seconds[name].astype(np.int64) for name in ("trades", "quotes", "levels", "others"))
    busiest = int(found.windows.argmax())
    window = report.Window(
        start_ns=found.day_ns + busiest * counting.WINDOW_NS,
        length_ns=counting.WINDOW_NS,
        ticks=int(found.windows[busiest]),
    )
    return report.Rates(
        second_mean=_a_second(ticks, _span_ns(found)),
        second_max=int(np.max(a_second)),
        busiest=window if ticks else None,
        quiet=quiet,
    )


def _reason(number: int) -> str:
    try:
        return GapReason(number).name.lower()
    except ValueError:
        return "unknown"


def _missing(number: int) -> str:
    return _kind_name(number) if number else "every"


def _gaps(found: Analysis, unsynchronised: report.Stretches) -> report.Gaps:
    by_reason = [
        report.GapCount(reason=_reason(reason), kind=_missing(kind), count=count, missing=missing)
        for (reason, kind), (count, missing) in sorted(found.gaps.items())
    ]
    listed = [
        report.Gap(
            recv_ns=recv_ns,
            reason=_reason(reason),
            kind=_missing(kind),
            first_missing=first,
            missing=missing,
            silent_ns=None if last_ns == counting.NEVER else recv_ns - last_ns,
        )
        for recv_ns, reason, kind, first, missing, last_ns in found.listed_gaps
    ]
    return report.Gaps(
        count=sum(one.count for one in by_reason),
        missing=sum(one.missing for one in by_reason),
        by_reason=by_reason,
        listed=listed,
        book_unsynchronised=unsynchronised if found.counts["ticks"][Kind.BOOK] else None,
    )


def _duplicates(found: Analysis, instrument: str) -> report.Duplicates:
    venue = instrument.partition(":")[0]
    by_kind: dict[DataKind, int | None] = {}
    reasons = []
    for kind, name in DATA:
        row = found.counts[kind]
        if not row["ticks"]:
            continue
        by_kind[name] = int(row["repeated"])
        if venue in OWN_NUMBERS:
            by_kind[name] = None
        elif not row["numbered"]:
            by_kind[name] = None
            reasons.append(f"the venue gives its {name}s no number")
    if venue in OWN_NUMBERS and by_kind:
        reasons.append(f"{venue} files have no numbers of the venue's; equal ticks may well be two")
    count = sum(one or 0 for one in by_kind.values())
    return report.Duplicates(count=count, by_kind=by_kind, reason="; ".join(reasons))


def _order(found: Analysis) -> report.Order:
    by_kind = []
    for number in np.flatnonzero(found.counts["ticks"]).tolist():
        if number in (Kind.GAP, Kind.TIME, Kind.CONTROL):
            continue
        row = found.counts[number]
        by_kind.append(
            report.KindOrder(
                kind=_kind_name(number),
                event_back=int(row["back"]),
                event_same=int(row["same"]),
                sequence_back=int(row["sequence_back"]),
                late=int(row["late"]),
            )
        )
    course = found.course[0]
    return report.Order(by_kind=by_kind, event_back=int(course["back"]), recv_back=int(course["recv_back"]))


def _given(price: float) -> float | None:
    return price if price != 0 and np.isfinite(price) else None


def _outliers(found: Analysis) -> report.Outliers:
    counts = found.counts
    names = dict(DATA)
    listed = [
        report.Outlier(
            recv_ns=recv_ns,
            kind=names[Kind(kind)],
            price=_given(price),
            ask=_given(price2) if kind == Kind.QUOTE else None,
            median=median,
        )
        for recv_ns, kind, price, price2, median in found.listed_outliers
    ]
    return report.Outliers(
        tested=int(counts["ticks"][[Kind.TRADE, Kind.QUOTE]].sum()),
        count=int(counts["outlier"].sum()),
        by_venue=int(counts["came_outlier"].sum()),
        by_kind={name: int(counts["outlier"][kind]) for kind, name in DATA if counts["outlier"][kind]},
        listed=listed,
    )


def _quotes(found: Analysis, stretches: Mapping[str, report.Stretches]) -> report.Quotes | None:
    row = found.counts[Kind.QUOTE]
    if not row["ticks"]:
        return None
    return report.Quotes(
        count=int(row["ticks"]),
        crossed=int(row["crossed"]),
        locked=int(row["locked"]),
        one_sided=int(row["one_sided"]),
        crossed_stretches=stretches["crossed"],
        locked_stretches=stretches["locked"],
        one_sided_stretches=stretches["one_sided"],
    )


def _stale(found: Analysis, stretches: report.Stretches) -> report.Stale | None:
    trades, quotes, levels = (found.counts["ticks"][kind] for kind, _ in DATA)
    if not trades or not (quotes or levels):
        return None
    return report.Stale(ticks=int(found.counts["stale"].sum()), stretches=stretches)


def _timed(found: Analysis, kind: Kind) -> bool:
    """Say whether the venue gives times of its own: a few differences may come from a reconstructed receive time."""
    row = found.counts[kind]
    return bool(2 * row["timed"] >= row["ticks"] and found.delays["count"][kind - 1])


def _latency(found: Analysis) -> list[report.Latency]:
    rows = []
    for kind, name in DATA:
        if not _timed(found, kind):
            continue
        delay, histogram = found.delays[kind - 1], found.histograms[kind - 1]
        least_ns, most_ns, base_ns = int(delay["min_ns"]), int(delay["max_ns"]), int(delay["base_ns"])
        quantiles = [
            min(max(quantile_ns(histogram, base_ns, share), least_ns), most_ns) for share in (0.5, 0.9, 0.99, 0.999)
        ]
        rows.append(
            report.Latency(
                kind=name,
                count=int(delay["count"]),
                resolution_ns=int(found.counts["resolution_ns"][kind]),
                min_ns=least_ns,
                p50_ns=quantiles[0],
                p90_ns=quantiles[1],
                p99_ns=quantiles[2],
                p999_ns=quantiles[3],
                max_ns=most_ns,
            )
        )
    return rows


def _clock(found: Analysis) -> report.Clock | None:
    if not any(_timed(found, kind) for kind, _ in DATA):
        return None
    least = found.seconds["latency_min"].reshape(-1, 60).min(axis=1)
    minutes = np.flatnonzero(least < np.iinfo(np.int64).max)
    offsets_ns = least[minutes]
    drift_ns = round(slope(minutes.astype(np.float64), offsets_ns) * 60) if len(minutes) >= MINUTES_MIN else None
    return report.Clock(
        offset_ns=int(offsets_ns.min()),
        first_ns=int(offsets_ns[0]),
        last_ns=int(offsets_ns[-1]),
        range_ns=int(offsets_ns.max() - offsets_ns.min()),
        drift_ns_an_hour=drift_ns,
    )


def slope(x: npt.NDArray[np.float64], y: npt.NDArray[np.int64]) -> float:
    """Return the median of the slopes of all pairs of points (Theil 1950, Sen 1968). x: (n,) growing; y: (n,)."""
    first, second = np.triu_indices(len(x), 1)
    return float(np.median((y[second] - y[first]) / (x[second] - x[first])))


def _sessions(found: Analysis, closed: report.Stretches) -> report.Sessions:
    listed = [report.Status(recv_ns=recv_ns, open=is_open) for recv_ns, is_open in found.listed_statuses]
    while_closed = sum(int(found.counts["while_closed"][kind]) for kind, _ in DATA)
    return report.Sessions(
        count=int(found.counts["ticks"][Kind.STATUS]), listed=listed, closed=closed, ticks_while_closed=while_closed
    )


def _timeline(found: Analysis) -> report.Timeline:
    """Put the seconds from the first to the last tick together into at most BINS_MAX bins."""
    used = np.flatnonzero(sum(found.seconds[name] for name in ("trades", "quotes", "levels", "others")))
    seconds = int(used[-1] - used[0]) + 1
    each = next(one for one in BINS_SECONDS if seconds <= one * BINS_MAX - one or one == BINS_SECONDS[-1])
    first = int(used[0]) // each * each
    bins = -(-(int(used[-1]) + 1 - first) // each)
    padded = np.zeros(bins * each, counting.SECOND)
    padded["latency_min"], padded["latency_max"] = np.iinfo(np.int64).max, counting.NEVER
    for side in ("trade", "quote"):
        padded[f"{side}_low"], padded[f"{side}_high"] = np.inf, -np.inf
    part = found.seconds[first : first + bins * each]
    padded[: len(part)] = part
    rows = padded.reshape(bins, each)

    def total(name: str) -> list[int]:
        return [int(one) for one in rows[name].sum(axis=1, dtype=np.int64)]

    side = "trade" if found.counts["ticks"][Kind.TRADE] else "quote"
    low, high = rows[f"{side}_low"].min(axis=1), rows[f"{side}_high"].max(axis=1)
    least, most = rows["latency_min"].min(axis=1), rows["latency_max"].max(axis=1)
    known = (least <= most) & any(_timed(found, kind) for kind, _ in DATA)
    return report.Timeline(
        start_ns=found.day_ns + first * SECOND_NS,
        bin_ns=each * SECOND_NS,
        trades=total("trades"),
        quotes=total("quotes"),
        levels=total("levels"),
        outliers=total("outliers"),
        gaps=total("gaps"),
        price_low=[float(one) if np.isfinite(one) else None for one in low],
        price_high=[float(one) if np.isfinite(one) else None for one in high],
        latency_min_ns=[int(one) if yes else None for one, yes in zip(least, known, strict=True)],
        latency_max_ns=[int(one) if yes else None for one, yes in zip(most, known, strict=True)],
    )
