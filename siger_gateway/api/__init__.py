"""The gateway's own endpoints, as Tornado RequestHandlers on the gateway's wire."""
