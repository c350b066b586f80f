package spec

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"pgregory.net/rapid"
)

func millis(lo, hi int) *rapid.Generator[time.Duration] {
	return rapid.Custom(func(t *rapid.T) time.Duration {
		return time.Duration(rapid.IntRange(lo, hi).Draw(t, "ms")) * time.Millisecond
	})
}

func secs(hi int) *rapid.Generator[time.Duration] {
	return rapid.Custom(func(t *rapid.T) time.Duration {
		return time.Duration(rapid.IntRange(0, hi).Draw(t, "s")) * time.Second
	})
}

func ipv4() *rapid.Generator[netip.Addr] {
	return rapid.Custom(func(t *rapid.T) netip.Addr {
		b := rapid.Byte()
		return netip.AddrFrom4([4]byte{byte(rapid.IntRange(1, 126).Draw(t, "a")), b.Draw(t, "b"), b.Draw(t, "c"), b.Draw(t, "d")})
	})
}

// ipv6 draws global and unique local addresses, many of them with runs of zeros.
func ipv6() *rapid.Generator[netip.Addr] {
	return rapid.Custom(func(t *rapid.T) netip.Addr {
		a := [16]byte{0: rapid.SampledFrom([]byte{0x20, 0x26, 0x3f, 0xfc, 0xfd}).Draw(t, "first")}
		for i := 1; i < len(a); i++ {
			a[i] = rapid.OneOf(rapid.Just(byte(0)), rapid.Byte()).Draw(t, "byte")
		}
		return netip.AddrFrom16(a)
	})
}

var (
	names   = rapid.StringMatching(`[a-z0-9][a-z0-9.-]{0,10}`)
	ifaces  = rapid.StringMatching(`[!-.0-9;-~]{3,7}`)
	counts1 = rapid.IntRange(1, 100)
)

func clusters() *rapid.Generator[Cluster] {
	return rapid.Custom(func(t *rapid.T) Cluster {
		lease := millis(1000, 10_000).Draw(t, "lease")
		c := Cluster{
			Lease:             lease,
			Drift:             float64(rapid.IntRange(0, 50_000).Draw(t, "drift")) / 100_000,
			GARPRefresh:       millis(1000, 3_600_000).Draw(t, "garp"),
			OnZooKeeperLoss:   rapid.SampledFrom([]LossPolicy{Automatic, Hold, Fence}).Draw(t, "loss"),
			IPVSCheckInterval: millis(100, 3_600_000).Draw(t, "ipvs"),
			IPVS:              ipvss().Draw(t, "kernel"),
		}
		if rapid.Bool().Draw(t, "renewed") {
			c.Renew = millis(10, int(lease.Milliseconds()-1)/3).Draw(t, "renew")
		}
		return c
	})
}

func groups() *rapid.Generator[Group] {
	return rapid.Custom(func(t *rapid.T) Group {
		g := Group{
			Preempt:      rapid.Bool().Draw(t, "preempt"),
			WarmStandby:  rapid.Bool().Draw(t, "warm"),
			PreemptDelay: millis(0, 10_000).Draw(t, "delay"),
			Fitness:      Fitness{Backoff: millis(0, 100_000).Draw(t, "backoff")},
		}
		for _, a := range rapid.SliceOfNDistinct(rapid.OneOf(ipv4(), ipv6()), 1, 4, rapid.ID).Draw(t, "vips") {
			v := VIP{Address: a}
			if rapid.Bool().Draw(t, "elsewhere") {
				v.Interface = ifaces.Draw(t, "own")
				v.Label = rapid.SampledFrom([]string{"", v.Interface + ":1"}).Draw(t, "own label")
			}
			g.VIPs = append(g.VIPs, v)
		}
		if rapid.Bool().Draw(t, "interfaced") {
			g.Interface = ifaces.Draw(t, "interface")
			g.Label = g.Interface + ":" + ifaces.Draw(t, "label")
		}
		if p := rapid.MapOfN(names, rapid.IntRange(1, 254), 0, 3).Draw(t, "priority"); len(p) > 0 {
			g.Priority = p
		}
		if l := rapid.SliceOfN(ifaces, 0, 3).Draw(t, "tracked"); len(l) > 0 {
			g.Fitness.TrackInterfaces = l
		}
		if rapid.Bool().Draw(t, "gateway") {
			g.Fitness.Gateway = &Gateway{ipv4().Draw(t, "addr"), millis(100, 9000).Draw(t, "i"), millis(10, 9000).Draw(t, "t"), counts1.Draw(t, "f"), counts1.Draw(t, "r")}
		}
		if rapid.Bool().Draw(t, "script") {
			g.Fitness.Script = &Script{rapid.StringMatching(`[a-z0-9_-][a-z0-9_.-]{0,9}`).Draw(t, "exec"), millis(100, 9000).Draw(t, "i"), millis(10, 9000).Draw(t, "t"), counts1.Draw(t, "f"), counts1.Draw(t, "r")}
		}
		return g
	})
}

