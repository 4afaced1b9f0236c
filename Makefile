# The documented ways in. What a target does stands in scripts/make/.
MAKEFLAGS += --no-print-directory
# Where rustup puts cargo, for a shell that has not been told.
export PATH := $(PATH):$(HOME)/.cargo/bin
# As arguments of make, too: make install PREFIX=/usr
export PROFILE PREFIX DESTDIR SYSTEMD_UNIT_DIR SYSUSERS_DIR BINARY

.DEFAULT_GOAL := help
.PHONY: help start build demo test proof bench fuzz check grpc install uninstall clean distclean

help: ## show this list
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/make \1|\2/p' Makefile | column -t -s '|' 2>/dev/null \
		|| sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/make \1: \2/p' Makefile

start: build ## build the server and run it here; Ctrl+C stops it
	@binary=$$(sh scripts/make/binary.sh) && exec "./$$binary"

build: ## build ./tinyfaas-linux-amd64 or ./tinyfaas-linux-arm64 (PROFILE=lean: with 1 GB of memory)
	@sh scripts/make/build.sh

demo: ## deploy and call the sample functions on a server of its own (KEEP=1 leaves it running)
	@sh scripts/make/demo.sh

test: ## run every test; the servers' output goes to tf_test.out
	@sh scripts/make/test.sh

proof: ## run what is too long for every change (SEED=, MINUTES=)
	@sh scripts/make/proof.sh

bench: build ## measure the server (BENCH= arguments)
	@cargo run --release --locked --package tinyfaas-bench -- $(BENCH)

fuzz: ## throw made-up input at every parser (FUZZ_SECONDS=60 each, TARGETS=all)
	@sh scripts/make/fuzz.sh

check: ## run the project's own checks: format, lints, licences, spelling
	@cargo xtask check

grpc: ## generate the stubs of pkg/grpc/tinyfaas anew, for Rust, Python and Go
	@sh scripts/make/grpc.sh

install: ## install the binary, its manual, completions and service (PREFIX=/usr/local, DESTDIR=)
	@sh scripts/make/install.sh

uninstall: ## remove what make install has installed (the same PREFIX and DESTDIR)
	@sh scripts/make/uninstall.sh

clean: ## remove what stopped or crashed servers have left, and ./tmp
	@sh scripts/make/clean.sh

distclean: clean ## remove what was built and installed here, too
	rm -rf target fuzz/target .venv .tools tinyfaas-linux-amd64 tinyfaas-linux-arm64 tf_test.out
