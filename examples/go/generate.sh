#!/usr/bin/env bash
# Writes the Go stubs of signer.proto into a folder, by default signerpb/. PYTHON names an interpreter that has
# grpcio-tools (protoc) and googleapis-common-protos; the plugins are the tools that go.mod pins.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
out="$(realpath "${1:-signerpb}")"
python="${PYTHON:-../../.venv/bin/python}"
proto=byok/signer/v1/signer.proto

# The .proto names no package of any language; each user has one of their own.
mapping="M$proto=example.com/byok-sign/signerpb"
plugins="$(mktemp -d)"
trap 'rm -rf "$plugins"' EXIT
go build -o "$plugins/" tool
mkdir -p "$plugins/$(dirname "$proto")" "$out"
cp ../../api/byok_api/signer/v1/signer.proto "$plugins/$proto"
common="$("$python" -c 'import google.rpc; print(next(iter(google.rpc.__path__)) + "/../..")')"
PATH="$plugins:$PATH" "$python" -m grpc_tools.protoc \
  --proto_path="$plugins" --proto_path="$common" \
  --go_out="$out" --go_opt="module=example.com/byok-sign/signerpb,$mapping" \
  --go-grpc_out="$out" --go-grpc_opt="module=example.com/byok-sign/signerpb,$mapping" \
  "$proto"
