package realserver

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// The two sysctls (Documentation/networking/ip-sysctl.rst) and the values of
// them that hide a VIP on lo. The kernel uses the larger of conf/all and
// conf/INTERFACE, so both must hide: a larger value between 3 and 7 would undo it.
const (
	arpIgnore   = "arp_ignore"   // 1: reply only for addresses of the interface asked; 2: and only to its subnet; 8: never
	arpAnnounce = "arp_announce" // 2: never use the VIP as the sender of an ARP request
)

// accepted lists the values that do, the one that is written first.
func accepted(name string) []string {
	if strings.HasSuffix(name, arpIgnore) {
		return []string{"1", "2", "8"}
	}
	return []string{"2"}
}

// sysctlNames returns what Up sets, in order: `all` covers the host at once.
func sysctlNames(iface string) []string {
	return []string{
		conf("all", arpIgnore), conf("all", arpAnnounce),
		conf(iface, arpIgnore), conf(iface, arpAnnounce),
	}
}

// conf names a sysctl as the state file does, below net/ipv4.
func conf(iface, name string) string { return "conf/" + iface + "/" + name }

// below4 is that name as package sysctl wants it.
func below4(name string) string { return "ipv4/" + name }

func (a *Agent) readSysctl(name string) (string, error) { return a.sysctls.Read(below4(name)) }

// ensure sets a value that hides the VIP unless one is there.
func (a *Agent) ensure(name string) (changed bool, err error) {
	now, err := a.readSysctl(name)
	if err != nil {
		return false, err
	}
	want := accepted(name)
	if slices.Contains(want, now) {
		return false, nil
	}
	return true, a.sysctls.Write(below4(name), want[0])
}

// explain adds the remedy to an error about the state file.
func explain(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: run as root", err)
	}
	return err
}