// ipvss draws sysctls of each kind of value.
func ipvss() *rapid.Generator[IPVS] {
	return rapid.Custom(func(t *rapid.T) IPVS {
		const most = 24 * 24 * 3600
		i := IPVS{
			Timeouts: Timeouts{secs(most).Draw(t, "tcp"), secs(most).Draw(t, "fin"), secs(most).Draw(t, "udp")},
			Sync: Sync{
				Enabled: rapid.Bool().Draw(t, "enabled"), ID: rapid.IntRange(0, 255).Draw(t, "id"),
				Interface: rapid.OneOf(rapid.Just(""), ifaces).Draw(t, "interface"), MaxLen: rapid.IntRange(0, 65507).Draw(t, "maxlen"),
				Group: netip.MustParseAddr(rapid.SampledFrom([]string{"224.0.0.81", "239.1.2.3", "ff02::81", "ff05::1:3"}).Draw(t, "group")),
				Port:  rapid.IntRange(1, 65535).Draw(t, "port"), TTL: rapid.IntRange(1, 255).Draw(t, "ttl"), Settle: millis(0, 3_600_000).Draw(t, "settle"),
			},
		}
		values := map[string][]string{"sync_threshold": {"0 0", "3 50", Keep}, "sync_ports": {"1", "64"}, "est_nice": {"-20", "19"},
			"est_cpulist": {"0-3,8", "7", "all"}, "conntrack": {"0", "1", Keep}, "sync_qlen_max": {"2147483647"}}
		for _, name := range rapid.SliceOfDistinct(rapid.SampledFrom(slices.Sorted(maps.Keys(values))), rapid.ID).Draw(t, "sysctls") {
			if i.Sysctls == nil {
				i.Sysctls = map[string]string{}
			}
			i.Sysctls[name] = rapid.SampledFrom(values[name]).Draw(t, name)
		}
		return i
	})
}

// services draws services that fit the rules, of one family each unless with tun.
func services() *rapid.Generator[Service] {
	return rapid.Custom(func(t *rapid.T) Service {
		s := Service{
			Group:     names.Draw(t, "group"),
			Scheduler: rapid.SampledFrom(Schedulers()).Draw(t, "scheduler"),
			Forward:   rapid.SampledFrom(forwards()).Draw(t, "forward"),
			Stateful:  rapid.Bool().Draw(t, "stateful"),
			OnFailure: rapid.SampledFrom([]OnFailure{Remove, WeightZero}).Draw(t, "on_failure"),
		}
		s.SchedulerFlags = defaultFlags(s.Scheduler)
		if words := schedulerFlags(s.Scheduler); words != nil && rapid.Bool().Draw(t, "flagged") {
			s.SchedulerFlags = rapid.SampledFrom([][]string{words, words[:2], {words[0], words[2]}}).Draw(t, "flags")
		}
		if s.Forward == Tun && rapid.Bool().Draw(t, "tunneled") {
			s.Tunnel = tunnels().Draw(t, "tunnel")
		}
		ips := rapid.SampledFrom([]*rapid.Generator[netip.Addr]{ipv4(), ipv6()}).Draw(t, "family")
		drawListens(t, &s, ips)
		if rapid.Bool().Draw(t, "checked") {
			s.Check = checks().Draw(t, "check")
			s.Check.Port = max(1, s.Check.Port)
		}
		for _, a := range rapid.SliceOfNDistinct(ips, 0, 4, rapid.ID).Draw(t, "servers") {
			s.RealServers = append(s.RealServers, drawServer(t, s, a))
		}
		return s
	})
}

