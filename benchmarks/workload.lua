-- The load of benchmarks/compare.py, run by wrk: the header fields of requests.lua, with the method,
-- path, body and connections that the environment asks for. 64 different requests, in turn.

local VARIANTS = 64
local requests = {}
local next_request = 0

function init(args)
   local method = os.getenv("SIGER_BENCH_METHOD")
   local path = os.getenv("SIGER_BENCH_PATH")
   local size = tonumber(os.getenv("SIGER_BENCH_BODY"))
   local body = size > 0 and string.rep("0123456789abcdef", size / 16) or nil
   local tokens = {}
   for token in string.gmatch(os.getenv("SIGER_BENCH_TOKENS"), "[^ ]+") do
      table.insert(tokens, token)
   end
   for i = 1, VARIANTS do
      local headers = {
         ["Host"] = "api.example.com",
         ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
         ["Accept"] = "application/json, text/plain, */*",
         ["Accept-Encoding"] = "gzip, deflate, br, zstd",
         ["Accept-Language"] = "en-GB,en;q=0.9,de;q=0.8",
         ["Authorization"] = "Bearer " .. tokens[i % #tokens + 1],
         ["Cookie"] = "session=4f1c9a7d2e8b4c56a0d3; theme=dark; consent=1",
         ["Referer"] = "https://app.example.com/users?page=1",
         ["Cache-Control"] = "no-cache",
         ["X-Request-ID"] = string.format("0190a5f2-7c4e-7b1a-9d3e-%012x", i),
         ["X-Client-Version"] = "web/4.18.2",
      }
      if os.getenv("SIGER_BENCH_CLOSE") == "1" then
         headers["Connection"] = "close"
      end
      requests[i] = wrk.format(method, path:gsub("{n}", 1000 + i), headers, body)
   end
end

function request()
   next_request = next_request % VARIANTS + 1
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
