"""Tracking of a sweep: an outbox on disk, and the thread that delivers it to MLflow."""
