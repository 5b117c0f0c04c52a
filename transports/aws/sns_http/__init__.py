"""SNS over HTTP(S): an endpoint that a topic delivers to, whose messages the same handlers get as from a queue.

Needs the extras ``aws`` and ``sns-http``.
"""

from eip.transports.aws.sns_http.subscription import SnsHttpSubscription as SnsHttpSubscription

__all__ = ["SnsHttpSubscription"]
