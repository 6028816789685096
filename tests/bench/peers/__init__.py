"""Those that Tapeline is compared with, each in a file of its own. `contract` says what a peer is."""
