package ipvshost

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/zklvs/zklvs/internal/sysctl"
	"github.com/zklvs/zklvs/ipvs"
)

const (
	vs       = "ipv4/vs/"
	forward4 = "ipv4/ip_forward"
	forward6 = "ipv6/conf/all/forwarding"
)

// setting is one value to be set, by its name below net.
type setting struct{ name, value string }

// sysctls returns all that is to be set, always in the same order.
func (d Desired) sysctls() []setting {
	var out []setting
	for _, name := range slices.Sorted(maps.Keys(d.Sysctls)) {
		out = append(out, setting{vs + name, strings.Join(strings.Fields(d.Sysctls[name]), " ")})
	}
	if d.Forward4 {
		out = append(out, setting{forward4, "1"})
	}
	if d.Forward6 {
		out = append(out, setting{forward6, "1"})
	}
	return out
}

// applySysctls notes what is there, and sets what differs; then it puts back what
// is no longer wanted.
func (h *Host) applySysctls(all []setting) error {
	next := h.found.clone()
	var differ []setting
	var failed error
	for _, s := range all {
		now, err := h.sysctls.Read(s.name)
		if err != nil {
			failed = errors.Join(failed, missing(s.name, err))
			continue
		}
		if now == s.value {
			h.note(s.name, true)
			continue
		}
		if h.note(s.name, true) {
			h.log.Warn("another program changed a sysctl: setting it again", zap.String("sysctl", sysctl.Dotted(s.name)), zap.String("found", now), zap.String("set", s.value))
		}
		differ = append(differ, s)
		if !next.hasSysctl(s.name) {
			next.Sysctls = append(next.Sysctls, savedSysctl{Name: s.name, Found: now, Also: h.besides(s.name)})
		}
	}
	if err := h.save(next); err != nil {
		return errors.Join(failed, err) // without the file nothing is changed
	}
	for _, s := range differ {
		if err := h.sysctls.Write(s.name, s.value); err != nil {
			h.note(s.name, false)
			failed = errors.Join(failed, err)
		}
	}
	return errors.Join(failed, h.restoreSysctls(all))
}

// restoreSysctls puts back what is not in wanted.
func (h *Host) restoreSysctls(wanted []setting) error {
	next := h.found.clone()
	next.Sysctls = nil
	var failed error
	for _, saved := range slices.Backward(h.found.Sysctls) {
		if !slices.ContainsFunc(wanted, func(s setting) bool { return s.name == saved.Name }) {
			err := h.restoreSysctl(saved)
			if err == nil {
				continue
			}
			failed = errors.Join(failed, err)
		}
		next.Sysctls = append(next.Sysctls, saved)
	}
	slices.Reverse(next.Sysctls)
	return errors.Join(failed, h.save(next))
}

func (h *Host) restoreSysctl(saved savedSysctl) error {
	err := h.sysctls.Restore(saved.Name, saved.Found)
	for _, also := range saved.Also {
		err = errors.Join(err, h.sysctls.Restore(also.Name, also.Found))
	}
	return err
}

// besides returns what the kernel overwrites when forwarding is switched on and
// off again, where that would not leave what is there now: forwarding of each
// interface becomes 0, and, for IPv4, conf/all/accept_redirects 1
// (inet_forward_change in net/ipv4/devinet.c, addrconf_fixup_forwarding in
// net/ipv6/addrconf.c).
func (h *Host) besides(name string) []savedSysctl {
	var out []savedSysctl
	add := func(name, becomes string) {
		now, err := h.sysctls.Read(name)
		if err == nil && now != becomes { // one that cannot be read is gone
			out = append(out, savedSysctl{Name: name, Found: now})
		}
	}
	var conf string
	switch name {
	case forward4:
		conf = "ipv4/conf"
		add(conf+"/all/accept_redirects", "1")
	case forward6:
		conf = "ipv6/conf"
	default:
		return nil
	}
	interfaces, err := h.sysctls.List(conf)
	if err != nil {
		return out
	}
	for _, i := range interfaces {
		if i != "all" {
			add(path.Join(conf, i, "forwarding"), "0")
		}
	}
	return out
}

// missing explains why a setting cannot be read.
func missing(name string, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if name == forward6 {
		return errors.New("net.ipv6.conf.all.forwarding does not exist: IPv6 is disabled on this host, and a service with forward nat needs it")
	}
	return fmt.Errorf("%s does not exist in this kernel, Linux %s: set it to \"keep\" in the cluster's document, or use a newer kernel", sysctl.Dotted(name), release())
}

func release() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}

// applyTimeouts sets the timeouts that are wanted, and puts back the others.
func (h *Host) applyTimeouts(want ipvs.Timeouts) error {
	if h.table == nil {
		return nil
	}
	now, err := h.table.Timeouts()
	if err != nil {
		return fmt.Errorf("read the timeouts of IPVS: %w", err)
	}
	before := now
	if h.found.Timeouts != nil {
		before = h.found.Timeouts.timeouts()
	}
	target := or(want, before)
	if now != target {
		if h.note("timeouts", true) {
			h.log.Warn("another program changed the timeouts of IPVS: setting them again", zap.Any("found", now), zap.Any("set", target))
		}
		next := h.found.clone()
		next.Timeouts = saveTimeouts(before)
		if err := h.save(next); err != nil {
			return err
		}
		if err := h.table.SetTimeouts(target); err != nil {
			h.note("timeouts", false)
			return fmt.Errorf("set the timeouts of IPVS: %w", err)
		}
	}
	h.note("timeouts", true)
	if want == (ipvs.Timeouts{}) {
		next := h.found.clone()
		next.Timeouts = nil
		return h.save(next)
	}
	return nil
}

// or returns the timeouts of t, those of other for what is 0 in it.
func or(t, other ipvs.Timeouts) ipvs.Timeouts {
	if t.TCP == 0 {
		t.TCP = other.TCP
	}
	if t.TCPFin == 0 {
		t.TCPFin = other.TCPFin
	}
	if t.UDP == 0 {
		t.UDP = other.UDP
	}
	return t
}
