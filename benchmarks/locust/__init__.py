"""Load suites for Locust against a deployment of Siger; README.md beside this says how to run them.

proxy    requests that are forwarded to services
jobs     submit, poll, cancel, list
events   one stream of server-sent events for each user
mixed    all of them, in the proportions of a platform
"""
