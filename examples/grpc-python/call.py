#!/usr/bin/env python3
"""Calls a function of tinyFaaS over gRPC. Reads the function's input and prints its
reply; what comes with the reply goes to standard error:

    echo hello | call.py echo
    call.py --how bytes --header 'Lab: 42' resize <photo.jpg >small.jpg

Needs grpcio 1.64 and protobuf 5.27, or later: pip install -r requirements.txt
"""

import argparse
import sys
from pathlib import Path

import grpc
from google.protobuf.duration_pb2 import Duration

# A program of your own may have copies of the stubs beside it instead.
sys.path.append(str(Path(__file__).resolve().parents[2] / "pkg" / "grpc" / "tinyfaas"))

import tinyfaas_v2_pb2 as v2  # noqa: E402
from tinyfaas_pb2 import Data  # noqa: E402
from tinyfaas_pb2_grpc import TinyFaaSStub  # noqa: E402
from tinyfaas_v2_pb2_grpc import TinyFaaSStub as TinyFaaSStubV2  # noqa: E402

# The server's own limit of a message; a client takes 4 MiB unless it is told.
MESSAGE_BYTES_MAX = 16 << 20
# The most of a streamed input that goes in one message.
PIECE_BYTES = 32 << 10
# How long the server is asked to wait for a result before it is asked again.
WAIT_S = 30


def open_channel(call):
    options = [("grpc.max_receive_message_length", MESSAGE_BYTES_MAX)]
    if call.ca_file is None:
        return grpc.insecure_channel(call.address, options)
    credentials = grpc.ssl_channel_credentials(call.ca_file.read_bytes())
    return grpc.secure_channel(call.address, credentials, options)


def text(channel, call):
    """By version 1: text in, text out, headers as metadata."""
    data = sys.stdin.buffer.read().decode()
    metadata = [(name.lower(), value) for name, value in call.header]
    reply = TinyFaaSStub(channel).Request(
        Data(functionIdentifier=call.function, data=data), timeout=call.timeout, metadata=metadata
    )
    sys.stdout.buffer.write(reply.response.encode())


def whole(channel, call):
    """By version 2, with the whole input and the whole reply at once."""
    request = head(call, sys.stdin.buffer.read())
    show(TinyFaaSStubV2(channel).Invoke(request, timeout=call.timeout))


def stream(channel, call):
    """By version 2: sends the input as it is read, prints the reply as it comes."""

    def pieces():
        yield v2.InvokeStreamRequest(head=head(call))
        while piece := sys.stdin.buffer.read1(PIECE_BYTES):
            yield v2.InvokeStreamRequest(body=piece)

    for message in TinyFaaSStubV2(channel).InvokeStream(pieces(), timeout=call.timeout):
        if message.WhichOneof("part") == "head":
            show(message.head)
        else:
            sys.stdout.buffer.write(message.body)
            sys.stdout.buffer.flush()


def leave(channel, call):
    """By version 2: leaves the call with the server, and asks until it has ended."""
    stub = TinyFaaSStubV2(channel)
    request = head(call, sys.stdin.buffer.read())
    accepted = stub.InvokeAsync(request, timeout=call.timeout)
    print("accepted:", accepted.call_id, file=sys.stderr)
    while True:
        asked = v2.GetResultRequest(call_id=accepted.call_id, wait=Duration(seconds=WAIT_S))
        result = stub.GetResult(asked, timeout=call.timeout)
        if result.state == v2.GetResultResponse.STATE_SUCCEEDED:
            return show(result.response)
        if result.state not in (v2.GetResultResponse.STATE_WAITING, v2.GetResultResponse.STATE_RUNNING):
            state = v2.GetResultResponse.State.Name(result.state)
            sys.exit(f"{state}: {result.error.message}")


def head(call, body=b""):
    headers = [v2.Header(name=name, value=value.encode()) for name, value in call.header]
    return v2.InvokeRequest(function=call.function, headers=headers, body=body)


def show(reply):
    print("status:", reply.status, file=sys.stderr)
    for header in reply.headers:
        print(f"header: {header.name}: {header.value.decode(errors='replace')}", file=sys.stderr)
    sys.stdout.buffer.write(reply.body)
    sys.stdout.buffer.flush()


def header(line):
    name, colon, value = line.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError("a header is NAME: VALUE")
    return name, value.strip()


WAYS = {"text": text, "bytes": whole, "stream": stream, "async": leave}


def main():
    parser = argparse.ArgumentParser(description="Calls a function of tinyFaaS over gRPC.")
    parser.add_argument("function")
    parser.add_argument("--address", default="localhost:9000", help="where the server takes gRPC calls")
    parser.add_argument("--how", choices=WAYS, default="text", help="text is version 1 of the interface, the others version 2")
    parser.add_argument("--header", type=header, action="append", default=[], metavar="'NAME: VALUE'")
    parser.add_argument("--ca-file", type=Path, metavar="FILE", help="speak TLS, and trust the authorities in this PEM file")
    parser.add_argument("--timeout", type=float, default=300, help="in seconds")
    call = parser.parse_args()
    with open_channel(call) as channel:
        try:
            WAYS[call.how](channel, call)
        except grpc.RpcError as error:
            sys.exit(f"{error.code().name}: {error.details()}")


if __name__ == "__main__":
    main()
