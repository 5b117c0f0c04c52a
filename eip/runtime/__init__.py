"""The runtime: what calls handlers, and runs as a service.

`consumer` takes messages from a channel and settles them; `handlers` and `dispatch` are what users write; `service`
starts and stops what runs. The underscored modules are the rooms of one consumer's session.
"""

__all__: list[str] = []
