-- What soap.lua and query.lua share: numbers that never come twice, the current time, the count
-- of the answers by kind, and what came of it all as one line of JSON.
--
-- The counts are globals because wrk asks a thread's Lua state for them by name. The threads take
-- every so many-th number each. Where each has but one connection, an answer is to its thread's
-- last request, so those without an answer are known by their numbers.

sent, acknowledged, unmatched, refused, last_refusal = 0, 0, 0, 0, ""
unanswered, pending, thread_index = "", nil, 0

local receipts = {}
local first, stride = 0, 1
local second, second_text = 0, ""
local threads = {}

function setup(thread)
    thread:set("thread_index", #threads)
    table.insert(threads, thread)
end

-- The first number to use is the first argument behind wrk's own, the second how many threads
-- there are.
function init(arguments)
    first, stride = tonumber(arguments[1]), tonumber(arguments[2])
end

function receipts.next_number()
    if pending and stride > 1 then -- its connection broke
        unanswered = unanswered .. "," .. pending
    end
    pending = first + thread_index + sent * stride
    sent = sent + 1
    return pending
end

-- The last request was answered as received.
function receipts.received()
    pending = nil
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
    local errors = summary.errors
    local names = { "sent", "acknowledged", "unmatched", "refused" }
    local fields, lost, each_sent, refusal = {}, {}, {}, ""
    for _, name in ipairs(names) do
        local sum = 0
        for _, thread in ipairs(threads) do
            sum = sum + thread:get(name)
        end
        table.insert(fields, string.format('"%s": %d', name, sum))
    end
    for _, thread in ipairs(threads) do
        table.insert(each_sent, thread:get("sent"))
        for number in thread:get("unanswered"):gmatch("%d+") do
            table.insert(lost, number)
        end
        if thread:get("pending") then
            table.insert(lost, thread:get("pending"))
        end
        if thread:get("last_refusal") ~= "" then
            refusal = thread:get("last_refusal")
        end
    end
    table.insert(fields, '"of_threads": [' .. table.concat(each_sent, ", ") .. "]")
    table.insert(fields, '"unanswered": [' .. table.concat(lost, ", ") .. "]")
    for name, value in pairs({
        seconds = summary.duration / 1e6,
        p50 = latency:percentile(50) / 1e3,
        p99 = latency:percentile(99) / 1e3,
        p999 = latency:percentile(99.9) / 1e3,
        broken = errors.connect + errors.read + errors.write,
    }) do
        table.insert(fields, string.format('"%s": %.3f', name, value))
    end
    table.insert(fields, '"last_refusal": ' .. quoted(refusal))
    print("RESULT {" .. table.concat(fields, ", ") .. "}")
end

return receipts
