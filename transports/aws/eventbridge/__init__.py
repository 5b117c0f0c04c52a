"""Amazon EventBridge: event buses, their rules and archives."""
