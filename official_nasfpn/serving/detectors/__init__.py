"""Exports in use, one module for each runtime; `loading` takes any of them."""
