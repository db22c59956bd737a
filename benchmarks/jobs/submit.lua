-- Submissions for wrk: `wrk ... -s submit.lua URL -- PATH`. Every body is another one (its name and its
-- params differ), and each request is formatted once more, as a client would. Prints `RESULT {...}`.

local path = "/api/v1/jobs"
local number = 0
local fields = {["Content-Type"] = "application/json", ["Accept"] = "application/json"}

function init(args)
   path = args[1] or path
end

function request()
   number = number + 1
   local body = string.format(
      '{"type":"train","name":"resnet run %d","gpu_type":"a100","gpu_count":1,"priority":10,'
         .. '"params":{"epochs":10,"lr":0.001,"seed":%d},"tags":["bench","team-%d"]}',
      number, number * 7919, number % 50)
   return wrk.format("POST", path, fields, body)
end

function done(summary, latency)
   local errors = summary.errors
   print(string.format(
      'RESULT {"requests": %d, "duration": %.6f, "p50": %.1f, "p99": %.1f, '
         .. '"status_errors": %d, "socket_errors": %d}',
      summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
      errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
