-- Status requests for wrk: `wrk ... -s poll.lua URL -- FILE`, with one path a line in FILE. The requests
-- are formatted once and sent in turn. Prints `RESULT {...}`.

local requests = {}
local number = 0

function init(args)
   for path in io.lines(args[1]) do
      table.insert(requests, wrk.format("GET", path, {["Accept"] = "application/json"}))
   end
end

function request()
   number = number % #requests + 1
   return requests[number]
end

function done(summary, latency)
   local errors = summary.errors
   print(string.format(
      'RESULT {"requests": %d, "duration": %.6f, "p50": %.1f, "p99": %.1f, '
         .. '"status_errors": %d, "socket_errors": %d}',
      summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
      errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
