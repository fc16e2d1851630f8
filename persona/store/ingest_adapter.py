"""placeholder"""


def ingest_adapter(*a): ...
