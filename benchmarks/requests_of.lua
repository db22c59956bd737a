-- The load of benchmarks/growth.py, run by wrk: the requests of requests.lua, but their paths are the
-- lines of the file SIGER_BENCH_PATHS, in that order and then from the beginning. Always REQUESTS
-- different ones, so that the load itself does the same however many paths there are.

local REQUESTS = 10000
local requests = {}
local next_request = 0

function init(args)
   local paths = {}
   for path in io.lines(os.getenv("SIGER_BENCH_PATHS")) do
      table.insert(paths, path)
   end
   for i = 1, REQUESTS do
      requests[i] = wrk.format("GET", paths[i % #paths + 1], {
         ["Host"] = "api.example.com",
         ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
         ["Accept"] = "application/json, text/plain, */*",
         ["Accept-Encoding"] = "gzip, deflate, br, zstd",
         ["Accept-Language"] = "en-GB,en;q=0.9,de;q=0.8",
         ["Authorization"] = "Bearer 0190a5f27c4e7b1a9d3e3f2b8c6d1e900190a5f27c4e7b1a9d3e3f2b8c6d1e90",
         ["Cookie"] = "session=4f1c9a7d2e8b4c56a0d3; theme=dark; consent=1",
         ["Referer"] = "https://app.example.com/users?page=1",
         ["Cache-Control"] = "no-cache",
         ["X-Request-ID"] = string.format("0190a5f2-7c4e-7b1a-9d3e-%012x", i),
         ["X-Client-Version"] = "web/4.18.2",
      })
   end
end

function request()
   next_request = next_request % REQUESTS + 1
   return requests[next_request]
end

function done(summary, latency)
   local errors = summary.errors
   print(string.format(
      'RESULT {"requests": %d, "duration": %.6f, "p50": %.1f, "p99": %.1f, '
         .. '"status_errors": %d, "socket_errors": %d}',
      summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
      errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
