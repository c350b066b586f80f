package lab

import (
	"os"
)

// testingT is the part of testing.TB that Require needs.
type testingT interface {
	Helper()
	Skip(args ...any)
	Fatal(args ...any)
}

// Require skips a kernel test that was started outside the kernel wrapper, and
// says how to run it. Inside the wrapper nothing may be missing: there it fails.
func Require(t testingT) {
	t.Helper()
	if os.Geteuid() != 0 || os.Getenv("ZKLVS_INSIDE") == "" {
		t.Skip("SKIP: needs root and namespaces of its own: run make test-kernel, or go test -exec deploy/kernel/with-ipvs")
	}
}

// RequireIPVS is Require, and wants ip_vs in this kernel.
func RequireIPVS(t testingT) {
	t.Helper()
	Require(t)
	if _, err := os.Stat("/proc/net/ip_vs"); err == nil {
		return
	}
	if os.Getenv("ZKLVS_KERNEL") == "host" && os.Getenv("ZKLVS_INSIDE") == "host" {
		t.Skip("SKIP: this kernel has no ip_vs and ZKLVS_KERNEL=host chose it: unset ZKLVS_KERNEL")
	}
	t.Fatal("this kernel has no ip_vs, which the kernel wrapper promises")
}
