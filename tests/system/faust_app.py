"""A role's app at module level, as Faust's own command line wants it: `faust -A tests.system.faust_app ...`."""

from tapeline.agents import normalize
from tapeline.streams.settings import load_settings

app = normalize.app(load_settings())
