package ipvsadm

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"pgregory.net/rapid"

	"github.com/zklvs/zklvs/ipvs"
)

// inNamespace runs f on a thread of its own in a new network namespace with lo
// up. It skips, loudly, where there is no IPVS.
func inNamespace(t *testing.T, f func() error) {
	t.Helper()
	if _, err := os.Stat("/proc/net/ip_vs"); err != nil && exec.Command("modprobe", "-q", "ip_vs").Run() != nil {
		t.Skip("SKIP: this kernel has no ip_vs: run through deploy/kernel/with-ipvs")
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ns, err := netns.New()
		if err == nil {
			defer ns.Close()
			err = loUp()
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func loUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

// ipvsadm runs the real one and returns what it printed.
func ipvsadm(input string, args ...string) (string, error) {
	cmd := exec.Command("ipvsadm", args...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("ipvsadm %v: %w: %s\n%s", args, err, out, input)
	}
	return string(out), nil
}

// restore empties the table, plays rules and returns what then stands there.
func restore(rules string) (string, error) {
	_, err := ipvsadm("", "-C")
	if err == nil {
		_, err = ipvsadm(rules, "-R")
	}
	if err != nil {
		return "", err
	}
	return ipvsadm("", "-S", "-n")
}

// What Format prints, ipvsadm -R makes and ipvsadm -S -n prints again, byte for
// byte; Parse reads it as the table that it was.
func TestKernelIpvsadmReadsAndPrintsTheSame(t *testing.T) {
	tables := rapid.Custom(drawTable)
	inNamespace(t, func() error {
		for seed := range 25 {
			table := tables.Example(seed)
			want := format(t, table)
			got, err := restore(want)
			if err != nil {
				return err
			}
			if d := cmp.Diff(strings.SplitAfter(want, "\n"), strings.SplitAfter(got, "\n")); d != "" {
				t.Errorf("seed %d: ipvsadm -S -n prints another table (-ours +its):\n%s", seed, d)
			}
			if d := cmp.Diff(table, parse(t, got), sameTable...); d != "" {
				t.Errorf("seed %d: read back (-want +got):\n%s", seed, d)
			}
		}
		return nil
	})
}

// A table has the same meaning in text and in the kernel, whichever of us and
// ipvsadm writes it.
func TestKernelTextAndTable(t *testing.T) {
	tables := rapid.Custom(func(t *rapid.T) []ipvs.Service {
		table := drawTable(t)
		drawThresholds(t, table)
		return table
	})
	inNamespace(t, func() error {
		kernel, err := ipvs.Open()
		if err != nil {
			return err
		}
		defer kernel.Close()
		for seed := range 25 {
			table := tables.Example(seed)
			saved, err := restore(format(t, table))
			if err != nil {
				return err
			}
			read, err := kernel.Services()
			if err != nil {
				return err
			}
			if d := cmp.Diff(table, read, sameTable...); d != "" {
				t.Errorf("seed %d: what ipvsadm -R made of our text (-want +read):\n%s", seed, d)
			}
			if _, err := ipvsadm("", "-C"); err != nil {
				return err
			}
			if _, err := kernel.Apply(t.Context(), ipvs.Diff(table, nil, nil)); err != nil {
				return err
			}
			again, err := ipvsadm("", "-S", "-n")
			if d := cmp.Diff(saved, again); d != "" || err != nil {
				t.Errorf("seed %d: error %v; ipvsadm -S -n of what we wrote (-ipvsadm wrote +we wrote):\n%s", seed, err, d)
			}
		}
		return nil
	})
}

// Thresholds reach the kernel, though ipvsadm -S does not print them.
func TestKernelThresholds(t *testing.T) {
	inNamespace(t, func() error {
		saved, err := restore("-A -t 10.0.0.1:80 -s rr\n-a -t 10.0.0.1:80 -r 10.0.0.2:80 -g -w 1 -x 9 -y 4\n-a -t 10.0.0.1:80 -r 10.0.0.3:80 -i -w 1 --tun-type ipip -x 2147483647\n")
		if err != nil {
			return err
		}
		if strings.Contains(saved, "-x") {
			t.Errorf("ipvsadm -S prints thresholds now: %s", saved)
		}
		listed, err := ipvsadm("", "-L", "-n", "--thresholds")
		if !strings.Contains(listed, "10.0.0.2:80                  9          4 ") || !strings.Contains(listed, "10.0.0.3:80                  2147483647 0 ") {
			t.Errorf("ipvsadm -Ln --thresholds:\n%s", listed)
		}
		return err
	})
}

// Where Parse says what ipvsadm -R does with a line, it does so.
func TestKernelSameVerdicts(t *testing.T) {
	const svc = "-A -t 10.0.0.1:80\n-a -t 10.0.0.1:80 -r 10.0.0.2 "
	lines := []string{
		"-A -t 10.0.0.1:80", "ipvsadm\t-At 10.0.0.1:80 -srr -p=7\r", "-A -t 10.0.0.1:80 -p -s rr", "-A -s sh -t 10.0.0.1:80 -b ,sh-port,", "-A -t 10.0.0.1 -p 3",
		"-A -t 2001:db8::1 -p 3\n-a -t 2001:db8::1 -r 2001:db8::2", "-A -t [2001:db8::1]", "-A -t [2001:db8::1]:80 -p 9 -M 64", "-A -t [2001:db8::1]:80 -p 9 -M 0", "-A -t [2001:db8::1]:80 -p 9 -M 129",
		"-A -t 10.0.0.1:80 -p 0", "-A -t 10.0.0.1:80 -p 2678400", "-A -t 10.0.0.1:80 -p 2678401", "-A -t 10.0.0.1:0", "-A -t 10.0.0.1:65536", "-A -t 10.0.0.1:",
		"-A -f 0", "-A -f 4294967295", "-A -f 4294967296", "-A -f 0x10", "-A -f 5 -6 -o", "-A -t 10.0.0.1:80 -6", "-A -t 10.0.0.1:80 -o", "-A -u 10.0.0.1:80 --ops --pe=sip",
		"-A -t 10.0.0.1:80 -s none", "-A -t 10.0.0.1:80 -s nosuch", "-A -t 10.0.0.1:80 -s sh -b mh-port", "-A -t 10.0.0.1:80 -b sh-port", "-A -t 10.0.0.1:80 -w 1", "-A -t 10.0.0.1:80 -A", "-t 10.0.0.1:80 -A", "-A", "-A -t",
		"-A -t 10.0.0.1:80 x", "-A -t 10.0.0.1:80 # x", "-A -t 10.0.0.1:80 --sched rr", "-A -t 10.0.0.1:80 -t 10.0.0.1:80",
		svc, svc + "-w 2147483647", svc + "-w 2147483648", svc + "-w -1", svc + "-m -i", svc + "-x 5 -y 5", svc + "-x 5 -y 6", svc + "-y 1", svc + "--tun-type ipip",
		svc + "-i --tun-type gue", svc + "-i --tun-type gue --tun-port 5 --tun-remcsum", svc + "-i --tun-type gue --tun-port 0", svc + "-i --tun-type gre --tun-csum", svc + "-i --tun-type gre --tun-remcsum",
		svc + "-i --tun-csum", svc + "-i --tun-type gue --tun-port 5 --tun-csum --tun-nocsum", svc + "\n-a -t 10.0.0.1:80 -r 10.0.0.2", svc + "\n-E -t 10.0.0.1:80 -s sh -p\n-e -t 10.0.0.1:80 -r 10.0.0.2 -m",
		svc + "\n-d -t 10.0.0.1:80 -r 10.0.0.2", svc + "\n-D -t 10.0.0.1:80\n-A -t 10.0.0.1:80 -s rr", svc + "\n-C", "-D -t 10.0.0.1:80", "-E -t 10.0.0.1:80", "-a -t 10.0.0.1:80 -r 10.0.0.2",
		"-A -f 5\n-a -f 5 -r 10.0.0.2:81\n-a -f 5 -r 10.0.0.2", "-A -f 5 -6\n-a -f 5 -6 -r 10.0.0.2 -i\n-a -f 5 -6 -r [2001:db8::1]:0", "-A -f 5 -6\n-a -f 5 -6 -r 10.0.0.2 -m",
	}
	inNamespace(t, func() error {
		for _, text := range lines {
			table, ours := Parse("rules", strings.NewReader(text))
			saved, its := restore(text + "\n")
			var failed *exec.ExitError
			switch {
			case its != nil && !errors.As(its, &failed):
				return its
			case (ours == nil) != (its == nil):
				t.Errorf("%q: we say %v, ipvsadm says %v", text, ours, its)
			case ours == nil:
				for i := range table { // ipvsadm -S prints no thresholds
					for j := range table[i].Destinations {
						table[i].Destinations[j].Upper, table[i].Destinations[j].Lower = 0, 0
					}
				}
				if d := cmp.Diff(signed(format(t, table)), saved); d != "" {
					t.Errorf("%q means (-ours +ipvsadm's):\n%s", text, d)
				}
			}
		}
		return nil
	})
}

// signed is how ipvsadm prints the highest firewall mark.
func signed(rules string) string { return strings.ReplaceAll(rules, "-f 4294967295", "-f -1") }
