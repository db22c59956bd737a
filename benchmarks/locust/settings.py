"""Options of every profile, and the thresholds that decide about Locust's exit code.

Each option is an environment variable too, and most stand in the form of the web UI.
"""

from __future__ import annotations

import logging
from argparse import Namespace
from typing import Any

from locust import events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.stats import StatsEntry

log = logging.getLogger(__name__)


@events.init_command_line_parser.add_listener
def _add_options(parser: LocustArgumentParser, **_: Any) -> None:
    parser.add_argument(
        "--token", env_var="SIGER_TOKEN", default="", is_secret=True, help="JWT, sent as Bearer"
    )
    parser.add_argument(
        "--api-key", env_var="SIGER_API_KEY", default="", is_secret=True, help="sent as X-API-Key"
    )
    parser.add_argument(
        "--paths",
        env_var="SIGER_LOCUST_PATHS",
        default="/api/v1/users/{n}",
        help="proxied paths, separated by commas; {n} becomes a number; default: %(default)s",
    )
    parser.add_argument(
        "--job-type",
        env_var="SIGER_LOCUST_JOB_TYPE",
        default="ai_training",
        help="of the jobs that are submitted, and cancelled; default: %(default)s",
    )
    # Thresholds: a run that breaks one ends with exit code 1.
    parser.add_argument(
        "--max-error-share",
        env_var="SIGER_LOCUST_MAX_ERROR_SHARE",
        type=float,
        default=0.01,
        help="of all requests, 0 to 1; default: %(default)s",
    )
    for name, what in (("p95", "95th"), ("p99", "99th")):
        parser.add_argument(
            f"--max-{name}",
            env_var=f"SIGER_LOCUST_MAX_{name.upper()}",
            type=float,
            default=0.0,
            help=f"ms, {what} percentile of all requests; 0: any",
        )
    parser.add_argument(
        "--min-rate",
        env_var="SIGER_LOCUST_MIN_RATE",
        type=float,
        default=0.0,
        help="requests per second over the whole run; 0: any",
    )


def credentials(options: Namespace) -> dict[str, str]:
    """The fields by which a request says who it comes from."""
    fields = {}
    if options.token:
        fields["Authorization"] = f"Bearer {options.token}"
    if options.api_key:
        fields["X-API-Key"] = options.api_key
    return fields


def broken(total: StatsEntry, options: Namespace) -> list[str]:
    """Which thresholds the run has broken; a run without any request breaks all of them."""
    if not total.num_requests:
        return ["there was no request"]
    found = []
    if total.fail_ratio > options.max_error_share:
        found.append(f"{total.fail_ratio:.2%} errors, allowed are {options.max_error_share:.2%}")
    for share, most in ((0.95, options.max_p95), (0.99, options.max_p99)):
        took = total.get_response_time_percentile(share)
        if most and took > most:
            found.append(f"p{share * 100:.0f} is {took:.0f} ms, allowed are {most:g} ms")
    if total.total_rps < options.min_rate:
        found.append(f"{total.total_rps:.1f} requests/s, wanted are {options.min_rate:g}")
    return found


@events.quitting.add_listener
def _judge(environment: Environment, **_: Any) -> None:
    assert environment.parsed_options is not None
    found = broken(environment.stats.total, environment.parsed_options)
    for each in found:
        log.error("threshold broken: %s", each)
    if not found:
        log.info("all thresholds are kept")
    environment.process_exit_code = 1 if found else 0
