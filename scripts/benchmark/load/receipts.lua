-- What soap.lua and query.lua share: numbers that never come twice, the current time, the count
-- of the answers by kind, and what came of it all as one line of JSON.
--
-- The counts are globals because wrk asks a thread's Lua state for them by name; there is one
-- thread.

sent, acknowledged, unmatched, refused, last_refusal = 0, 0, 0, 0, ""

local receipts = {}
local first = 0
local second, second_text = 0, ""
local threads = {}

function setup(thread)
    table.insert(threads, thread)
end

-- The first number to use is the first argument behind wrk's own.
function init(arguments)
    first = tonumber(arguments[1])
end

function receipts.next_number()
    sent = sent + 1
    return first + sent - 1
end

-- A number's message identifier, scattered as if it were random; `identifiers.py` has the same.
function receipts.identifier(number)
    return string.format("%08X", (number * 1664525 + 1013904223) % 4294967296)
end

-- The current time in a format of strftime's.
function receipts.now(format)
    local time = os.time()
    if time ~= second then
        second, second_text = time, os.date(format, time)
    end
    return second_text
end

function receipts.refuse(status, body)
    refused = refused + 1
    last_refusal = status .. " " .. body
end

local function quoted(text)
    return '"' .. text:sub(1, 300):gsub('[%c"\\]', " ") .. '"'
end

function done(summary, latency)
    local thread, errors = threads[1], summary.errors
    local names = { "sent", "acknowledged", "unmatched", "refused" }
    local fields = {}
    for _, name in ipairs(names) do
        table.insert(fields, string.format('"%s": %d', name, thread:get(name)))
    end
    for name, value in pairs({
        seconds = summary.duration / 1e6,
        p50 = latency:percentile(50) / 1e3,
        p99 = latency:percentile(99) / 1e3,
        p999 = latency:percentile(99.9) / 1e3,
        broken = errors.connect + errors.read + errors.write,
    }) do
        table.insert(fields, string.format('"%s": %.3f', name, value))
    end
    table.insert(fields, '"last_refusal": ' .. quoted(thread:get("last_refusal")))
    print("RESULT {" .. table.concat(fields, ", ") .. "}")
end

return receipts
