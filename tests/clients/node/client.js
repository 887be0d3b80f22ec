"use strict";

// Makes a client from the WSDL at the first argument and posts the receipts and messages of standard
// input, a JSON array of {"receipt": {...}, "header": "<xml/>"} and {"message": {...}}. Prints the answers as a JSON array: the
// reply's fields, or {"fault": faultcode, "text": faultstring}.

const fs = require("node:fs");
const soap = require("soap");

async function post(client, call) {
  client.clearSoapHeaders();
  if (call.header) {
    client.addSoapHeader(call.header);
  }
  try {
    const [answer] = call.message
      ? await client.DeliverMessageAsync(call.message)
      : await client.SubmitDeliveryReceiptAsync(call.receipt);
    return answer;
  } catch (error) {
    const fault = error.root && error.root.Envelope && error.root.Envelope.Body.Fault;
    if (!fault) {
      throw error;
    }
    return { fault: fault.faultcode, text: fault.faultstring };
  }
}

async function main() {
  const client = await soap.createClientAsync(process.argv[2]);
  const answers = [];
  for (const call of JSON.parse(fs.readFileSync(0, "utf8"))) {
    answers.push(await post(client, call));
  }
  process.stdout.write(JSON.stringify(answers));
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