// drawListens gives s distinct entries to listen on, and the persistence that
// goes with them.
func drawListens(t *rapid.T, s *Service, ips *rapid.Generator[netip.Addr]) {
	udp := true
	for _, a := range rapid.SliceOfNDistinct(ips, 1, 3, rapid.ID).Draw(t, "vips") {
		l := Listen{Address: a, Port: rapid.Uint16().Draw(t, "port"), Protocol: rapid.SampledFrom([]Protocol{TCP, UDP, SCTP}).Draw(t, "protocol")}
		switch {
		case rapid.IntRange(0, 5).Draw(t, "kind") == 0 && len(s.Listen) == 0:
			l = Listen{Mark: rapid.Uint32Range(1, 1<<32-1).Draw(t, "mark"), IPv6: a.Is6()}
		case l.Port > 0 && l.Port < 65000 && rapid.Bool().Draw(t, "ranged"):
			l.PortHigh = l.Port + rapid.Uint16Range(1, 500).Draw(t, "more")
		}
		udp = udp && l.Protocol == UDP
		s.Listen = append(s.Listen, l)
	}
	all := slices.ContainsFunc(s.Listen, func(l Listen) bool { return l.AnyPort() && l.Mark == 0 })
	if !all && rapid.Bool().Draw(t, "fleeting") {
		s.OnePacket = udp && s.Forward != NAT && rapid.Bool().Draw(t, "one packet")
		return
	}
	s.Persistence = time.Second + secs(31*24*3600-1).Draw(t, "persistence")
	s.PersistencePrefix = rapid.IntRange(0, 32).Draw(t, "prefix")
	if udp && rapid.Bool().Draw(t, "sip") {
		s.PersistenceEngine = "sip"
	}
}

func drawServer(t *rapid.T, s Service, a netip.Addr) RealServer {
	rs := RealServer{Address: netip.AddrPortFrom(a, 0), Weight: rapid.IntRange(0, 65535).Draw(t, "weight")}
	if !s.OnePacket && rapid.Bool().Draw(t, "other") {
		rs.Forward = rapid.SampledFrom(forwards()).Draw(t, "method")
	}
	if s.ForwardOf(rs) == Tun && rapid.Bool().Draw(t, "own tunnel") {
		rs.Tunnel = tunnels().Draw(t, "tunnel")
	}
	one := len(s.Listen) == 1 && s.Listen[0].Count() == 1
	switch {
	case s.ForwardOf(rs) == NAT:
		rs.Address = netip.AddrPortFrom(a, rapid.Uint16().Draw(t, "rport"))
	case one && rapid.Bool().Draw(t, "ported"):
		rs.Address = netip.AddrPortFrom(a, s.Listen[0].Port)
	}
	if rapid.Bool().Draw(t, "limited") {
		rs.UpperThreshold = rapid.IntRange(1, 1<<31-1).Draw(t, "upper")
		rs.LowerThreshold = rapid.IntRange(0, rs.UpperThreshold).Draw(t, "lower")
	}
	return rs
}

func tunnels() *rapid.Generator[*Tunnel] {
	return rapid.Custom(func(t *rapid.T) *Tunnel {
		switch rapid.SampledFrom([]TunnelType{IPIP, GUE, GRE}).Draw(t, "type") {
		case GUE:
			sums := []Checksum{ChecksumNone, ChecksumFull, ChecksumRemote}
			return &Tunnel{GUE, rapid.IntRange(1, 65535).Draw(t, "port"), rapid.SampledFrom(sums).Draw(t, "sum")}
		case GRE:
			return &Tunnel{GRE, 0, rapid.SampledFrom([]Checksum{ChecksumNone, ChecksumFull}).Draw(t, "sum")}
		}
		return &Tunnel{IPIP, 0, ChecksumNone}
	})
}

func checks() *rapid.Generator[*Check] {
	return rapid.Custom(func(t *rapid.T) *Check {
		c := &Check{
			Port:       rapid.IntRange(0, 65535).Draw(t, "port"),
			Interval:   millis(100, 100_000).Draw(t, "interval"),
			Timeout:    millis(10, 10_000).Draw(t, "timeout"),
			Retries:    rapid.IntRange(0, 100).Draw(t, "retries"),
			RetryDelay: millis(0, 10_000).Draw(t, "delay"),
			Rise:       counts1.Draw(t, "rise"),
			Fall:       counts1.Draw(t, "fall"),
		}
		if rapid.Bool().Draw(t, "tcp") {
			c.TCP = &TCPCheck{}
			return c
		}
		c.HTTP = &HTTPCheck{Path: "/" + rapid.StringMatching(`[!-~]{0,20}`).Draw(t, "path")}
		if rapid.Bool().Draw(t, "hosted") {
			c.HTTP.Host = rapid.StringMatching(`[a-zA-Z0-9._-]{1,10}`).Draw(t, "host")
		}
		for range rapid.IntRange(1, 3).Draw(t, "ranges") {
			low := rapid.IntRange(100, 599).Draw(t, "low")
			c.HTTP.Status = append(c.HTTP.Status, StatusRange{low, rapid.IntRange(low, 599).Draw(t, "high")})
		}
		return c
	})
}
