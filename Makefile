# make test     every test: race detector, both stores, a real browser
# make lint     formatting, vet, staticcheck
# make bench    whole logins, refreshes, introspections against a broker process
# go test ./... is the quick lane, and needs nothing but Go.

BIN := $(CURDIR)/.cache/bin
GO  ?= go
# A module of its own, so that nobody who uses the broker or its middleware takes along what it needs.
MCP := examples/mcp

.PHONY: build test quick lint bench fuzz clean

build:
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/portico ./cmd/portico

quick:
	$(GO) test ./...
	$(GO) -C $(MCP) test ./...

test:
	@.ci/test

lint: $(BIN)/staticcheck $(BIN)/gofumpt
	@unformatted=$$(git ls-files -z --cached --others --exclude-standard '*.go' | xargs -0 $(BIN)/gofumpt -l); \
	  if [ -n "$$unformatted" ]; then echo "not formatted (run gofumpt -w):"; echo "$$unformatted"; exit 1; fi
	@for module in . $(MCP); do echo "lint $$module" && \
	  (cd $$module && $(GO) mod verify >/dev/null && $(GO) vet ./... && $(BIN)/staticcheck ./...) || exit 1; done

$(BIN)/staticcheck $(BIN)/gofumpt: tools/go.mod tools/go.sum
	cd tools && $(GO) build -o $(BIN)/ honnef.co/go/tools/cmd/staticcheck mvdan.cc/gofumpt

bench:
	$(GO) run ./cmd/bench

# Each fuzz target for FUZZTIME; the seeds run with every test.
FUZZTIME ?= 60s
fuzz:
	@.ci/fuzz $(FUZZTIME)

clean:
	rm -rf bin .cache
