"""Checks on what a sweep chose: confirmation with new seeds, and the sealed test."""
