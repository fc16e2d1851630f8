"""The demo: a small model that is really trained, and whose personality is then put together."""
