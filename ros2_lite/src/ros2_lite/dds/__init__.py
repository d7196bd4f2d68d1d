"""The Cyclone DDS C library through ctypes: entities, serialised reads and writes, waiting, discovery.

Only the shared library of the ``cyclonedds`` wheel is used, none of its Python: its typed path needs 55 ms for an
image, and importing it takes longer than starting a node.  Every call below releases the GIL while it is in C.
"""
