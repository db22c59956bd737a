"""Jobs: one JetStream stream is the truth, everything else here is a projection of it.

job         what a client may submit, and the ids (pure)
status      the states of a job, the events that move it, what of them is legal (pure)
ownership   whose jobs somebody may see and cancel (pure)
moments     timestamps, read and written (pure)
wire        the short way through nats-py, for requests and for reading the stream
connection  one NATS connection that is made again for as long as the process lives
stream      the subjects, the settings of the stream, reading one job's history
queue       submitting and cancelling: one publish, one acknowledgement
projection  the recent jobs in memory, under a bound (pure)
ledger      keeps the projection up to date and answers questions about jobs
worker      the other side: takes jobs and runs them
run         one job in a worker, from its delivery to its acknowledgement
exec        a worker's handler that runs a program
"""

from siger_gateway.deferred import defer

# nats-py's transport over WebSockets, for servers whose address begins with ws://.
defer("aiohttp", "multidict")
