# Lifeboat: one command each. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
DOCS_VENV := .cache/docs-venv
SUPPLY_VENV := .cache/supply-venv
PYTHON ?= python3
SCENARIO ?= database
export PATH := $(BIN):$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
# The lab's hosts are made before there is an inventory of them.
export ANSIBLE_LOCALHOST_WARNING := False
export ANSIBLE_INVENTORY_UNPARSED_WARNING := False

.PHONY: help setup demo quick test release style lint tools unit unit-quick browser objects rgw attacks awx server integration molecule \
	compat ids ids-write lock pin audit collection engine lab lab-down drill pulled docs site bench bench-recovery fuzz clean

help: ## List the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(VENV)/.ready ## Make the virtual environment and put the collection on Ansible's path

$(VENV)/.ready: requirements.lock tests/lab/setup.sh tests/supply/venv.sh
	@tests/lab/setup.sh "$(PYTHON)" "$(VENV)"
	@touch $@

demo: lab ## Lose a database and get it back, on the lab, from nothing
	@tests/lab/demo.sh

quick: setup ## Before every commit: style, types and the unit tests but the slow ones, in a minute and a half
	@tests/suites.sh style+unit-quick

# Apt is asked by one suite at a time: for tools and the engine first, then for the browser and the objects, which share a lane. The hosts, which
# wait most of the time, leave enough of two cores for two lanes of the other suites.
test: setup ## What CI runs first: lint, unit, browser, objects, attacks, fuzz, awx, a foreign server, Molecule
	@tests/suites.sh tools+engine,style browser+objects+attacks+fuzz+awx,lint+unit+server,molecule

release: setup ## Everything there is, however long: make test, the longest scenarios, a keeper's drill, integration, other versions
	@LONG=1 tests/suites.sh tools+engine,style browser+objects+attacks+fuzz+awx+pulled+compat,lint+unit+ids+server+integration,molecule

style: setup
	ruff check .
	ruff format --check .
	mypy

lint: style ## Style, types, and every rule of ansible-lint's production profile
	for folder in integration objects testinfra awx bench attacks supply fuzz dashboards; do mypy --config-file tests/mypy.ini tests/$$folder || exit 1; done
	yamllint --strict .
	ansible-lint --offline -q
	antsibull-changelog lint
	python tests/supply/locks.py --check
	python tests/supply/pins.py --check
	python tests/supply/sbom.py --check
	python docs/generate.py --check
	python docs/generate_awx.py --check
	python docs/generate_evidence.py --check
	python docs/generate_site.py --check
	python docs/generate_architecture.py --check
	python docs/generate_dashboards.py --check
	python docs/generate_runbooks.py --check
	python docs/generate_examples.py --check
	python tests/dashboards/check.py
	@echo "lint: no warning"

unit: setup tools ## Fast tests of the core and the modules; LONG=1: each walk-through
	pytest -n auto --dist loadgroup $(if $(LONG),,-m 'not long') tests/unit

unit-quick: setup ## The unit tests that take less than half a second each
	pytest -n auto --dist loadgroup -m 'not slow and not long' tests/unit

browser: setup site ## The report and the docs in a real browser, on a phone and a desk; installs Chromium where it may
	tests/browser/setup.sh
	pytest tests/browser

# They wait for servers most of the time: more processes than cores.
objects: setup ## The core against real S3 servers, as plain processes; LONG=1: each of the cases
	pytest -n 4 --dist loadfile $(if $(LONG),,-m 'not long') tests/objects

# One node takes minutes to start, and its packages half a gigabyte.
rgw: setup ## Before each release: what any S3 server must do, on a Ceph RADOS Gateway; installs Ceph where it may
	tests/objects/rgw.sh
	S3_SERVER=ceph pytest -k ceph tests/objects

attacks: setup ## What an attacker can do, tried against Lifeboat and against what has no protection
	pytest -n 4 --dist loadfile tests/attacks

fuzz: setup ## Damaged files and answers, the same ones each time; OPERATIONS=20000 SEED=7: as many others
	pytest tests/fuzz

awx: setup ## The AWX role and the real modules against a stand-in of AWX's API; LONG=1: each of the cases
	pytest $(if $(LONG),,-m 'not long') tests/awx

server: engine ## A whole PostgreSQL server as somebody else made it, destroyed and recovered (two minutes; LONG=1: 10,000 tables)
	pytest tests/integration/test_server.py

