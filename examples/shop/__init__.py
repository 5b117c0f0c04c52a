"""A small service with everything that one needs after the first ten minutes; see `examples.shop.app`."""
