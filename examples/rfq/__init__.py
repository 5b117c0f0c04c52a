"""Wild Rydes: a customer asks all unicorns near a ride's start for quotes (scatter-gather behind a REST API).

`booking` asks and gathers, `unicorns` answer; the two talk only through channels. `api` is the REST API and the live
page.
"""
