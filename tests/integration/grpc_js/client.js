// The client of grpc-js: runs interop cases, or those of a library, against one address.
//
//   node client.js ADDRESS [CA]
//
// A line {case, metadata} on stdin runs the case of that name; what it prints when the case is over
// is {passed: true}, or {failed: why}. A case that is to be cancelled waits for another line before
// it does so. The client exits when stdin ends.
"use strict";

const assert = require("node:assert");
const fs = require("node:fs");
const readline = require("node:readline");
const grpc = require("@grpc/grpc-js");
const { ECHO_INITIAL, ECHO_TRAILING, OPTIONS, TestService, asItIs } = require("./service.js");
const { Library } = require("./library.js");

// Bytes, as in grpc's interop-test-descriptions.md.
const LARGE_REQUEST = 271828, LARGE_RESPONSE = 314159;
const REQUEST_SIZES = [27182, 8, 1828, 45904], RESPONSE_SIZES = [31415, 9, 2653, 58979];
const BOUND = 15_000; // milliseconds
const LONG = 4 * BOUND; // of calls that are cancelled, so that their deadline is not what ends them

const [address, ca] = process.argv.slice(2);
const credentials = ca
  ? grpc.credentials.createSsl(fs.readFileSync(ca))
  : grpc.credentials.createInsecure();

// A client on connections of its own, which repeats nothing.
function client(more, Client = grpc.makeClientConstructor(TestService, "TestService")) {
  const options = { ...OPTIONS, "grpc.enable_retries": 0, "grpc.use_local_subchannel_pool": 1 };
  if (ca) options["grpc.ssl_target_name_override"] = "gateway.test";
  return new Client(address, credentials, { ...options, ...more });
}

const plain = client({});
const library = client({}, Library);

// Does `work` by a client that compresses. It is a new one each time: grpc-js takes the
// "identity, deflate, gzip" of grpcio's grpc-accept-encoding, with blanks, for other names, and
// compresses no more on a channel on which it has read them (1.14).
async function compressing(algorithm, work) {
  const by = client({
    "grpc.default_compression_algorithm": grpc.compressionAlgorithms[algorithm],
  });
  try {
    await work(by);
  } finally {
    by.close();
  }
}

const soon = (milliseconds = BOUND) => ({ deadline: Date.now() + milliseconds });

// A request of at least `pad` bytes.
const ask = (asked = {}, pad = 0) => Buffer.from(JSON.stringify(asked).padEnd(pad));

// One answer: what came, the metadata around it, and the status.
const unary = (by, method, request, metadata) => new Promise((resolve) => {
  const seen = {};
  const call = by[method](request, metadata, soon(), (error, message) => { seen.message = message; });
  call.on("metadata", (initial) => { seen.initial = initial; });
  call.on("status", (status) => resolve({ ...seen, status }));
});

// All answers of a stream, and the same around them. An error is a status too.
const all = (call) => new Promise((resolve) => {
  const seen = { messages: [] };
  call.on("data", (message) => seen.messages.push(message));
  call.on("metadata", (initial) => { seen.initial = initial; });
  call.on("error", () => {});
  call.on("status", (status) => resolve({ ...seen, status }));
});

const sizes = (messages) => messages.map((message) => message.length);
const one = (call, event) => new Promise((resolve) => call.once(event, resolve));

function ended(seen, code, details) {
  assert.equal(seen.status.code, code, seen.status.details);
  if (details !== undefined) assert.equal(seen.status.details, details);
}

async function large(by, metadata) {
  const seen = await unary(by, "UnaryCall", ask({ size: LARGE_RESPONSE }, LARGE_REQUEST), metadata);
  ended(seen, grpc.status.OK);
  assert.deepEqual(seen.message, Buffer.alloc(LARGE_RESPONSE));
}

async function requests(by, metadata) {
  const answer = await new Promise((resolve, reject) => {
    const call = by.StreamingInputCall(metadata, soon(), (error, message) =>
      error ? reject(error) : resolve(message));
    for (const size of REQUEST_SIZES) call.write(Buffer.alloc(size));
    call.end();
  });
  assert.equal(JSON.parse(answer).total, 74922);
}

