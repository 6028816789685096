"""From the settings to the logics that run. `logic_worker` uses it; `up` and `doctor` check with it beforehand."""

from tapeline.agents.logic.authoring import LogicError
from tapeline.agents.logic.examples import SHIPPED
from tapeline.agents.logic.spec import LogicSpec
from tapeline.streams.settings import Settings


def specs(settings: Settings) -> list[LogicSpec]:
    """Return the configured logics; raise SettingsError at the line that asks for something impossible."""
    found: list[LogicSpec] = []
    for name, wanted in settings.logics.items():
        logic = SHIPPED.get(wanted.logic)
        if logic is None:
            shipped = ", ".join(SHIPPED)
            if wanted.logic.endswith(".py") or "/" in wanted.logic or ":" in wanted.logic:
                message = (
                    "a user's own file is refused on workers: they have no process isolation yet, and a file could "
                    f"read their secrets; the shipped logics are: {shipped}"
                )
            else:
                message = f"there is no logic {wanted.logic!r}; the shipped ones are: {shipped}"
            raise settings.error_at(("logics", name, "logic"), message)
        try:
            params = logic.bind(wanted.params)
        except LogicError as error:
            raise settings.error_at(("logics", name, "params"), str(error)) from error
        found.append(
            LogicSpec(
                name=name,
                logic=logic,
                params=params,
                instruments=wanted.instruments,
                valid_ns=round(wanted.valid_seconds * 1e9),
                tenant=wanted.tenant,
                tags=wanted.tags,
            )
        )
    return found
