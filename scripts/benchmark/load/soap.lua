-- Connection Software's SubmitDeliveryReceipt, with username and PIN.
local receipts = require("receipts")

local HEADERS = { ["Content-Type"] = "text/xml; charset=utf-8", ["SOAPAction"] = '""' }
local ENVELOPE = [[
<?xml version="1.0" encoding="UTF-8"?>
<SOAP-ENV:Envelope xmlns:SOAP-ENV="http://schemas.xmlsoap.org/soap/envelope/" xmlns:ns2="http://www.csoft.co.uk/dtd/sendsms5.xsd">
<SOAP-ENV:Body>
<ns2:SubmitDeliveryReceipt>
<Username>ANOther.61234</Username>
<PIN>BLUE.music</PIN>
<Timestamp1>%s</Timestamp1>
<SentTo>447700%06d</SentTo>
<MessageIdentifier>%s</MessageIdentifier>
<Report>%s</Report>
</ns2:SubmitDeliveryReceipt>
</SOAP-ENV:Body>
</SOAP-ENV:Envelope>
]]
local REPORTS = { "0", "0", "0", "-4", "0", "27", "0", "0", "28", "0" }

function request()
    local number = receipts.next_number()
    return wrk.format("POST", nil, HEADERS, ENVELOPE:format(
        receipts.now("!%Y-%m-%dT%H:%M:%SZ"),
        number % 1000000,
        receipts.identifier(number),
        REPORTS[number % #REPORTS + 1]
    ))
end

-- A receipt that no registered message explains is stored too, and answered with -1.
function response(status, _, body)
    if status == 200 and body:find("<Report>0</Report>", 1, true) then
        acknowledged = acknowledged + 1
    elseif status == 200 and body:find("<Report>-1</Report>", 1, true) then
        unmatched = unmatched + 1
    else
        receipts.refuse(status, body)
        return
    end
    receipts.received()
end
