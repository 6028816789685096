"""One file a role: receive, call a pure function, send. `tapeline worker` runs them."""

__all__: list[str] = []
