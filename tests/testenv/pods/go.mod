module byok.dev/testenv/pods

go 1.26.0
