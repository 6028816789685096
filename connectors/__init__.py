"""The edges of Tapeline, a folder each with a one-page contract: venues (market data in), stores, brokers and more."""

__all__: list[str] = []