integration: engine tools ## The core against real PostgreSQL servers in containers (fifteen minutes; part of make release)
	pytest tests/integration --ignore tests/integration/test_server.py

ids: setup ## Each test that was here at an earlier commit is still here, or replaced by others (tests/ids)
	python tests/ids/check.py

ids-write: setup ## Write tests/ids/now.txt: the tests that are here
	python tests/ids/check.py --list > tests/ids/.now
	mv tests/ids/.now tests/ids/now.txt

lock: setup $(SUPPLY_VENV)/.ready ## After a list of requirements has changed: write the locks and sbom.json; UPGRADE=1: the newest of what no list pins
	$(SUPPLY_VENV)/bin/python tests/supply/locks.py $(if $(UPGRADE),--upgrade)
	python tests/supply/sbom.py

pin: setup ## Ask the registries for the digests of the images that have none yet, and write them (tests/supply/unpinned.yml)
	python tests/supply/pins.py

audit: $(SUPPLY_VENV)/.ready ## Ask PyPI for known weaknesses of everything that is locked
	$(SUPPLY_VENV)/bin/python tests/supply/audit.py

# The same commit gives the same file, on any machine and at any time.
collection: setup ## Build the collection of the last commit into dist/, bit by bit the same each time; KEY=…: signed with that OpenPGP key
	python tests/supply/collection.py $(if $(KEY),--key "$(KEY)")

$(SUPPLY_VENV)/.ready: tests/supply/requirements.lock
	tests/supply/venv.sh "$(PYTHON)" $(SUPPLY_VENV) $<
	@touch $@

molecule: engine ## The playbooks against whole hosts
	tests/molecule.sh $(if $(LONG),--long)

compat: ## The built collection, and the oldest and the newest ansible-core; a deprecation fails
	@tests/compat/compat.sh

tools: setup ## age and zstd, which tests run: installed where they may be
	@tests/tools.sh

engine: setup
	@ansible-playbook molecule/shared/create.yml --tags engine,images

lab: setup ## Boot the lab: app1, vault1, spare1
	@tests/lab/standing.sh || { ansible-playbook molecule/shared/create.yml && \
		ansible-playbook -i inventories/lab molecule/shared/prepare.yml && tests/lab/standing.sh note; }

drill: lab ## Break the lab for real, recover, measure, prove: SCENARIO=database|...|all, FAULT=, SEED= (docs/drills.md)
	@tests/lab/drill.sh $(SCENARIO)

pulled: lab ## The loss of a site that a keeper pulls, as a drill on the lab, which is removed then (eight minutes)
	VAULT=pull tests/lab/drill.sh site
	@$(MAKE) --no-print-directory lab-down

docs: setup ## Write the pages that say what the code says, and AWX's job templates; build the site below .cache/site
	python docs/generate.py
	python docs/generate_awx.py
	python docs/generate_evidence.py
	python docs/generate_site.py
	python docs/generate_architecture.py
	python docs/generate_dashboards.py
	python docs/generate_runbooks.py
	python docs/generate_examples.py
	@$(MAKE) --no-print-directory site
	@echo "docs: python3 -m http.server --directory .cache/site 8000, then http://127.0.0.1:8000"

# A broken link, to a page or to a heading, fails; with --quiet mkdocs would count no warning.
site: $(DOCS_VENV)/.ready
	NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs build --strict

$(DOCS_VENV)/.ready: docs/requirements.lock
	tests/supply/venv.sh "$(PYTHON)" $(DOCS_VENV) $<
	@touch $@

lab-down: setup ## Remove the lab; its images stay
	@ansible-playbook molecule/shared/destroy.yml

bench: engine ## Measure against the seed's own script lines, side by side
	python tests/bench/bench.py $(BENCH)
	python tests/bench/continuous.py
	python tests/bench/objects.py
	python tests/bench/files.py
	python tests/bench/buckets.py
	python tests/bench/hosts.py
	python tests/bench/safety.py
	python tests/bench/many_stacks.py

bench-recovery: lab ## Lose the lab's database three times in each of three ways: the median of each phase
	@tests/lab/standing.sh forget
	python tests/bench/recovery_time.py $(BENCH)

clean: lab-down ## Remove the lab and the virtual environment
	rm -rf $(VENV) .ansible .lab
