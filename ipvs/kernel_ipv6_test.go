package ipvs

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// An IPv6 service is made, found right, changed, repaired, left to another life
// and removed. ipvsadm is the judge.
func TestKernelIPv6(t *testing.T) {
	n := newNamespace(t)
	table := n.open()
	path := filepath.Join(t.TempDir(), "owned")
	r := newLife(t, table, path)

	web := service(t, "TCP [2001:db8::100]:80", "rr", dest("[2001:db8::12]:80", DR, 1), dest("[2001:db8::13]:80", DR, 2))
	four := service(t, "TCP 10.0.0.100:80", "rr", dest("10.0.0.12:80", DR, 1))
	mustReconcile(t, r, []Service{web, four})
	noDiff(t, "ipvsadm -Sn", lines(`
-A -t [2001:db8::100]:80 -s rr
-a -t [2001:db8::100]:80 -r [2001:db8::12]:80 -g -w 1
-a -t [2001:db8::100]:80 -r [2001:db8::13]:80 -g -w 2
-A -t 10.0.0.100:80 -s rr
-a -t 10.0.0.100:80 -r 10.0.0.12:80 -g -w 1`), n.saved())
	noDiff(t, "read back", []Service{four, web}, mustRead(t, table))
	listed := n.ipvsadm("-Ln")
	for _, want := range []string{"\nTCP  [2001:db8::100]:80 rr", "\n  -> [2001:db8::12]:80            Route   1 "} {
		if !strings.Contains(listed, want) {
			t.Errorf("ipvsadm -Ln has no %q:\n%s", want, listed)
		}
	}
	noDiff(t, "second pass", Report{}, mustReconcile(t, r, []Service{web, four}))

	web.Persistence = 300 * time.Second
	web.Destinations = []Destination{dest("[2001:db8::12]:80", DR, 0), dest("[2001:db8::14]:80", TUN, 3)}
	report := mustReconcile(t, r, []Service{web, four})
	noDiff(t, "steps of the change", `-E -t [2001:db8::100]:80 -s rr -p 300
-a -t [2001:db8::100]:80 -r [2001:db8::14]:80 -i -w 3 --tun-type ipip
-e -t [2001:db8::100]:80 -r [2001:db8::12]:80 -g -w 0
-d -t [2001:db8::100]:80 -r [2001:db8::13]:80
`, Plan(report.Result.Done).String())
	right := printed([]Service{web, four})
	noDiff(t, "ipvsadm -Sn after the change", right, n.saved())

	n.ipvsadm("-E -t [2001:db8::100]:80 -s rr -p 300 -M 64")
	n.ipvsadm("-d -t [2001:db8::100]:80 -r [2001:db8::12]:80")
	report = mustReconcile(t, r, []Service{web, four})
	noDiff(t, "drift", []string{
		`service TCP [2001:db8::100]:80 was "-s rr -p 300 -M 64", left as "-s rr -p 300"`,
		"destination [2001:db8::12]:80 of TCP [2001:db8::100]:80 was missing",
	}, texts(report.Drift))
	noDiff(t, "ipvsadm -Sn after the repair", right, n.saved())

	report = mustReconcile(t, newLife(t, table, path), []Service{four})
	noDiff(t, "leftovers", []string{"TCP [2001:db8::100]:80"}, texts(report.Leftovers))
	noDiff(t, "ipvsadm -Sn after the removal", printed([]Service{four}), n.saved())
}

// A tunnel destination of the other family is drift like any other, and may be
// desired.
func TestKernelDestinationOfAnotherFamily(t *testing.T) {
	n := newNamespace(t)
	r := newLife(t, n.open(), filepath.Join(t.TempDir(), "owned"))
	four := service(t, "TCP 10.0.0.100:80", "rr", dest("10.0.0.12:80", TUN, 1))
	six := service(t, "TCP [2001:db8::100]:80", "rr", dest("[2001:db8::12]:80", TUN, 1))
	mustReconcile(t, r, []Service{four, six})
	right := n.saved()
	n.ipvsadm("-a -t 10.0.0.100:80 -r [2001:db8::12]:80 -i")
	n.ipvsadm("-a -t [2001:db8::100]:80 -r 10.0.0.12:80 -i")
	odd := n.saved()
	report := mustReconcile(t, r, []Service{four, six})
	noDiff(t, "drift", []string{
		"destination [2001:db8::12]:80 of TCP 10.0.0.100:80 was not ours",
		"destination 10.0.0.12:80 of TCP [2001:db8::100]:80 was not ours",
	}, texts(report.Drift))
	noDiff(t, "ipvsadm -Sn", right, n.saved())

	four.Destinations = append(four.Destinations, dest("[2001:db8::12]:80", TUN, 1))
	six.Destinations = append([]Destination{dest("10.0.0.12:80", TUN, 1)}, six.Destinations...)
	mustReconcile(t, r, []Service{four, six})
	noDiff(t, "ipvsadm -Sn", odd, n.saved())
	mustReconcile(t, r, nil)
	noDiff(t, "ipvsadm -Sn after all was removed", []string{}, n.saved())
}
