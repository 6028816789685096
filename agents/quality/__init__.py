"""Quality of market data: rules that flag ticks, and reports on one instrument's day. `tapeline quality` is `command`.

`flagged` sets flags on ticks; an `Analysis` takes a day's ticks, and `summarise` makes its `QualityReport`.
"""

from tapeline.agents.quality.analysis import Analysis
from tapeline.agents.quality.report import QualityReport
from tapeline.agents.quality.rules import Rules, RuleState, flagged
from tapeline.agents.quality.summary import summarise

__all__ = ["Analysis", "QualityReport", "RuleState", "Rules", "flagged", "summarise"]
