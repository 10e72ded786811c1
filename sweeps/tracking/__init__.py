"""What is told while a sweep runs: an outbox on disk, and the thread that delivers it to MLflow."""
