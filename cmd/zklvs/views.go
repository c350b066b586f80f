package main

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/zklvs/zklvs/internal/control"
	"github.com/zklvs/zklvs/ipvs"
)

// The views of the admin socket: what a director tells of its kernel's table.
const (
	statsView       = "ipvs/stats"
	connectionsView = "ipvs/connections"
	timeoutsView    = "ipvs/timeouts"
)

// tableService is one service of the kernel's table, ours or not.
type tableService struct {
	// Service and Group are of our documents, "" for a service that is not ours.
	Service   string `json:"service,omitempty"`
	Protocol  string `json:"protocol"` // TCP, UDP, SCTP or FWM
	Listen    string `json:"listen"`   // address and port, or the mark
	Scheduler string `json:"scheduler"`
	counted
	RealServers []tableServer `json:"real_servers"`
}

// tableServer is a destination in the kernel's table.
type tableServer struct {
	Address    string `json:"address"`
	Forward    string `json:"forward"`
	Weight     int    `json:"weight"`
	Active     int    `json:"active"`
	Inactive   int    `json:"inactive"`
	Persistent int    `json:"persistent"`
	counted
}

// counted are totals and rates.
type counted struct {
	Total totals `json:"total"`
	Rate  totals `json:"rate"` // a second
}

type totals struct {
	Connections uint64 `json:"connections"`
	InPackets   uint64 `json:"in_packets"`
	OutPackets  uint64 `json:"out_packets"`
	InBytes     uint64 `json:"in_bytes"`
	OutBytes    uint64 `json:"out_bytes"`
}

func countedOf(c ipvs.Counters) counted {
	return counted{
		totals{c.Connections, c.InPackets, c.OutPackets, c.InBytes, c.OutBytes},
		totals{c.ConnectionRate, c.InPacketRate, c.OutPacketRate, c.InByteRate, c.OutByteRate},
	}
}

// tableEnd ends a view of the table.
type tableEnd struct {
	Node string `json:"node"`
}

// tableTimeouts are for how long the kernel remembers an idle connection, in
// seconds.
type tableTimeouts struct {
	Node   string `json:"node"`
	TCP    int    `json:"tcp_seconds"`
	TCPFin int    `json:"tcp_fin_seconds"`
	UDP    int    `json:"udp_seconds"`
}

// tableConnection is an entry of the kernel's list of connections.
type tableConnection struct {
	Protocol string `json:"protocol"`
	Expires  int    `json:"expires_seconds"`
	State    string `json:"state"`
	Client   string `json:"client"`
	Virtual  string `json:"virtual"`
	Server   string `json:"real_server"`
}

// connectionsEnd tells whether that were all.
type connectionsEnd struct {
	Node   string `json:"node"`
	Sample bool   `json:"sample"` // there are more
}

// views are what this director can be asked beside its status.
func (p *parts) views() map[string]control.View {
	return map[string]control.View{statsView: p.viewStats, connectionsView: p.viewConnections, timeoutsView: p.viewTimeouts}
}

func (p *parts) viewStats(_ context.Context, _ url.Values, item func(any) error) (any, error) {
	stats, err := p.traffic.Stats()
	if err != nil {
		return nil, err
	}
	names := p.director.ServiceOf()
	for _, s := range stats {
		if err := item(serviceOf(s, names[s.Key])); err != nil {
			return nil, err
		}
	}
	return tableEnd{p.local.Node}, nil
}

func serviceOf(s ipvs.ServiceStats, name string) tableService {
	protocol, listen, _ := strings.Cut(s.Key.String(), " ")
	out := tableService{Service: name, Protocol: protocol, Listen: listen, Scheduler: s.Scheduler, counted: countedOf(s.Counters), RealServers: []tableServer{}}
	for _, d := range s.Destinations {
		out.RealServers = append(out.RealServers, tableServer{
			Address: d.AddrPort.String(), Forward: d.Forward.String(), Weight: d.Weight,
			Active: d.ActiveConn, Inactive: d.InactConn, Persistent: d.PersistConn, counted: countedOf(d.Counters),
		})
	}
	return out
}

// viewConnections lists limit=N entries, all=true of them, or a sample.
func (p *parts) viewConnections(_ context.Context, query url.Values, item func(any) error) (any, error) {
	size, limit := sampleSize, 0
	if text := query.Get("limit"); text != "" {
		var err error
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 {
			return nil, fmt.Errorf("limit %q: expected a number from 1 on", text)
		}
		size = 0
	}
	if query.Get("all") == "true" {
		size = 0
	}
	whole, err := p.traffic.list(size, limit, func(c ipvs.Conn) error {
		return item(tableConnection{Protocol: connectionProtocol(c.Protocol), Expires: int(c.Expires / time.Second), State: c.State,
			Client: c.Client.String(), Virtual: c.Virtual.String(), Server: c.Destination.String()})
	})
	return connectionsEnd{p.local.Node, !whole}, err
}

// connectionProtocol is the kernel's word for a persistence template of a mark
// where there is no protocol.
func connectionProtocol(p ipvs.Protocol) string {
	if p == 0 {
		return "IP"
	}
	return p.String()
}

func (p *parts) viewTimeouts(context.Context, url.Values, func(any) error) (any, error) {
	t, err := p.traffic.Timeouts()
	seconds := func(d time.Duration) int { return int(d / time.Second) }
	return tableTimeouts{p.local.Node, seconds(t.TCP), seconds(t.TCPFin), seconds(t.UDP)}, err
}
