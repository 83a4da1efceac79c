# trinas: `make` lists what can be made.
#
# A target's comment after ## is its line in that list. Packages that targets need are installed by
# packaging/deps.sh, as root or by sudo, when they are missing.

GO          ?= go
STATICCHECK ?= honnef.co/go/tools/cmd/staticcheck@v0.8.2

# Debian packages by target. WEB_PACKAGES: tests of the web page, which are skipped without.
RULES_PACKAGES = prometheus
RACE_PACKAGES  = gcc libc6-dev
WEB_PACKAGES   = chromium
DRILL_PACKAGES = iproute2
DEMO_PACKAGES  = iproute2 qemu-utils qemu-block-extra e2fsprogs
BENCH_PACKAGES = iproute2 util-linux qemu-utils qemu-block-extra mount nfs-ganesha nfs-ganesha-vfs nfs-ganesha-gluster glusterfs-server rpcbind user-mode-linux fio e2fsprogs
E2E_PACKAGES   = iproute2 procps util-linux user-mode-linux mount nfs-common rpcbind fio sqlite3 git python3 e2fsprogs qemu-utils qemu-block-extra qemu-system-x86 kmod xz-utils stress-ng dbench bonnie++
PLUGIN_PACKAGES = perl libjson-perl libperl-critic-perl
DEB_PACKAGES   = dpkg-dev debhelper fakeroot lintian man-db systemd
APT_PACKAGES   = apt-utils gpg gpg-agent gpgconf
BOOT_PACKAGES  = $(DEB_PACKAGES) $(APT_PACKAGES) iproute2 util-linux systemd-container mmdebstrap e2fsprogs mount user-mode-linux

.DEFAULT_GOAL = help
.PHONY: help build test lint rules race sim plugin-test demo drill-local bench bench-quick e2e deb apt-repo boot copyright deps tidy clean FORCE

help:
	@awk -F ':.*## ' '/^[a-z][a-z0-9-]*:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: build/trinas ## the one binary: build/trinas

# The go command knows best what is up to date.
build/trinas: FORCE
	$(GO) build -o $@ ./agent

build/demo build/drill build/bench build/e2e build/boot: build/%: FORCE
	$(GO) build -o $@ ./packaging/$*

test: lint plugin-test ## gofmt, vet, staticcheck, all tests; as root also the quick scenarios of e2e
	$(GO) test ./...
	@if [ "$$(id -u)" = 0 ] || command -v promtool >/dev/null; then $(MAKE) --no-print-directory rules; \
	else echo "left out: the alert rules, which need promtool (make rules)"; fi
	@if [ "$$(id -u)" = 0 ] && [ -c /dev/net/tun ]; then $(MAKE) --no-print-directory e2e E2E_FLAGS=-quick; \
	else echo "left out: the scenarios with a Linux NFS client, which need root and /dev/net/tun (make e2e)"; fi

lint: ## gofmt, vet and staticcheck
	@files=$$(gofmt -l .); if [ -n "$$files" ]; then echo "gofmt -w $$files" >&2; exit 1; fi
	@if grep -nE '^  .{79,}' debian/changelog; then echo "debian/changelog: at most 80 characters a line (lintian)" >&2; exit 1; fi
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...

rules: ## the alert rules for Prometheus, by promtool
	packaging/deps.sh $(RULES_PACKAGES)
	promtool check rules packaging/grafana/trinas-rules.yml
	promtool test rules packaging/grafana/trinas-rules-test.yml

race: ## all tests with the race detector
	packaging/deps.sh $(RACE_PACKAGES)
	CGO_ENABLED=1 $(GO) test -race -short ./...

SEEDS ?= 100
FIRST ?= 1
sim: ## whole clusters in virtual time: SEEDS=n seeds from FIRST=x on
	SEEDS=$(SEEDS) FIRST=$(FIRST) $(GO) test -count 1 -timeout 60m ./replica/sim -run TestSim

# PVE_PERL=DIR:DIR... runs the tests over the real classes of Proxmox VE that are there.
plugin-test: ## the Proxmox storage plugin: perl -Tc, perlcritic, its tests (plugin/README.md)
	packaging/deps.sh $(PLUGIN_PACKAGES)
	for f in $$(find plugin/PVE plugin/Trinas -name '*.pm'); do perl -T -Iplugin -Iplugin/t/standin -c $$f || exit 1; done
	perlcritic --quiet --severity 4 plugin
	prove -j 3 plugin/t

demo: build/trinas build/demo ## three agents keep a disk image alive while their primary is killed
	packaging/deps.sh $(DEMO_PACKAGES)
	build/demo -binary build/trinas $(DEMO_FLAGS)

drill-local: build/trinas build/drill ## trinas drill on three agents: what losing a node costs (DRILL_FLAGS="-kill 3")
	packaging/deps.sh $(DRILL_PACKAGES)
	build/drill -binary build/trinas $(DRILL_FLAGS)

bench: build/trinas build/bench ## speed beside nfs-ganesha's and GlusterFS' (as root; BENCH_FLAGS=-quick: a short run)
	packaging/deps.sh $(BENCH_PACKAGES)
	build/bench -binary build/trinas $(BENCH_FLAGS)

bench-quick: build/trinas build/bench ## the same in two minutes, beside the ratios of this machine's first such run
	packaging/deps.sh $(BENCH_PACKAGES)
	build/bench -binary build/trinas -client qemu -gluster=false -seconds 1 -image 256 -guard build/bench-quick.json $(BENCH_FLAGS)

e2e: build/trinas build/e2e ## scenarios with a real Linux NFS client: all, or S="name ..." (E2E_FLAGS="-quick -v")
	packaging/deps.sh $(E2E_PACKAGES)
	test -d build/kernel || packaging/kernel.sh build/kernel
	build/e2e -binary build/trinas $(E2E_FLAGS) $(S)

ARCH ?= $(shell dpkg --print-architecture)
deb: ## the Debian package, checked by lintian, in build/deb (ARCH=arm64 for the other machine)
	packaging/deps.sh $(DEB_PACKAGES)
	packaging/deb.sh $(ARCH)

apt-repo: deb ## a signed apt repository of that package in build/apt, with a key made for the test
	packaging/deps.sh $(APT_PACKAGES)
	packaging/aptrepo.sh build/apt build/deb/trinas_$(VERSION)_$(ARCH).deb

VERSION = $(shell dpkg-parsechangelog -S Version)
boot: build/boot deb ## apt install, set-up, upgrade, removal on three booted Debian systems (as root)
	packaging/deps.sh $(BOOT_PACKAGES)
	packaging/deb.sh $(ARCH) $(VERSION)+boot1
	build/boot -older build/deb/trinas_$(VERSION)_$(ARCH).deb -newer build/deb/trinas_$(VERSION)+boot1_$(ARCH).deb $(BOOT_FLAGS)

copyright: ## debian/copyright, when other modules are linked than before
	$(GO) run ./packaging/copyright >build/copyright
	mv build/copyright debian/copyright

deps: ## install the Debian packages that the targets above need
	packaging/deps.sh $(sort $(RULES_PACKAGES) $(RACE_PACKAGES) $(WEB_PACKAGES) $(DEMO_PACKAGES) $(DRILL_PACKAGES) $(BENCH_PACKAGES) $(E2E_PACKAGES) $(PLUGIN_PACKAGES) $(BOOT_PACKAGES))

tidy: ## go.mod, go.sum and the form of all Go files
	$(GO) mod tidy
	gofmt -w agent nfsgw replica packaging

clean: ## remove what was built
	rm -rf build
