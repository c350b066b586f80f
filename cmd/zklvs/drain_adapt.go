package main

import (
	"context"
	"net/netip"
	"os"
	"strings"

	"github.com/zklvs/zklvs/internal/director"
	"github.com/zklvs/zklvs/internal/drain"
	"github.com/zklvs/zklvs/internal/zk"
	"github.com/zklvs/zklvs/ipvs"
)

// drains adapts the copy of operator/drained to what the director reads.
type drains struct {
	copy  *zk.Documents
	store *zk.Store
}

func (d drains) Entries() (map[string]drain.Stored, bool) {
	snap, ok := d.copy.Snapshot()
	if !ok {
		return nil, false
	}
	return storedDrains(zk.DrainedOf(snap)), true
}

func storedDrains(d zk.Drained) map[string]drain.Stored {
	out := make(map[string]drain.Stored, len(d.Entries))
	for name, e := range d.Entries {
		out[name] = drain.Stored{Data: e.Data, Version: e.Version}
	}
	return out
}

func (d drains) Changes() <-chan struct{} { return d.copy.Changes() }

func (d drains) Finish(ctx context.Context, name string, version int32, data []byte, group, lock string) error {
	return d.store.FinishDrained(ctx, name, version, data, group, lock)
}

const (
	// connectionList is the kernel's list of connections (ip_vs_conn.c).
	connectionList = "/proc/net/ip_vs_conn"
	quiescent      = "/proc/sys/net/ipv4/vs/expire_quiescent_template"
)

// views reads what the kernel counts, over a socket of its own.
type views struct{ *ipvs.Table }

func openViews() (director.Views, error) {
	t, err := ipvs.Open()
	if err != nil {
		return nil, err
	}
	return views{t}, nil
}

// Counts implements director.Views.
func (v views) Counts(services ...ipvs.Key) (map[ipvs.Key]map[netip.AddrPort]director.Counts, error) {
	stats, err := v.Stats(services...)
	out := map[ipvs.Key]map[netip.AddrPort]director.Counts{}
	for _, s := range stats {
		out[s.Key] = map[netip.AddrPort]director.Counts{}
		for _, d := range s.Destinations {
			out[s.Key][d.AddrPort] = director.Counts{Active: d.ActiveConn, Inactive: d.InactConn, Persistent: d.PersistConn}
		}
	}
	return out, err
}

// Established implements director.Views.
func (v views) Established(match func(director.Connection) bool) (n int, err error) {
	f, err := os.Open(connectionList)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	err = ipvs.EachConnection(f, func(c ipvs.Conn) bool {
		if carriesData(c) && match(director.Connection{Protocol: c.Protocol, Virtual: c.Virtual, Destination: c.Destination}) {
			n++
		}
		return true
	})
	return n, err
}

// carriesData tells by the kernel's word for its state (ip_vs_proto_tcp.c, _udp.c,
// _sctp.c) whether a connection is neither closing nor a template.
func carriesData(c ipvs.Conn) bool {
	switch c.State {
	case "ESTABLISHED", "SYN_RECV", "UDP":
		return true
	}
	return false
}

// TemplatesExpire implements director.Views.
func (v views) TemplatesExpire() bool {
	data, err := os.ReadFile(quiescent)
	return err == nil && strings.TrimSpace(string(data)) == "1"
}
