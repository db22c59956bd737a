// A server of grpc-js that does what the one of tests/grpc_services.py does; it has a library too.
//
//   node server.js [CERTIFICATE KEY]
//
// It prints JSON, one object a line: {port}; {call, method, metadata} for a call that has come,
// {ended, cancelled} for one that is over. A line on stdin is answered with {mark}: all calls that
// had come before it have been printed. Those to the library are not. It serves until stdin ends.
"use strict";

const assert = require("node:assert");
const fs = require("node:fs");
const readline = require("node:readline");
const grpc = require("@grpc/grpc-js");
const { ECHO_INITIAL, ECHO_TRAILING, OPTIONS, TestService } = require("./service.js");
const library = require("./library.js");

// Writes to a pipe are done when they return: what is printed here is there before the client sees
// what comes of the call.
const print = (line) => process.stdout.write(JSON.stringify(line) + "\n");

let calls = 0;

// Prints that the call has come; returns what prints, once, that it is over.
function announce(call, method) {
  const number = calls++;
  const metadata = Object.fromEntries(
    Object.entries(call.metadata.getMap()).map(([name, value]) =>
      [name, Buffer.isBuffer(value) ? value.toString("base64") : value])
  );
  print({ call: number, method, metadata });
  let over = false;
  const end = (cancelled) => {
    if (!over) print({ ended: number, cancelled });
    over = true;
  };
  call.on("cancelled", () => end(true));
  const initial = call.metadata.get(ECHO_INITIAL);
  if (initial.length) {
    const sent = new grpc.Metadata();
    sent.set(ECHO_INITIAL, initial[0]);
    call.sendMetadata(sent);
  }
  return () => end(false);
}

function trailing(call) {
  const sent = new grpc.Metadata();
  for (const value of call.metadata.get(ECHO_TRAILING)) sent.set(ECHO_TRAILING, value);
  return sent;
}

// What a request asks for; throws the status that it wants to have.
function wanted(request) {
  const asked = JSON.parse(request);
  if (asked.code) throw { code: asked.code, details: asked.message };
  return asked;
}

// A handler that gets one answer together: `answer` is given the call.
const unary = (method, answer) => (call, callback) => {
  const end = announce(call, method);
  answer(call).then(
    (message) => callback(null, message, trailing(call)),
    (error) => callback(error)
  ).finally(end);
};

// A handler that yields the answers one after the other, no faster than they are taken.
const stream = (method, answers) => async (call) => {
  const end = announce(call, method);
  try {
    for await (const answer of answers(call)) {
      if (!call.write(answer)) await new Promise((resolve) => call.once("drain", resolve));
    }
    call.end(trailing(call));
  } catch (error) {
    call.emit("error", error);
  }
  end();
};

// The requests of a stream. Without the option their end would be that of the answers too.
const requests = (call) => call.iterator({ destroyOnReturn: false });

const never = () => new Promise(() => {});

const handlers = {
  EmptyCall: unary("EmptyCall", async (call) => {
    assert.equal(call.request.length, 0);
    return Buffer.alloc(0);
  }),
  UnaryCall: unary("UnaryCall", async (call) => Buffer.alloc(wanted(call.request).size ?? 0)),
  StreamingOutputCall: stream("StreamingOutputCall", async function* (call) {
    for (const size of wanted(call.request).sizes) yield Buffer.alloc(size);
  }),
  StreamingInputCall: unary("StreamingInputCall", async (call) => {
    let total = 0;
    for await (const request of requests(call)) total += request.length;
    return Buffer.from(`{"total": ${total}}`);
  }),
  FullDuplexCall: stream("FullDuplexCall", async function* (call) {
    for await (const request of requests(call)) {
      const asked = wanted(request);
      yield Buffer.alloc(asked.size ?? 0);
      if (asked.wait) await never();
    }
  }),
  Silent: stream("Silent", async function* () {
    await never();
  }),
};

const [certificate, key] = process.argv.slice(2).map((file) => fs.readFileSync(file));
const credentials = certificate
  ? grpc.ServerCredentials.createSsl(null, [{ cert_chain: certificate, private_key: key }])
  : grpc.ServerCredentials.createInsecure();

const server = new grpc.Server(OPTIONS);
server.addService(TestService, handlers);
server.addService(library.Library.service, library.handlers);
server.bindAsync("127.0.0.1:0", credentials, (error, port) => {
  if (error) throw error;
  print({ port });
});
readline.createInterface({ input: process.stdin })
  .on("line", () => print({ mark: true }))
  .on("close", () => process.exit(0));