async function answers(by, metadata) {
  const seen = await all(by.StreamingOutputCall(ask({ sizes: RESPONSE_SIZES }), metadata, soon()));
  ended(seen, grpc.status.OK);
  assert.deepEqual(sizes(seen.messages), RESPONSE_SIZES);
}

// Both kinds of call, of which the service says that they end with `code` and `message`.
async function failing(code, message, metadata) {
  const request = ask({ code, message });
  ended(await unary(plain, "UnaryCall", request, metadata), code, message);
  const call = plain.FullDuplexCall(metadata, soon());
  call.end(request);
  ended(await all(call), code, message);
}

async function unimplemented(path, metadata) {
  const error = await new Promise((resolve) =>
    plain.makeUnaryRequest(path, asItIs, asItIs, ask(), metadata, soon(), resolve));
  assert.equal(error?.code, grpc.status.UNIMPLEMENTED);
}

// `told` resolves with the next line of stdin.
const cases = {
  async empty_unary(metadata) {
    const seen = await unary(plain, "EmptyCall", Buffer.alloc(0), metadata);
    ended(seen, grpc.status.OK);
    assert.equal(seen.message.length, 0);
  },
  large_unary: (metadata) => large(plain, metadata),
  large_unary_gzip: (metadata) => compressing("gzip", (by) => large(by, metadata)),
  large_unary_deflate: (metadata) => compressing("deflate", (by) => large(by, metadata)),
  client_streaming: (metadata) => requests(plain, metadata),
  client_streaming_gzip: (metadata) => compressing("gzip", (by) => requests(by, metadata)),
  server_streaming: (metadata) => answers(plain, metadata),
  server_streaming_gzip: (metadata) => compressing("gzip", (by) => answers(by, metadata)),
  // Each answer has to be there before the next request is sent.
  async ping_pong(metadata) {
    const call = plain.FullDuplexCall(metadata, soon());
    const over = one(call, "status");
    for (const [at, size] of RESPONSE_SIZES.entries()) {
      call.write(ask({ size }, REQUEST_SIZES[at]));
      assert.equal((await one(call, "data")).length, size);
    }
    call.end();
    ended({ status: await over }, grpc.status.OK);
  },
  async empty_stream(metadata) {
    const call = plain.FullDuplexCall(metadata, soon());
    call.end();
    const seen = await all(call);
    ended(seen, grpc.status.OK);
    assert.deepEqual(seen.messages, []);
  },
  async custom_metadata(metadata) {
    const value = Buffer.from([0xab, 0xab, 0xab]);
    metadata.set(ECHO_INITIAL, "test_initial_metadata_value");
    metadata.set(ECHO_TRAILING, value);
    const call = plain.FullDuplexCall(metadata, soon());
    call.end(ask({ size: 1 }));
    const both = [unary(plain, "UnaryCall", ask({ size: 1 }), metadata), all(call)];
    for (const seen of await Promise.all(both)) {
      ended(seen, grpc.status.OK);
      assert.deepEqual(seen.initial.get(ECHO_INITIAL), ["test_initial_metadata_value"]);
      assert.deepEqual(seen.status.metadata.get(ECHO_TRAILING), [value]);
    }
  },
  status_code_and_message: (metadata) =>
    failing(grpc.status.UNKNOWN, "test status message", metadata),
  special_status_message: (metadata) => failing(grpc.status.UNKNOWN,
    "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n", metadata),
  unimplemented_method: (metadata) =>
    unimplemented("/grpc.testing.TestService/UnimplementedCall", metadata),
  unimplemented_service: (metadata) =>
    unimplemented("/grpc.testing.UnimplementedService/EmptyCall", metadata),
  async cancel_after_begin(metadata, told) {
    let call;
    const error = new Promise((resolve) => {
      call = plain.StreamingInputCall(metadata, soon(LONG), resolve);
    });
    await told();
    call.cancel();
    assert.equal((await error).code, grpc.status.CANCELLED);
  },
  async cancel_after_first_response(metadata) {
    const call = plain.FullDuplexCall(metadata, soon(LONG));
    const seen = all(call);
    call.write(ask({ size: 31415, wait: true }, 27182));
    await one(call, "data");
    call.cancel();
    ended(await seen, grpc.status.CANCELLED);
    assert.deepEqual(sizes((await seen).messages), [31415]);
  },
  async cancel_of_a_call_that_waits(metadata, told) {
    const call = plain.Silent(metadata, soon(LONG));
    const seen = all(call);
    await told();
    call.cancel();
    ended(await seen, grpc.status.CANCELLED);
  },
  async timeout_on_sleeping_server(metadata) {
    const call = plain.Silent(metadata, soon(200));
    const seen = all(call);
    call.write(Buffer.alloc(27182));
    ended(await seen, grpc.status.DEADLINE_EXCEEDED);
  },
  // Many more than streams that the gateway takes on one connection.
  async calls_at_the_same_time(metadata) {
    const wanted = [...Array(300).keys()];
    const seen = await Promise.all(
      wanted.map((size) => unary(plain, "UnaryCall", ask({ size }), metadata)));
    for (const one of seen) ended(one, grpc.status.OK);
    assert.deepEqual(sizes(seen.map((one) => one.message)), wanted);
  },
  // What tests/library_server.py has in every book; of "zipped" it compresses the message.
  async books(metadata) {
    for (const [name, title] of [["emma", "Emma"], ["zipped", "é".repeat(2000)]]) {
      const seen = await unary(library, "GetBook", { name }, metadata);
      ended(seen, grpc.status.OK);
      assert.deepEqual(seen.initial.get("x-cost"), ["3"]);
      assert.deepEqual({ ...seen.message }, {
        name,
        title,
        genre: "NOVEL",
        size: "9007199254740993",
        cover: Buffer.from([0xff, 0x00]),
        added: { seconds: "1700000000" },
        loan: { seconds: "1", nanos: 500_000_000 },
        pages: { value: "5" },
        extra: { fields: { a: { boolValue: true } } },
        stock: { here: 2 },
      });
    }
    const book = { title: "Ulisses", volumes: { 7: { name: "J", born: -1882 } }, tags: ["a"] };
    const request = { shelf: "s", book, dry_run: true };
    const created = await unary(library, "CreateBook", request, metadata);
    ended(created, grpc.status.OK);
    assert.deepEqual(created.message, { ...book, tags: ["a", "s", "True"] });
  },
  async streams_of_books(metadata) {
    const watched = library.WatchBooks({ shelf: "burning", page_size: 3 }, metadata, soon());
    const seen = await all(watched);
    ended(seen, grpc.status.DATA_LOSS, "the roof is gone");
    assert.deepEqual(seen.messages, [{ title: "t0" }, { title: "t1" }, { title: "t2" }]);
    const added = await new Promise((resolve, reject) => {
      const call = library.AddBooks(metadata, soon(), (error, message) =>
        error ? reject(error) : resolve(message));
      for (const title of ["t0", "t1"]) call.write({ shelf: "s", book: { title } });
      call.end();
    });
    assert.deepEqual(added, { books: [{ title: "t0" }, { title: "t1" }] });
  },
  // The details of a status are a message too, in binary metadata.
  async failures_with_details(metadata) {
    ended(await unary(library, "GetBook", { name: "missing" }, metadata),
      grpc.status.NOT_FOUND, "no book: missing");
    const busy = await unary(library, "GetBook", { name: "busy" }, metadata);
    ended(busy, grpc.status.UNAVAILABLE, "later");
    const [details] = busy.status.metadata.get("grpc-status-details-bin");
    for (const wanted of ["later", "google.rpc.RetryInfo", "google.rpc.BadRequest", "is busy"]) {
      assert.ok(details.includes(wanted), wanted);
    }
  },
};

async function main() {
  const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  for (let line = await lines.next(); !line.done; line = await lines.next()) {
    const asked = JSON.parse(line.value);
    const metadata = new grpc.Metadata();
    for (const [name, value] of Object.entries(asked.metadata)) metadata.set(name, value);
    let answer = { passed: true };
    try {
      await cases[asked.case](metadata, () => lines.next());
    } catch (error) {
      answer = { failed: error.stack ?? String(error) };
    }
    process.stdout.write(JSON.stringify(answer) + "\n");
  }
  process.exit(0);
}

main();
