// The service of the interop cases as grpc-js wants it described: four kinds of methods, whose
// messages are plain bytes, as in tests/grpc_services.py. So there are no protos to load.
"use strict";

const ECHO_INITIAL = "x-grpc-test-echo-initial";
const ECHO_TRAILING = "x-grpc-test-echo-trailing-bin";

const asItIs = (bytes) => bytes;

function method(name, requestStream, responseStream) {
  return {
    path: `/grpc.testing.TestService/${name}`,
    requestStream,
    responseStream,
    requestSerialize: asItIs,
    requestDeserialize: asItIs,
    responseSerialize: asItIs,
    responseDeserialize: asItIs,
  };
}

const TestService = {
  EmptyCall: method("EmptyCall", false, false),
  UnaryCall: method("UnaryCall", false, false),
  StreamingOutputCall: method("StreamingOutputCall", false, true),
  StreamingInputCall: method("StreamingInputCall", true, false),
  FullDuplexCall: method("FullDuplexCall", true, true),
  Silent: method("Silent", true, true),
};

// For both ends: no limit of a message's size, no proxy of the environment.
const OPTIONS = {
  "grpc.max_receive_message_length": -1,
  "grpc.max_send_message_length": -1,
  "grpc.enable_http_proxy": 0,
};

module.exports = { ECHO_INITIAL, ECHO_TRAILING, OPTIONS, TestService, asItIs };
