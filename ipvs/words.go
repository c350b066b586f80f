package ipvs

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// This file holds ipvsadm's words for the model, as ipvsadm 1.31 prints them
// with -S -n, in its order (ipvsadm.c, print_service_entry).

// Flag is ipvsadm's option for a service of this protocol.
func (p Protocol) Flag() string {
	switch p {
	case TCP:
		return "-t"
	case UDP:
		return "-u"
	case SCTP:
		return "--sctp-service"
	}
	return "-?"
}

// Flag is ipvsadm's option for a destination with this method.
func (f Forward) Flag() string {
	switch f {
	case DR, Local:
		return "-g"
	case TUN:
		return "-i"
	case NAT:
		return "-m"
	}
	return "-?"
}

// Args is the key as options of ipvsadm: "-t 10.0.0.1:80", "-f 5 -6".
func (k Key) Args() string {
	switch {
	case k.Mark != 0 && k.IPv6:
		return fmt.Sprintf("-f %d -6", k.Mark)
	case k.Mark != 0:
		return fmt.Sprintf("-f %d", k.Mark)
	}
	return k.Protocol.Flag() + " " + k.addrPort()
}

// Words are the flags in ipvsadm's words for a scheduler: sh-port, flag-3.
func (f SchedulerFlags) Words(scheduler string) []string {
	names := []string{"flag-1", "flag-2", "flag-3"}
	if scheduler == "sh" || scheduler == "mh" {
		names[0], names[1] = scheduler+"-fallback", scheduler+"-port"
	}
	var out []string
	for i, name := range names {
		if f&(1<<i) != 0 {
			out = append(out, name)
		}
	}
	return out
}

// options are the service's settings: "-s rr -p 300".
func (s Service) options() string {
	words := []string{"-s", s.Scheduler}
	if s.Persistence > 0 {
		words = append(words, "-p", fmt.Sprint(int(s.Persistence/time.Second)))
	}
	// ipvsadm does not print the mask of a whole address, nor any without -p.
	if bits := s.PersistencePrefix; s.Persistence > 0 && bits > 0 && bits != wholeAddress(s.Is6()) {
		words = append(words, "-M", maskWord(s.Is6(), bits))
	}
	if s.Engine != "" {
		words = append(words, "--pe", s.Engine)
	}
	if s.OnePacket {
		words = append(words, "-o")
	}
	if flags := s.SchedulerFlags.Words(s.Scheduler); flags != nil {
		words = append(words, "-b", strings.Join(flags, ","))
	}
	return withExtras(words, s.Extras)
}

func wholeAddress(is6 bool) int {
	if is6 {
		return 128
	}
	return 32
}

// maskWord is a prefix as ipvsadm writes it: 255.255.255.0, or 64 for IPv6.
func maskWord(is6 bool, bits int) string {
	if is6 {
		return fmt.Sprint(bits)
	}
	all := netip.AddrFrom4([4]byte{255, 255, 255, 255})
	p, err := all.Prefix(bits)
	if err != nil { // Validate has refused it
		return fmt.Sprint(bits)
	}
	return p.Addr().String()
}

// options are the destination's settings: "-g -w 1". ipvsadm 1.31 reads
// thresholds and does not print them with -S; they stand last here.
func (d Destination) options() string {
	words := []string{d.Forward.Flag(), "-w", fmt.Sprint(d.Weight)}
	if d.Forward == TUN {
		words = append(words, d.Tunnel.words()...)
	}
	if d.Upper > 0 {
		words = append(words, "-x", fmt.Sprint(d.Upper))
	}
	if d.Lower > 0 {
		words = append(words, "-y", fmt.Sprint(d.Lower))
	}
	return withExtras(words, d.Extras)
}

// words of IP in IP have no checksum.
func (t Tunnel) words() []string {
	var words []string
	switch t.Type {
	case IPIP:
		return []string{"--tun-type", "ipip"}
	case GUE:
		words = []string{"--tun-type", "gue", "--tun-port", fmt.Sprint(t.Port)}
	case GRE:
		words = []string{"--tun-type", "gre"}
	}
	switch t.Checksum {
	case NoChecksum:
		return append(words, "--tun-nocsum")
	case Checksum:
		return append(words, "--tun-csum")
	case RemoteChecksum:
		return append(words, "--tun-remcsum")
	}
	return words
}

func withExtras(words []string, extras string) string {
	if extras != "" {
		words = append(words, extras)
	}
	return strings.Join(words, " ")
}
