"""The services as the data plane sees them.

``clusters``  all of them: made from the configuration, fed by discovery
``cluster``   one service: its endpoints, swapped whole when discovery says so
``balancer``  which endpoint the next request takes
``pool``      the connections of one endpoint
``health``    active health checks: asks every endpoint how it is
``outlier``   ejects endpoints that fail their requests
"""
