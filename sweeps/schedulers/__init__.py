"""Schedulers, which stop trials early. One file is one; see _base.py for the contract."""
