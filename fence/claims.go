package fence

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
)

// claims says which group may have which address bound, and keeps the state
// file in step: a claim is in the file before it is granted.
type claims struct {
	path string

	mu    sync.Mutex
	owner map[netip.Addr]claim
	left  []VIP // from an earlier life, not yet swept
}

type claim struct {
	group string
	vip   VIP
}

func newClaims(path string) (*claims, error) {
	left, err := loadState(path)
	if err != nil {
		return nil, err
	}
	return &claims{path: path, owner: map[netip.Addr]claim{}, left: left}, nil
}

// take claims addresses for a group, all or none. It is ErrTaken if another
// group has one.
func (c *claims) take(group string, vips []VIP) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	fresh := false
	for _, v := range vips {
		now, ok := c.owner[v.Address]
		if ok && now.group != group {
			return fmt.Errorf("VIP %v: %w (%s)", v.Address, ErrTaken, now.group)
		}
		fresh = fresh || now.vip != v
	}
	if !fresh {
		return nil
	}
	for _, v := range vips {
		c.owner[v.Address] = claim{group: group, vip: v}
	}
	return c.save()
}

// keep gives up the group's claims but those of vips.
func (c *claims) keep(group string, vips []VIP) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	changed := false
	for address, cl := range c.owner {
		if cl.group == group && !slices.ContainsFunc(vips, func(v VIP) bool { return v.Address == address }) {
			delete(c.owner, address)
			changed = true
		}
	}
	if !changed {
		return nil
	}
	return c.save()
}

// owned reports whether some group has claimed an address.
func (c *claims) owned(address netip.Addr) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.owner[address]
	return ok
}

// leftovers returns what an earlier life may have left.
func (c *claims) leftovers() []VIP {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.left)
}

// forget drops leftovers that were swept.
func (c *claims) forget(swept []VIP) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(swept) == 0 {
		return nil
	}
	c.left = without(c.left, swept)
	return c.save()
}

// save writes everything that may be bound. The caller holds c.mu.
func (c *claims) save() error {
	all := slices.Clone(c.left)
	for _, cl := range c.owner {
		if !slices.Contains(all, cl.vip) {
			all = append(all, cl.vip)
		}
	}
	slices.SortFunc(all, func(a, b VIP) int {
		if d := a.Address.Compare(b.Address); d != 0 {
			return d
		}
		return strings.Compare(a.Interface+"/"+a.Label, b.Interface+"/"+b.Label)
	})
	return saveState(c.path, all)
}

// union returns vips and those of more whose addresses it lacks.
func union(vips, more []VIP) []VIP { return append(slices.Clone(vips), without(more, vips)...) }

// without returns the VIPs of all whose addresses are not among drop's.
func without(all, drop []VIP) []VIP {
	return filter(all, func(v VIP) bool {
		return !slices.ContainsFunc(drop, func(d VIP) bool { return d.Address == v.Address })
	})
}

func filter[T any](all []T, keep func(T) bool) []T {
	var out []T
	for _, v := range all {
		if keep(v) {
			out = append(out, v)
		}
	}
	return out
}
