"""What is gRPC's own. A gRPC call is an ordinary exchange of the proxy with trailers, and nobody
decodes its messages; what it needs besides is here, nearly all of it without sockets and asyncio.

- every call: ``status`` (codes, local replies as trailers), ``deadline`` (``grpc-timeout``);
- browsers: ``web`` (gRPC-Web to gRPC and back);
- JSON clients: ``framing`` (messages on the wire) and ``transcoding`` (JSON to messages and back by
  ``google.api.http`` rules), the only ones that need the extra ``grpc`` (protobuf);
- what is known of a service: ``descriptions``, from ``descriptor_files`` or ``reflected``, which asks
  the service in the background;
- our own services: ``jobs_messages``, and the messages under ``protos``.
"""
