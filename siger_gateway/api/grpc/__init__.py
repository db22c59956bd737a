"""The gateway's own services for gRPC clients, beside the JSON endpoints for all others.

Their modules take protobuf, which is an extra: nothing but ``services`` is imported before one of
them is called.
"""
