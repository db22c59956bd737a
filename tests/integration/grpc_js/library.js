// The library of tests/protos/library.proto as users of grpc-js have it: proto-loader reads the
// file, protobuf.js reads and writes the messages.
"use strict";

const path = require("node:path");
const grpc = require("@grpc/grpc-js");
const protoLoader = require("@grpc/proto-loader");

// protobuf.js brings google/api/annotations.proto, and is where proto-loader finds it.
const beside = { paths: [require.resolve("@grpc/proto-loader")] };
const google = path.dirname(require.resolve("protobufjs/package.json", beside));

const Library = grpc.loadPackageDefinition(protoLoader.loadSync("library.proto", {
  includeDirs: [path.join(__dirname, "../../protos"), google],
  keepCase: true,
  longs: String,
  enums: String,
})).library.v1.Library;

// What the server answers: a book comes back as it was read.
const handlers = {
  CreateBook: (call, callback) => callback(null, call.request.book),
  GetBook: (call, callback) =>
    callback({ code: grpc.status.NOT_FOUND, details: `no book: ${call.request.name}` }),
  WatchBooks(call) {
    for (let at = 0; at < call.request.page_size; at++) call.write({ title: `t${at}`, size: at });
    call.end();
  },
  async AddBooks(call, callback) {
    const books = [];
    for await (const request of call.iterator({ destroyOnReturn: false })) books.push(request.book);
    callback(null, { books });
  },
};

module.exports = { Library, handlers };
