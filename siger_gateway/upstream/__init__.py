"""The services as the data plane sees them.

``cluster``   a service: its endpoints, swapped whole when discovery says so
``balancer``  which endpoint the next request takes
``pool``      the connections of one endpoint
"""
