package realserver

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/zklvs/zklvs/fence"
)

// Problem is something that keeps this host from being a real server, and what
// to do about it.
type Problem struct{ What, Remedy string }

func (p Problem) String() string { return p.What + ": " + p.Remedy }

// Check lists what is wrong now and changes nothing.
func (a *Agent) Check() ([]Problem, error) {
	if err := a.validate(); err != nil {
		return nil, err
	}
	table, err := a.c.Kernel.Addresses()
	if err != nil {
		return nil, err
	}
	problems := a.checkLinks()
	arp, err := a.checkARP()
	if err != nil {
		return nil, err
	}
	problems = append(problems, arp...)
	for _, v := range a.c.VIPs {
		if !onLo(table, v) {
			problems = append(problems, Problem{fmt.Sprintf("VIP %v is not on lo", v), "run `zklvs realserver up`"})
		}
		for _, o := range table {
			if o.Prefix.Addr() == v && (o.Interface != "lo" || o.Prefix.Bits() != 32) {
				problems = append(problems, a.stray(o))
			}
		}
	}
	return problems, nil
}

// stray describes a VIP that is bound where or how it must not be.
func (a *Agent) stray(o fence.Address) Problem {
	what := fmt.Sprintf("VIP %v is bound on %s", o.Prefix, o.Interface)
	if o.Interface == "lo" {
		what += ": the whole subnet counts as this host's own"
	} else {
		what += ": this host answers ARP for it"
	}
	return Problem{what, fmt.Sprintf("unless this host is the holder, run `ip address del %v dev %s`", o.Prefix, o.Interface)}
}

func (a *Agent) checkLinks() []Problem {
	var problems []Problem
	for _, name := range []string{"lo", a.c.Interface} {
		l, err := a.c.Kernel.Link(name)
		switch {
		case err != nil:
			problems = append(problems, Problem{err.Error(), "configure it, or name another interface"})
		case !l.Up:
			problems = append(problems, Problem{fmt.Sprintf("interface %s is down", name), fmt.Sprintf("run `ip link set %s up`", name)})
		case !l.Carrier:
			problems = append(problems, Problem{fmt.Sprintf("interface %s has no carrier", name), "look at its cable or switch"})
		}
	}
	return problems
}

// checkARP looks at every interface: the VIP on lo is answered on any that the
// sysctls do not keep quiet.
func (a *Agent) checkARP() ([]Problem, error) {
	interfaces, err := a.sysctls.List("ipv4/conf")
	if err != nil {
		return nil, err
	}
	var problems []Problem
	for _, iface := range interfaces {
		if iface == "all" || iface == "default" || iface == "lo" {
			continue
		}
		for _, name := range []string{arpIgnore, arpAnnounce} {
			value, err := a.effective(iface, name)
			if err != nil {
				return nil, err
			}
			if !slices.Contains(accepted(name), value) {
				problems = append(problems, a.exposed(iface, name, value))
			}
		}
	}
	return problems, nil
}

func (a *Agent) exposed(iface, name, value string) Problem {
	remedy := "run `zklvs realserver up`"
	if iface != a.c.Interface && value != "0" {
		remedy = fmt.Sprintf("run `sysctl -w net/ipv4/conf/%s/%s=%s`", iface, name, accepted(name)[0])
	}
	return Problem{fmt.Sprintf("%s is %s in effect on %s: the network may learn the VIP from this host", name, value, iface), remedy}
}

// effective returns the value that the kernel uses: the larger of the
// interface's and of all's (IN_DEV_MAXCONF, include/linux/inetdevice.h).
func (a *Agent) effective(iface, name string) (string, error) {
	largest := 0
	for _, n := range []string{conf("all", name), conf(iface, name)} {
		value, err := a.readSysctl(n)
		if err != nil {
			return "", err
		}
		v, err := strconv.Atoi(value)
		if err != nil {
			return "", fmt.Errorf("read net/ipv4/%s: %w", n, err)
		}
		largest = max(largest, v)
	}
	return strconv.Itoa(largest), nil
}
