# Everything a contributor runs. `make` alone lists the targets.

GO         ?= go
FUZZTIME   ?= 20s
BENCHTIME  ?= 1s
BENCH      ?= .
DEMO_FLAGS ?=
# More flags for `go test`, such as TESTFLAGS='-run Watermark -count=10'.
TESTFLAGS  ?=
# More flags for golangci-lint, such as LINTFLAGS=--fix.
LINTFLAGS  ?=
PKG        ?= ./...

BINARY    := fraiseql-observer
MAIN      := ./cmd/fraiseql-observer
LINT      := $(GO) tool -modfile=tools/go.mod golangci-lint
PLATFORMS := linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@echo 'usage: make TARGET [VARIABLE=value]'
	@echo
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build bin/fraiseql-observer, static, for this machine
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/$(BINARY)$$($(GO) env GOEXE) $(MAIN)

.PHONY: demo
demo: build ## Run the demo; nothing to configure or install (DEMO_FLAGS='--duration 10s')
	@bin/$(BINARY)$$($(GO) env GOEXE) demo $(DEMO_FLAGS)

# The race detector needs cgo, that is a C compiler that works. Building
# runtime/cgo with it is the question itself, whatever the platform.
.PHONY: test
test: ## Run every test, with the race detector where a C compiler is there (PKG, TESTFLAGS)
	@if CGO_ENABLED=1 $(GO) build -race runtime/cgo >/dev/null 2>&1; then \
		race=-race; cgo=1; \
		echo 'test: every package, with the race detector'; \
	else \
		race=; cgo=0; \
		echo 'test: every package, without the race detector: it needs a C compiler (such as gcc) and found none that works'; \
	fi; \
	echo "CGO_ENABLED=$$cgo $(GO) test -timeout 30m $$race $(TESTFLAGS) $(PKG)"; \
	CGO_ENABLED=$$cgo $(GO) test -timeout 30m $$race $(TESTFLAGS) $(PKG)

.PHONY: test-race
test-race: ## Run every test with the race detector, or fail (PKG, TESTFLAGS)
	CGO_ENABLED=1 $(GO) test -race $(TESTFLAGS) $(PKG)

.PHONY: architecture
architecture: ## Check the layering and the habits of the tree
	$(GO) test -count=1 ./test/architecture/

.PHONY: vet
vet: ## Run go vet
	$(GO) vet ./...

.PHONY: lint
lint: ## Run golangci-lint; the first run builds it, some minutes (LINTFLAGS=--fix)
	@echo 'lint: golangci-lint from tools/go.mod; the first run compiles it'
	$(LINT) run $(LINTFLAGS) ./...

.PHONY: fmt
fmt: ## Format the tree: gofmt and sorted imports
	$(LINT) fmt ./...

.PHONY: fmt-check
fmt-check: ## Fail when a file is not gofmt clean
	@unformatted=$$("$$($(GO) env GOROOT)/bin/gofmt" -l .) || exit 1; \
	if [ -n "$$unformatted" ]; then \
		echo "not gofmt clean (run 'make fmt'):"; echo "$$unformatted"; exit 1; \
	fi; \
	echo 'fmt-check: gofmt clean'

.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZTIME (20s)
	@find . -name '*_test.go' -exec grep -HE '^func Fuzz[A-Za-z0-9_]*\(' {} + \
	| sed -E 's#^(.*)/[^/]*:func (Fuzz[A-Za-z0-9_]*).*#\1 \2#' | sort \
	| while read -r dir target; do \
		echo "fuzz: $$target in $$dir for $(FUZZTIME)"; \
		$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$dir" </dev/null || exit 1; \
	done

.PHONY: bench
bench: ## Run the benchmarks (BENCH='regexp', BENCHTIME=1s, PKG)
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchtime $(BENCHTIME) -benchmem $(PKG)

.PHONY: bench-river
bench-river: ## Measure durable deliveries against River on one server (BENCHTIME=5x)
	cd test/river && $(GO) test -run '^$$' -bench . -benchtime $(BENCHTIME) -timeout 60m .

.PHONY: cover
cover: ## Write cover.out over all packages and print the total
	$(GO) test -coverpkg=./... -coverprofile=cover.out ./...
	@$(GO) tool cover -func=cover.out | tail -n 1

.PHONY: cross
cross: ## Build every package for linux, darwin and windows, amd64 and arm64, without cgo
	@for platform in $(PLATFORMS); do \
		echo "cross: $$platform"; \
		CGO_ENABLED=0 GOOS=$${platform%/*} GOARCH=$${platform#*/} $(GO) build -o /dev/null ./... || exit 1; \
	done

.PHONY: tidy-check
tidy-check: ## Fail when go.mod or go.sum of a module is not tidy
	$(GO) mod tidy -diff
	cd tools && $(GO) mod tidy -diff

.PHONY: verify
verify: fmt-check vet lint architecture cross tidy-check test ## Everything that must hold before a change lands

.PHONY: clean
clean: ## Remove what the other targets built
	rm -rf bin cover.out
