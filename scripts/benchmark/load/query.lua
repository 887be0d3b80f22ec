-- SeeMe's Callback, a GET with a query string, with a token. Its times are the platform's local
-- ones: wrk is started with TZ=Europe/Budapest.
local receipts = require("receipts")

local QUERY = "?token=a-long-random-one&reference=%s&number=3630%06d&sender=receiptd&code=%s"
    .. "&message=Delivered&price=13.90&timestamp=%s&mccmnc=21630&split=1"
local CODES = { "6", "6", "6", "4", "6", "9", "6", "6", "7", "6" }

function request()
    local number = receipts.next_number()
    return wrk.format("GET", wrk.path .. QUERY:format(
        receipts.identifier(number),
        number % 1000000,
        CODES[number % #CODES + 1],
        receipts.now("%Y-%m-%d%%20%H:%M:%S")
    ))
end

function response(status, _, body)
    if status == 200 then
        acknowledged = acknowledged + 1
        receipts.received()
    else
        receipts.refuse(status, body)
    end
end
