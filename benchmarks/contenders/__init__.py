"""What Siger is compared with: proxies as they come from PyPI, and three that are here.

Each has one core and one worker, and the same duties: any path, round robin over two endpoints on
kept connections (no more of them than it keeps, if that can be told), ``X-Forwarded-*``, an
``X-Request-ID`` kept or made and returned, no access log. A workload may add a ``Duty``. What one
of them cannot do it does not do, which is to its advantage; ``lineup.py`` names them all.
"""
