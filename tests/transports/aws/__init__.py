"""The AWS drivers, against a real moto server."""
