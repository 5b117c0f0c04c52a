"""The one seam to Amazon's services: calls by service and operation, with our errors, metered."""
