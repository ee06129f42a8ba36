// CRDs of others, whose objects the chart can make; only their YAML is used (tests/testenv/foreign_crds.py).
module byok.dev/testenv/crds

go 1.26.0

require (
	github.com/cert-manager/cert-manager v1.21.2
	github.com/prometheus-operator/prometheus-operator v0.85.0
)
