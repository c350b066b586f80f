package realserver

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"regexp"
	"slices"

	"github.com/zklvs/zklvs/fence"
	"github.com/zklvs/zklvs/internal/statefile"
)

const stateFormat = 1

// state is what was there before: enough to undo Up, and nothing else.
type state struct {
	Format int `json:"format"`
	// Boot is the boot's id: after another boot nothing of it is true.
	Boot      string         `json:"boot_id"`
	Sysctls   []savedSysctl  `json:"sysctls"`
	Addresses []savedAddress `json:"addresses"`
}

// savedSysctl is a value below net/ipv4 as found.
type savedSysctl struct {
	Name  string `json:"name"`
	Found string `json:"found"`
}

// savedAddress is a VIP on lo; Found says that it was there before.
type savedAddress struct {
	Address netip.Addr `json:"address"`
	Label   string     `json:"label,omitempty"`
	Found   bool       `json:"found"`
}

func (s state) empty() bool { return len(s.Sysctls) == 0 && len(s.Addresses) == 0 }

func (s state) sysctl(name string) (savedSysctl, bool) {
	i := slices.IndexFunc(s.Sysctls, func(o savedSysctl) bool { return o.Name == name })
	if i < 0 {
		return savedSysctl{}, false
	}
	return s.Sysctls[i], true
}

func (s state) address(vip netip.Addr) (savedAddress, bool) {
	i := slices.IndexFunc(s.Addresses, func(o savedAddress) bool { return o.Address == vip })
	if i < 0 {
		return savedAddress{}, false
	}
	return s.Addresses[i], true
}

// minus returns what s has and o lacks.
func (s state) minus(o state) state {
	s.Sysctls = slices.DeleteFunc(slices.Clone(s.Sysctls), func(v savedSysctl) bool { _, ok := o.sysctl(v.Name); return ok })
	s.Addresses = slices.DeleteFunc(slices.Clone(s.Addresses), func(v savedAddress) bool { _, ok := o.address(v.Address); return ok })
	return s
}

// union returns what s or o has, in o's order first.
func (s state) union(o state) state {
	rest := s.minus(o)
	o.Sysctls = append(slices.Clone(o.Sysctls), rest.Sysctls...)
	o.Addresses = append(slices.Clone(o.Addresses), rest.Addresses...)
	return o
}

// load reads the state of this boot; none means that nothing is up.
func (a *Agent) load() (state, error) {
	data, err := statefile.Read(a.c.StatePath)
	if errors.Is(err, fs.ErrNotExist) {
		return state{}, nil
	}
	if err != nil {
		return state{}, fmt.Errorf("read what was there before: %w", explain(err))
	}
	s, err := parseState(data)
	if err != nil {
		return state{}, fmt.Errorf("what was there before, in %s, is not understood: %w; restore by hand what `sysctl -a` and `ip address show lo` show, then remove the file", a.c.StatePath, err)
	}
	if s.Boot != a.boot {
		return state{}, nil
	}
	return s, nil
}

// What is written to and removed from the system comes from here: nothing but
// the two sysctls of an interface, and numbers.
var (
	sysctlName  = regexp.MustCompile(`^conf/([^/\s[:cntrl:]]{1,15})/(arp_ignore|arp_announce)$`)
	sysctlValue = regexp.MustCompile(`^[0-9]{1,3}$`)
)

// parseState reads and checks a state file's content.
func parseState(data []byte) (state, error) {
	var s state
	if err := statefile.Decode(data, &s); err != nil {
		return state{}, err
	}
	if s.Format != stateFormat {
		return state{}, fmt.Errorf("format %d: expected %d", s.Format, stateFormat)
	}
	for _, v := range s.Sysctls {
		m := sysctlName.FindStringSubmatch(v.Name)
		if len(m) == 0 || m[1] == "." || m[1] == ".." || !sysctlValue.MatchString(v.Found) {
			return state{}, fmt.Errorf("sysctl %.60q with value %.20q", v.Name, v.Found)
		}
	}
	for _, v := range s.Addresses {
		if !v.Address.Is4() {
			return state{}, fmt.Errorf("address %v: expected an IPv4 address", v.Address)
		}
		// Any interface's name will do: it is the address and the label that are checked.
		if err := (fence.VIP{Address: v.Address, Interface: "eth0", Label: v.Label}).Validate(); err != nil {
			return state{}, err
		}
	}
	return s, nil
}

// save replaces the state file in one step; nothing to undo removes it.
func (a *Agent) save(s state) error {
	if err := a.write(s); err != nil {
		return fmt.Errorf("write what was there before: %w", explain(err))
	}
	return nil
}

func (a *Agent) write(s state) error {
	if s.empty() {
		return statefile.Remove(a.c.StatePath)
	}
	return statefile.Write(a.c.StatePath, s)
}
