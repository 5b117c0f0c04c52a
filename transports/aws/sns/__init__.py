"""Amazon SNS: topics."""
