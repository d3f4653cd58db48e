"""Where orders are kept. All stores keep the contract of ``poller.store``.

``tinydb.TinyStore`` is the embedded default; ``memory.MemoryStore`` serves tests. Of the
default, read ``journal`` first: its page explains what is on disk, and why that survives.
"""
